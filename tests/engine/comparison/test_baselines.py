"""Models without images: what they are fitted on, and that no case is predicted by a model that has seen it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from vwmm.data.cohort.cases import Case, Cohort
from vwmm.engine.comparison.baselines import Baseline, acquisition, clinical, clinical_table, commonest_class


def cohort_of(columns: Mapping[str, list[str]], labels: str) -> tuple[Cohort, dict[str, int]]:
    cases = tuple(
        Case(f"c{n:02}", f"p{n:02}", label, {"ct": None}, n + 2, extra={name: columns[name][n] for name in columns})
        for n, label in enumerate(labels)
    )
    return Cohort(cases, ("a", "b"), Path("cohort.csv")), {case.name: n % 3 for n, case in enumerate(cases)}


def test_commonest_class_predicts_the_shares_of_the_other_folds() -> None:
    cohort, fold_of = cohort_of({}, "abbbab")
    found = commonest_class(cohort, cohort.cases, fold_of)
    # fold 0 has cases 0 and 3 (a, b): the others are b, b, a, b
    np.testing.assert_allclose(found.probabilities[[0, 3]], [[1 / 4, 3 / 4]] * 2)


def test_clinical_columns_are_told_from_those_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "x.nii").touch()
    columns = {
        "age": ["50", "", "70.5", "61", "NA", "44"],
        "sex": ["f", "m", "f", "", "m", "f"],
        "site": ["1", "2", "1", "2", "1", "2"],
        "note": ["n1", "n2", "n3", "n4", "n5", "n6"],
        "same": ["1"] * 6,
        "empty": [""] * 6,
        "pet": ["x.nii", "x.nii", "", "x.nii", "x.nii", "x.nii"],
        "pet2": ["x.nii", "./x.nii", "", "x.nii", "x.nii", "x.nii"],
    }
    cohort, _ = cohort_of(columns, "ababab")

    table, notes = clinical_table(cohort.cases, leave_out=["site"], root=tmp_path)

    assert list(table.columns) == ["age", "sex", "note"]
    np.testing.assert_array_equal(table["age"], [50, np.nan, 70.5, 61, np.nan, 44])
    assert notes == [
        "column same has one value", "column empty has no value", "column pet has one value",
        "column pet2 holds paths",
    ]  # fmt: skip


def test_free_text_is_no_clinical_column() -> None:
    cohort, fold_of = cohort_of({"report": [f"text {n}" for n in range(30)]}, "ab" * 15)
    found = clinical(cohort, cohort.cases, fold_of, leave_out=[], root=Path("nowhere"))
    assert found == "no baseline on clinical columns: column report has 30 different texts, more than 10"


def test_clinical_regression_finds_what_a_column_says_and_nothing_in_noise() -> None:
    generator = np.random.default_rng(0)
    labels = "".join(generator.choice(["a", "b"], size=120))
    ages = [f"{60 + 8 * (label == 'b') + generator.normal(scale=4):.1f}" for label in labels]
    noise = [f"{value:.3f}" for value in generator.normal(size=120)]
    for column, low, high in (({"age": ages}, 0.75, 1.0), ({"noise": noise}, 0.3, 0.7)):
        cohort, fold_of = cohort_of(column, labels)
        found = clinical(cohort, cohort.cases, fold_of, leave_out=[], root=Path("nowhere"))
        assert isinstance(found, Baseline)
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
        right = found.probabilities.argmax(axis=1) == [label == "b" for label in labels]
        assert low <= right.mean() <= high


def test_no_case_has_a_part_in_its_own_prediction() -> None:
    generator = np.random.default_rng(1)
    labels, ages = "ab" * 30, [f"{value:.2f}" for value in generator.normal(60, 5, size=60)]
    cohort, fold_of = cohort_of({"age": ages}, labels)
    before = clinical(cohort, cohort.cases, fold_of, leave_out=[], root=Path("nowhere"))
    changed, _ = cohort_of({"age": ages}, "b" + labels[1:])
    after = clinical(changed, changed.cases, fold_of, leave_out=[], root=Path("nowhere"))
    assert isinstance(before, Baseline)
    assert isinstance(after, Baseline)
    inside = [number for number, case in enumerate(cohort.cases) if fold_of[case.name] == 0]
    outside = [number for number in range(60) if number not in inside]
    np.testing.assert_array_equal(after.probabilities[inside], before.probabilities[inside])
    assert not np.array_equal(after.probabilities[outside], before.probabilities[outside])


@pytest.mark.parametrize("fact", [["A"] * 30 + ["B"] * 30, [0.5] * 30 + [float("nan")] * 30])
def test_acquisition_that_goes_with_the_label_is_found(fact: list[str] | list[float]) -> None:
    cohort, fold_of = cohort_of({}, "a" * 30 + "b" * 30)
    found = acquisition(cohort, cohort.cases, fold_of, {"scanner": fact, "same": ["x"] * 60})
    assert isinstance(found, Baseline)
    assert (found.probabilities.argmax(axis=1) == [0] * 30 + [1] * 30).all()
    assert found.notes == ("acquisition: logistic regression on scanner",)


def test_acquisition_facts_that_are_the_same_for_all_are_no_baseline() -> None:
    cohort, fold_of = cohort_of({}, "ab" * 5)
    found = acquisition(cohort, cohort.cases, fold_of, {"scanner": ["A"] * 10})
    assert found == "no baseline on acquisition facts: they are the same for all cases"
