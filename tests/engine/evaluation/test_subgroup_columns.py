"""Sub-groups by a column of the cohort."""

from pathlib import Path

import pytest

from vwmm.data.cohort.cases import Case, Cohort
from vwmm.engine.evaluation.subgroup_columns import group_cases


def cohort_of(cells: list[str]) -> Cohort:
    cases = [Case(f"c{n}", f"p{n}", "a", {}, n + 2, extra={"column": cell}) for n, cell in enumerate(cells)]
    return Cohort(tuple(cases), ("a", "b"), Path("cohort.csv"))


@pytest.mark.parametrize("word", ["", "NA", "nan", "None", "?"])
def test_words_for_a_missing_value_are_not_known(word: str) -> None:
    (grouping,), problems = group_cases(["column"], cohort_of(["I", "II", word, "I"]))

    assert problems == []
    assert grouping.groups == ("I", "II", "not known")
    assert grouping.group_of.tolist() == [0, 1, 2, 0]


def test_numbers_with_a_missing_one_are_binned() -> None:
    (grouping,), problems = group_cases(["column:50"], cohort_of(["40", "NA", "60", "70"]))

    assert problems == []
    assert len(set(grouping.group_of.tolist())) == 3
