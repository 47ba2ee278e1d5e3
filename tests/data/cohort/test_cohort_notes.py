"""What is noted of a cohort although nothing is wrong with it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.making import make_case, make_cohort
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.cohort_notes import carried_columns, cohort_notes, small_classes, table_notes
from vwmm.system.problems import Problem


def cohort_of(**counts: int) -> Cohort:
    """So many patients of each class, the first of each with two cases."""
    cases = [
        make_case(f"{name}{n:02}", name, patient=f"p{name}{n}") for name, count in counts.items() for n in range(count)
    ]
    return make_cohort([*cases, *(make_case(f"{name}_again", name, patient=f"p{name}0") for name in counts)])


def test_classes_with_fewer_than_ten_patients_in_a_part_are_noted_once_with_the_weights() -> None:
    cohort = cohort_of(a=20, b=14)
    part_of = {
        case.name: "val" if case.name[1:3] in ("01", "02", "03", "04", "05") else "train" for case in cohort.cases
    }

    assert small_classes(cohort, part_of, weights=None) == (
        "classes with fewer than 10 patients in a part: a 5 in val; b 9 in train, 5 in val: training and "
        "results on so few are uncertain; train.class_weights=balanced gives each class the same weight"
    )
    told = small_classes(cohort, part_of, weights="balanced")
    assert told is not None
    assert told.endswith("; train.class_weights is set")


def test_ten_patients_in_each_part_are_not_noted() -> None:
    cohort = cohort_of(a=20, b=20)
    part_of = {case.name: "val" if case.name[1:3] > "09" and "_" not in case.name else "train" for case in cohort.cases}

    assert small_classes(cohort, part_of, weights=None) is None
    assert small_classes(cohort, {}, weights=None) is None


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_class_that_a_part_lacks_altogether_is_noted(part: str) -> None:
    cohort = cohort_of(a=10, b=1)
    parts = {case.name: part if case.name.startswith("a") else "other" for case in cohort.cases}

    assert f"b 0 in {part}" in str(small_classes(cohort, parts, weights=None))


def test_columns_that_are_carried_and_not_learned_from_are_named_once() -> None:
    extra = {"site": "x", "age": "7", "sex": "f"}
    cohort = make_cohort([replace(make_case("a"), extra=extra), replace(make_case("b"), extra=extra)])

    assert carried_columns(cohort, "site") == (
        "columns age, sex are carried to the predictions, for sub-groups; training does not use them"
    )
    many = replace(make_case("a"), extra={f"c{n}": "" for n in range(20)})
    assert "columns c0, c1, c2, c3, c4, c5, c6, c7 and 12 more are" in str(carried_columns(make_cohort([many]), "site"))
    assert carried_columns(make_cohort([make_case("a")]), "site") is None


def test_notes_of_the_table_come_first_with_their_line() -> None:
    cohort = replace(
        make_cohort([make_case("a", images={"ct": Path("x")})]), notes=(Problem("words", "table_note", 3),)
    )

    assert table_notes(cohort) == ["cohort.csv line 3: words"]
    assert cohort_notes(cohort, {}, "site", weights=None) == ["cohort.csv line 3: words"]
