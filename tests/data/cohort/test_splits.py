"""Splits by patient: sizes, proportions, folds, and what is refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.conftest import texts
from tests.data.making import make_case, make_cohort
from vwmm.config.schema import Split
from vwmm.data.cohort.cases import SPLITS, Case, Cohort
from vwmm.data.cohort.splits import cases_of, split_cohort, split_hash, split_table
from vwmm.system.errors import UserError


def cohort_of(**patients: int) -> Cohort:
    """Patients by class: cohort_of(a=3, b=2)."""
    labels = [label for label, count in patients.items() for _ in range(count)]
    return make_cohort(
        [make_case(f"c{number:03}", label, images={"image": Path("x")}) for number, label in enumerate(labels)]
    )


def visits(cohort: Cohort) -> Cohort:
    """The same patients, every third one with two more visits."""
    more = [
        replace(case, name=f"{case.name}_{visit}")
        for case in cohort.cases[::3]
        for visit in (2, 3)
    ]  # fmt: skip
    return make_cohort([*cohort.cases, *more])


def counts(cohort: Cohort, assigned: dict[str, str]) -> dict[str, dict[str, int]]:
    """Cases by part and class."""
    parts = {
        part: Counter(case.label for case in cases_of(cohort, assigned, part)) for part in ("train", "val", "test")
    }
    return {part: {str(k): v for k, v in sorted(found.items())} for part, found in parts.items() if found}


def with_column(cohort: Cohort, column: str, values: list[str] | list[int]) -> Cohort:
    cases = [
        replace(case, **{column: value})  # type: ignore[arg-type]
        for case, value in zip(cohort.cases, values, strict=True)
    ]
    return make_cohort(cases)


def refusal(cohort: Cohort, **split: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        split_cohort(cohort, Split.model_validate(split))
    return texts(caught.value.problems)


def test_a_fifth_is_validated_on_in_the_cohorts_proportions() -> None:
    cohort = cohort_of(a=50, b=30, c=20)

    assigned = split_cohort(cohort, Split())

    assert counts(cohort, assigned) == {"train": {"a": 40, "b": 24, "c": 16}, "val": {"a": 10, "b": 6, "c": 4}}


def test_a_part_can_be_set_aside_as_well() -> None:
    cohort = cohort_of(a=60, b=40)

    assigned = split_cohort(cohort, Split(val_fraction=0.2, test_fraction=0.1))

    assert counts(cohort, assigned) == {
        "train": {"a": 42, "b": 28},
        "val": {"a": 12, "b": 8},
        "test": {"a": 6, "b": 4},
    }


def test_without_stratification_the_draw_ignores_the_label() -> None:
    cohort = cohort_of(a=50, b=50)

    shares = {counts(cohort, split_cohort(cohort, Split(stratified=False, seed=s)))["val"]["a"] for s in range(5)}

    assert len(shares) > 1


@pytest.mark.parametrize("stratified", [True, False])
def test_all_visits_of_a_patient_are_in_one_part(stratified: bool) -> None:
    cohort = visits(cohort_of(a=20, b=20))
    split = Split(val_fraction=0.25, test_fraction=0.25, stratified=stratified)

    assigned = split_cohort(cohort, split)

    parts: dict[str, set[str]] = {}
    for case in cohort.cases:
        parts.setdefault(case.patient, set()).add(assigned[case.name])
    assert all(len(found) == 1 for found in parts.values())
    assert Counter(part for found in parts.values() for part in found) == {"train": 20, "val": 10, "test": 10}


def test_the_order_of_the_rows_does_not_matter() -> None:
    cohort = visits(cohort_of(a=20, b=20))
    shuffled = Cohort(
        tuple(cohort.cases[n] for n in np.random.default_rng(0).permutation(80 - 12)), ("a", "b"), Path("x")
    )

    for split in (Split(), Split(folds=4, fold=1), Split(stratified=False)):
        assert split_cohort(shuffled, split) == split_cohort(cohort, split)


def test_a_further_case_of_a_patient_moves_nobody() -> None:
    cohort = cohort_of(a=20, b=20)
    more = make_cohort([*cohort.cases, replace(cohort.cases[0], name="z")])

    before, after = split_cohort(cohort, Split()), split_cohort(more, Split())

    assert {name: part for name, part in after.items() if name != "z"} == before


def test_the_seed_decides() -> None:
    cohort = cohort_of(a=20, b=20)

    drawn = [split_cohort(cohort, Split(seed=seed)) for seed in (0, 0, 1, 2**32 - 1)]

    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2] != drawn[3] != drawn[0]
    assert split_hash(cohort, drawn[0]) == split_hash(cohort, drawn[1]) != split_hash(cohort, drawn[2])


def test_no_global_random_number_is_drawn() -> None:
    np.random.seed(3)
    before = repr(np.random.get_state(legacy=False)["state"]["key"].tolist())

    split_cohort(cohort_of(a=20, b=20), Split())
    split_cohort(cohort_of(a=20, b=20), Split(folds=2, fold=0))

    assert repr(np.random.get_state(legacy=False)["state"]["key"].tolist()) == before


@pytest.mark.parametrize("patients", [{"a": 2, "b": 2}, {"a": 9, "b": 2}, {"a": 2, "b": 2, "c": 2}])
def test_a_small_cohort_has_each_class_on_both_sides(patients: dict[str, int]) -> None:
    cohort = cohort_of(**patients)

    parts = counts(cohort, split_cohort(cohort, Split()))

    assert set(parts["train"]) == set(patients)
    assert "val" in parts


@given(
    patients=st.lists(st.integers(2, 9), min_size=2, max_size=4),
    val=st.floats(0.01, 0.6),
    test=st.sampled_from([0.0, 0.05, 0.3]),
    seed=st.integers(0, 99),
    stratified=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_cohort_is_divided_or_refused_in_words(
    patients: list[int], val: float, test: float, seed: int, stratified: bool
) -> None:
    cohort = cohort_of(**dict(zip("abcd", patients, strict=False)))
    split = Split(val_fraction=val, test_fraction=test, seed=seed, stratified=stratified)
    try:
        assigned = split_cohort(cohort, split)
    except UserError as error:
        problems = texts(error.problems)
    else:
        problems = []
        assert set(assigned) == {case.name for case in cohort.cases}
        assert {"train", "val"} <= set(assigned.values())
    assert all(problem.startswith("split: ") for problem in problems)


# --- folds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stratified", [True, False])
def test_over_the_folds_each_patient_is_validated_on_once(stratified: bool) -> None:
    cohort = visits(cohort_of(a=15, b=10))

    validated = [
        {case.patient for case in cases_of(cohort, split_cohort(cohort, split), "val")}
        for fold in range(5)
        for split in [Split(folds=5, fold=fold, stratified=stratified)]
    ]

    assert sorted(name for found in validated for name in found) == sorted({case.patient for case in cohort.cases})
    assert [len(found) for found in validated] == [5] * 5


def test_folds_are_stratified() -> None:
    cohort = cohort_of(a=15, b=10)

    for fold in range(5):
        assert counts(cohort, split_cohort(cohort, Split(folds=5, fold=fold)))["val"] == {"a": 3, "b": 2}


def test_the_csvs_folds_are_used() -> None:
    cohort = with_column(cohort_of(a=4, b=4), "fold", [0, 1, 2, 2, 0, 1, 2, 2])

    assigned = split_cohort(cohort, Split(fold=1))

    assert [name for name, part in assigned.items() if part == "val"] == ["c001", "c005"]
    assert split_cohort(cohort, Split(folds=3, fold=1)) == assigned
    assert refusal(cohort, fold=3) == ["split.fold=3: the CSV has the folds 0, 1, 2"]
    assert refusal(cohort, folds=2, fold=1) == ["split.fold=1 of split.folds=2: the CSV has the folds 0, 1, 2"]


@pytest.mark.parametrize("in_csv", [True, False])
def test_what_is_set_aside_is_in_no_fold(in_csv: bool) -> None:
    cohort = cohort_of(a=10, b=10)
    fraction = 0.0 if in_csv else 0.2
    if in_csv:
        cohort = with_column(cohort, "split", ["test", "test", *["train"] * 8] * 2)

    assigned = [split_cohort(cohort, Split(folds=4, fold=n, test_fraction=fraction)) for n in range(4)]

    aside = [{name for name, part in parts.items() if part == "test"} for parts in assigned]
    assert aside[0] == aside[1] == aside[2] == aside[3]
    assert len(aside[0]) == 4
    validated = sorted(name for parts in assigned for name, part in parts.items() if part == "val")
    assert validated == sorted({case.name for case in cohort.cases} - aside[0])


def test_folds_that_cannot_be_are_explained() -> None:
    cohort = cohort_of(a=10, b=3)

    assert refusal(cohort, fold=1) == [
        "split.fold=1: set their number (split.folds=5), or add a column 'fold' to the CSV"
    ]
    assert refusal(cohort, folds=5, fold=0)[0].startswith("split.folds=5: label 'b' has 3 patients, fewer than folds")
    assert refusal(cohort, folds=20, fold=0, stratified=False) == [
        "split.folds=20: there are 13 patients, fewer than folds"
    ]
    assert refusal(with_column(cohort, "split", ["test"] * 13), folds=5, fold=0) == [
        "split.folds=5: there are 0 patients, fewer than folds"
    ]


# --- a split made elsewhere ----------------------------------------------------------------------------------------


def test_the_csvs_split_is_used() -> None:
    cohort = with_column(cohort_of(a=3, b=3), "split", ["train", "val", "test"] * 2)

    assert list(split_cohort(cohort, Split()).values()) == ["train", "val", "test"] * 2


def test_test_cases_that_are_asked_for_are_not_passed_over_because_a_table_has_none(tmp_path: Path) -> None:
    bare, path = cohort_of(a=4, b=4), tmp_path / "s.csv"
    parts, folds = with_column(bare, "split", ["train", "val"] * 4), with_column(bare, "fold", [0, 1] * 4)
    path.write_text("case,split\n" + "".join(f"{case.name},{case.split}\n" for case in parts.cases))
    tail = (
        "already defines the split, without test cases; set test cases aside there, draw a new split without it, or "
        "leave"
    )

    for found, where in (
        (refusal(parts, test_fraction=0.4), "cohort.csv's column of splits"),
        (refusal(parts, test_fraction=0.4, folds=2, fold=0), "cohort.csv's column of splits"),
        (refusal(bare, test_fraction=0.4, file=str(path)), "s.csv"),
    ):
        assert found == [f"split.test_fraction=0.4: {where} {tail} split.test_fraction out"]
    assert "test" in split_cohort(folds, Split(fold=0, test_fraction=0.3)).values()


def test_a_table_that_says_who_is_where_goes_over_the_keys_of_a_draw(tmp_path: Path) -> None:
    cohort, path = with_column(cohort_of(a=4, b=4), "split", ["train", "val", "test", "train"] * 2), tmp_path / "s.csv"
    path.write_text("case,split\n" + "".join(f"{case.name},{case.split}\n" for case in cohort.cases))
    draw = {"val_fraction": 0.3, "test_fraction": 0.3, "stratified": False, "seed": 1}

    assert split_cohort(cohort, Split.model_validate(draw)) == split_cohort(cohort, Split())
    assert split_cohort(cohort_of(a=4, b=4), Split.model_validate({**draw, "file": str(path)})) == split_cohort(
        cohort, Split()
    )


def test_a_split_without_a_side_or_without_a_class_to_train_on_is_refused() -> None:
    cohort = cohort_of(a=2, b=2)

    assert refusal(with_column(cohort, "split", ["train"] * 4)) == [
        "split: no case is in 'val'; training needs some to train on and some to validate on"
    ]
    assert refusal(with_column(cohort, "split", ["train", "train", "val", "test"])) == [
        "split: no case with label 'b' is in 'train': the model could not learn it"
    ]


def test_patients_that_are_too_few_are_said() -> None:
    assert refusal(cohort_of(a=2, b=1), stratified=True)[0].startswith(
        "split: label 'b' has too few patients for 'val'"
    )
    assert refusal(cohort_of(a=1), stratified=False) == [
        "split: too few patients are left to set some aside as 'val': 1"
    ]
    assert refusal(cohort_of(a=2, b=2), test_fraction=0.2) == [
        "split: too few patients are left to set some aside as 'val': 2; each part takes one of each of the 2 classes, "
        "unless split.stratified=false"
    ]


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[Cohort, dict[str, str], Path]:
    """A cohort, its split, and the split.csv of a run."""
    cohort = visits(cohort_of(a=8, b=8))
    assigned = split_cohort(cohort, Split(seed=7, test_fraction=0.1))
    path = tmp_path / "split.csv"
    path.write_text(split_table(cohort, assigned, {case.name: {"image": "abc"} for case in cohort.cases}))
    return cohort, assigned, path


def test_the_split_of_an_earlier_run_is_used_again(earlier: tuple[Cohort, dict[str, str], Path]) -> None:
    cohort, assigned, path = earlier
    fewer = make_cohort(cohort.cases[2:])

    assert split_cohort(cohort, Split(file=str(path))) == assigned
    assert split_cohort(fewer, Split(file=str(path))).items() <= assigned.items()


def test_a_split_file_has_a_row_for_each_case_with_its_hashes() -> None:
    cases: list[Case] = [
        make_case("c,1", "a", images={"image": Path("x"), "other": None}),
        make_case("c2", "b", images={"image": None, "other": None}),
    ]

    table = split_table(make_cohort(cases), {"c,1": "train", "c2": "val"}, {"c,1": {"image": "h"}, "c2": {}})

    assert table == ('case,patient,label,split,hash_image,hash_other\n"c,1","c,1",a,train,h,\nc2,c2,b,val,,\n')


def test_a_case_that_the_file_does_not_know_is_named(earlier: tuple[Cohort, dict[str, str], Path]) -> None:
    cohort, _, path = earlier
    more = make_cohort([*cohort.cases, make_case("new1", line=40), make_case("new2", line=41)])

    assert refusal(more, file=str(path)) == [
        "cohort.csv line 40: case new1: split.file: split.csv does not have this case",
        "cohort.csv line 41: case new2: split.file: split.csv does not have this case",
    ]


def test_a_patient_in_two_parts_or_under_another_name_is_refused(tmp_path: Path) -> None:
    cohort = make_cohort([make_case("v1", patient="p"), make_case("v2", patient="p"), make_case("v3", patient="q")])
    path = tmp_path / "split.csv"

    path.write_text("case,split\nv1,train\nv2,val\nv3,train\n")
    assert refusal(cohort, file=str(path)) == ["split.file: patient p is in train and val"]

    path.write_text("case,patient,split\nv1,p,train\nv2,p,train\nv3,p,val\n")
    assert refusal(cohort, file=str(path)) == [
        "cohort.csv line 2: case v3: split.file: is of patient q, but of p in split.csv"
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("case,part\nc000,train\n", "split.csv has no column 'case' or 'split'"),
        (
            "case,split\nc000,training\n",
            "split.csv line 2: case c000: 'split' must be train, val or test; found 'training'",
        ),
        ("case,split\nc000,train\nc000,val\n", "split.csv line 3: case c000: stands twice, in train and val"),
        ("case,split\nc000\n", "split.csv line 2: 1 cells, but the header has 2 columns"),
        ("", "split.csv: the file is empty"),
        ("case,split\n\xff", "split.csv line 2: not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_split_is_explained(content: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content.encode("latin-1"))

    (problem,) = refusal(cohort_of(a=2, b=2), file=str(path))

    assert expected in problem


def test_a_split_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.csv"

    assert refusal(cohort_of(a=2, b=2), file=str(path)) == [f"split.file: file not found: {path}"]


# --- by site -------------------------------------------------------------------------------------------------------


def sites_by_part(cohort: Cohort, **split: object) -> dict[str, set[str | None]]:
    assigned = split_cohort(cohort, Split.model_validate({"by_site": "hold_out", **split}))
    return {part: {case.site for case in cases_of(cohort, assigned, part)} for part in ("train", "val", "test")}


def test_sites_that_are_named_are_not_drawn_for_another_part() -> None:
    cohort = with_column(cohort_of(a=15, b=15), "site", ["X", "Y", "Z"] * 10)

    for seed in range(8):
        found = sites_by_part(cohort, val_sites=["X"], test_fraction=0.3, seed=seed)
        assert found["val"] == {"X"}
        assert sorted(map(len, found.values())) == [1, 1, 1]


def test_a_site_is_left_for_each_part_whatever_its_share() -> None:
    cohort = with_column(cohort_of(a=15, b=15), "site", ["X", "Y", "Z"] * 10)

    assert sorted(map(len, sites_by_part(cohort, test_fraction=0.6).values())) == [1, 1, 1]
    two = with_column(cohort, "site", ["X", "Y"] * 15)
    assert refusal(two, by_site="hold_out", test_fraction=0.2) == [
        "split.by_site=hold_out: 3 sites are needed to set one aside as 'test' and keep 2 for the other parts; found 2"
    ]
    assert refusal(two, by_site="hold_out", test_sites=["X"]) == [
        "split.by_site=hold_out: 2 sites are needed to set one aside as 'val' and keep 1 for the other parts; found 1 "
        "beside those of split.test_sites"
    ]


def test_a_class_of_one_site_alone_that_is_held_out_is_explained() -> None:
    cohort = with_column(cohort_of(a=4, b=4), "site", ["X"] * 4 + ["Y"] * 4)

    assert all(
        problem.endswith(
            "the model could not learn it; split.by_site=hold_out keeps each site whole: hold out other sites, or "
            "split.by_site=stratify"
        )
        for problem in refusal(cohort, by_site="hold_out")
    )


@given(
    cells=st.lists(st.integers(0, 30), min_size=6, max_size=6),
    test=st.sampled_from([0.0, 0.2, 0.4]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_each_part_has_each_sites_share_of_a_class_to_within_the_patients_that_are_documented(
    cells: list[int], test: float, seed: int
) -> None:
    kinds = Counter({("ab"[n // 3], "XYZ"[n % 3]): count for n, count in enumerate(cells)})
    sizes = {label: sum(count for (of, _), count in kinds.items() if of == label) for label in "ab"}
    assume(min(sizes.values()) >= 4)
    cohort = with_column(cohort_of(**sizes), "site", [site for _, site in sorted(kinds.elements())])

    assigned = split_cohort(cohort, Split(by_site="stratify", test_fraction=test, seed=seed))

    for part in SPLITS:
        inside = cases_of(cohort, assigned, part)
        found, of_label = Counter((case.label, case.site) for case in inside), Counter(case.label for case in inside)
        bound = 1 if part == "test" or not test else 2
        for (label, site), count in kinds.items():
            assert abs(found[label, site] - of_label[label] * count / sizes[label]) < bound


# --- folds in a file -----------------------------------------------------------------------------------------------


FOLDS = "case,split,fold\nc000,train,0\nc001,train,1\nc002,train,0\nc003,train,1\nc004,test,\n"


def test_file_of_folds_gives_validation_and_test_cases(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(FOLDS)
    cohort = cohort_of(a=2, b=3)

    assert list(split_cohort(cohort, Split(file=str(path), fold=1)).values()) == ["train", "val"] * 2 + ["test"]
    assert split_cohort(cohort, Split(file=str(path), folds=2, fold=1)) == split_cohort(
        cohort, Split(file=str(path), fold=1)
    )


@pytest.mark.parametrize(
    ("content", "keys", "expected"),
    [
        (FOLDS, {}, "folds.csv has the folds 0, 1: choose the one to validate on (split.fold=0)"),
        (FOLDS, {"fold": 2}, "split.fold=2: folds.csv has the folds 0, 1"),
        (FOLDS, {"fold": 1, "folds": 3}, "split.fold=1 of split.folds=3: folds.csv has the folds 0, 1"),
        (FOLDS.replace(",fold", ",part"), {"fold": 1}, "split.fold=1: folds.csv has no column 'fold'"),
        (
            FOLDS.replace("c003,train,1", "c003,train,"),
            {"fold": 1},
            "line 5: case c003: 'fold' must be 0, 1, 2, ..., or empty",
        ),
        (
            FOLDS.replace("c003,train,1", "c003,train,-1"),
            {"fold": 1},
            "line 5: case c003: 'fold' must be 0, 1, 2, ..., or empty",
        ),
        (FOLDS + "c001,train,0\n", {"fold": 1}, "line 7: case c001: stands twice, in fold 1 and fold 0"),
    ],
)
def test_a_file_of_folds_that_does_not_fit_is_explained(
    content: str, keys: dict[str, int], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(content)

    (problem,) = refusal(cohort_of(a=2, b=3), file=str(path), **keys)

    assert expected in problem


def test_a_patient_in_two_folds_of_a_file_is_refused(tmp_path: Path) -> None:
    cohort = make_cohort([make_case("v1", patient="p"), make_case("v2", patient="p"), make_case("v3", patient="q")])
    path = tmp_path / "folds.csv"
    path.write_text("case,split,fold\nv1,train,0\nv2,train,1\nv3,train,1\n")

    assert refusal(cohort, file=str(path), fold=0) == ["split.file: patient p is in fold 0 and fold 1"]
