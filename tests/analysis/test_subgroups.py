"""Sub-groups by column, quantiles, bins and images, and the test of their difference."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.subgroups import (
    Grouping,
    GroupingRequest,
    compare_groups,
    group_column,
    group_pattern,
    holm,
    parse_grouping,
)


def grouped(text: str, cells: list[str]) -> dict[str, list[str]]:
    """The cells of each group."""
    found = group_column(parse_grouping(text), cells, [f"line {n + 2}" for n in range(len(cells))])
    return {
        name: [cell for cell, at in zip(cells, found.group_of, strict=True) if at == number]
        for number, name in enumerate(found.groups)
    }


def test_numbers_are_cut_into_thirds_and_equal_ones_stay_together() -> None:
    assert grouped("age", [str(n) for n in range(1, 10)]) == {
        "up to 3": ["1", "2", "3"],
        "above 3 to 6": ["4", "5", "6"],
        "above 6": ["7", "8", "9"],
    }
    assert grouped("age:2", ["1", "1", "1", "2", "2", "3"]) == {"up to 1": ["1"] * 3, "above 1": ["2", "2", "3"]}


def test_given_edges_names_and_unknown_cells() -> None:
    cells = ["39", "40", "59.5", "60", "", "80"]
    assert grouped("age:40,60", cells) == {
        "below 40": ["39"], "40 to below 60": ["40", "59.5"], "60 and above": ["60", "80"], "not known": [""],
    }  # fmt: skip
    assert list(grouped("age:5,", ["4", "6"])) == ["below 5", "5 and above"]
    assert list(grouped("field", ["3", "1.5", "3"])) == ["1.5", "3"]
    assert list(grouped("sex", ["m", "f", " m"])) == ["f", "m"]


@pytest.mark.parametrize(
    ("text", "cells", "words"),
    [
        ("sex", ["f", "f"], "has one value only in these cases (f)"),
        ("sex", ["", ""], "is empty in all these cases"),
        ("note", [f"free text {n}" for n in range(13)], "has 13 different texts, more than 12"),
        ("age:40,60", ["30", "old"], "has a cell that is no number (line 3)"),
        ("age:40,60", ["30", "nan"], "has a cell that is no number (line 3)"),
        ("age:200,300", ["30", "40"], "has one value only in these cases (below 200)"),
        ("age:2", ["1", "1", "1"], "has one value only"),
    ],
)
def test_what_gives_no_groups_is_refused_in_words(text: str, cells: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        grouped(text, cells)


@pytest.mark.parametrize("text", ["age:60,40", "age:40,40", "age:1e999,2", "age:1-2,3"])
def test_edges_that_do_not_rise_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected age:40,60"):
        parse_grouping(text)


def test_a_column_may_have_a_colon_and_bins_besides() -> None:
    assert parse_grouping("dicom:sex") == GroupingRequest("dicom:sex")
    assert parse_grouping("dicom:age:4") == GroupingRequest("dicom:age", quantiles=4)
    assert parse_grouping("age:50") == GroupingRequest("age", edges=(50.0,))


def test_patterns_of_images_are_groups_the_largest_first() -> None:
    found = group_pattern(pd.DataFrame({"ct": [True, True, False, True], "mri": [True, False, True, True]}))
    assert (found.groups, found.group_of.tolist()) == (("all", "ct", "mri"), [0, 1, 2, 0])
    many = pd.DataFrame(list(itertools.product([True, False], repeat=5)), columns=list("abcde"))
    assert len(group_pattern(many).groups) == 16
    assert group_pattern(many).groups[-1] == "other combinations"


def predictions_of(labels: np.ndarray, right: np.ndarray, patients: np.ndarray) -> RecordedPredictions:
    named = np.where(right, labels, 1 - labels)
    return RecordedPredictions(labels, np.eye(2)[named] * 0.8 + 0.1, patients, pd.DataFrame(index=range(len(labels))))


def of_two(group_of: np.ndarray) -> Grouping:
    return Grouping("sex", ("f", "m"), group_of)


def test_p_is_that_of_fishers_exact_test_for_one_class() -> None:
    """6 of 6 right in one group, 1 of 6 in the other: of 12 choose 6 orders two are as extreme."""
    right = np.array([True] * 7 + [False] * 5)
    group = np.array([0] * 6 + [1] * 6)
    (found,) = compare_groups(predictions_of(np.zeros(12, int), right, np.arange(12)), [of_two(group)])

    from scipy.stats import fisher_exact

    assert found.p == pytest.approx(fisher_exact([[6, 0], [1, 5]]).pvalue, abs=0.004)


def test_another_mix_of_classes_is_no_difference() -> None:
    """Class 0 is always right and class 1 half the time; group m has more of class 1."""
    labels = np.array([0] * 40 + [1] * 10 + [0] * 10 + [1] * 40)
    right = (labels == 0) | (np.arange(100) % 2 == 0)
    group = np.repeat([0, 1], 50)
    (found,) = compare_groups(predictions_of(labels, right, np.arange(100)), [of_two(group)])

    assert right[:50].mean() == 0.9
    assert right[50:].mean() == 0.6
    assert found.p == 1.0


def test_under_equality_five_percent_are_below_five_percent() -> None:
    generator, below, draws = np.random.default_rng(4), 0, 400
    for _ in range(draws):
        labels = (generator.random(40) < 0.4).astype(int)
        patients = np.repeat(np.arange(40), 2)
        hard = generator.random(40) < 0.5  # both cases of a patient go the same way
        predictions = predictions_of(np.repeat(labels, 2), np.repeat(hard, 2), patients)
        group = np.repeat(generator.integers(2, size=40), 2)
        (found,) = compare_groups(predictions, [of_two(group)], num_permutations=199)
        below += found.p is not None and found.p <= 0.05
    assert below / draws < 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert below > 0


def test_a_difference_is_found_and_corrected_over_the_groupings() -> None:
    right, group = np.arange(80) % 40 < 36, np.repeat([0, 1], 40)
    right[40:] = np.arange(40) < 16
    nothing = of_two(np.arange(80) // 2 % 2)
    found = compare_groups(predictions_of(np.arange(80) % 2, right, np.arange(80)), [of_two(group), nothing])

    assert found[0].p == pytest.approx(1 / 10_001)
    assert found[0].p_adjusted == pytest.approx(2 / 10_001)
    assert found[1].p is not None
    assert found[1].p > 0.2
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_no_test_where_a_patient_is_in_several_groups_or_nothing_can_vary() -> None:
    patients = np.repeat(np.arange(10), 2)
    visits = predictions_of(np.zeros(20, int), np.arange(20) < 9, patients)
    (found,) = compare_groups(visits, [of_two(np.arange(20) % 2)])
    assert (found.p, found.reason) == (None, "some patients have cases in several groups")
    perfect = predictions_of(np.zeros(20, int), np.ones(20, bool), np.arange(20))
    (found,) = compare_groups(perfect, [of_two(np.arange(20) % 2)])
    assert "all right or wrong" in found.reason


def test_unknown_cells_are_left_out_of_the_test() -> None:
    grouping = Grouping("sex", ("f", "m", "not known"), np.repeat([0, 1, 2], 10))
    right = np.repeat([True, False, True], 10)
    (with_unknown,) = compare_groups(predictions_of(np.zeros(30, int), right, np.arange(30)), [grouping])
    (without,) = compare_groups(
        predictions_of(np.zeros(20, int), right[:20], np.arange(20)), [of_two(grouping.group_of[:20])]
    )

    assert with_unknown == without
