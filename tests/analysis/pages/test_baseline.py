"""The comparison with always predicting the most frequent class."""

import pandas as pd
import pytest

from tests.analysis.conftest import ORIGIN
from vwmm.analysis.pages.baseline import compare_with_commonest, no_better_note
from vwmm.analysis.pages.cross_validation_report import FoldResult, pool
from vwmm.config.split_record import PartCount, SplitRecord


@pytest.mark.parametrize(
    ("matrix", "end"),
    [
        ([[12, 0], [1, 0]], "a, would be right in 12 (92.3 %): by accuracy the model is no better."),
        ([[11, 1], [0, 1]], "a, would be right in 12 (92.3 %): by accuracy the model is no better."),
        ([[12, 0], [0, 1]], "a, would be right in 12 (92.3 %)."),
        ([[5, 5], [5, 5]], "a, would be right in 10 (50.0 %): by accuracy the model is no better."),
        ([[1, 1], [0, 3]], "b, would be right in 3 (60.0 %)."),
    ],
)
def test_model_no_better_than_the_commonest_class_is_named(matrix: list[list[int]], end: str) -> None:
    assert compare_with_commonest(matrix, ["a", "b"]) == f"Always predicting the most frequent class, {end}"


SPLIT = SplitRecord(
    "draw", "", "", "", {"train": PartCount(4, 4), "val": PartCount(4, 4)}, fold=0, folds=(0, 1), seed=0
)


def test_cases_of_one_class_are_not_compared() -> None:
    assert compare_with_commonest([[3, 2], [0, 0]], ["a", "b"]) == ""
    assert no_better_note(["a", "a"], 1) is None


def test_the_end_of_a_run_has_a_note_only_where_the_model_is_no_better() -> None:
    labels = [*["a"] * 12, "b"]

    assert no_better_note(labels, 13) is None
    assert no_better_note(labels, 12) == (
        "note     always predicting a, the most frequent class, is right in 12 of 13: "
        "by accuracy the model is no better"
    )


def test_a_cross_validations_page_has_its_notes() -> None:
    labels, names = ["a", "b"], ["c0", "c1"]
    table = pd.DataFrame({"case": names, "patient": names, "label": labels, "predicted": "a", "p_a": "0.9"})
    validation = {"epoch": 1, "cases": 2, "loss": 0.7, "accuracy": 0.5, "balanced_accuracy": 0.5, "auroc": None}
    fold = FoldResult(0, "fold-0", table.assign(p_b="0.1", present_ct="1"), validation, SPLIT)

    page = pool("cv", [fold], ["a", "b"], ["ct"], origin=ORIGIN, notes=["3 pairs & more."]).page

    assert "Note: 3 pairs &amp; more." in page


def test_a_cross_validations_headline_compares_over_all_folds() -> None:
    validation = {"epoch": 1, "cases": 4, "loss": 0.7, "accuracy": 0.75, "balanced_accuracy": 0.5, "auroc": None}
    folds = []
    for number in range(2):
        labels = ["a", "a", "a", "b"]
        names = [f"c{number}{n}" for n in range(4)]
        table = pd.DataFrame({"case": names, "patient": names, "label": labels, "predicted": "a", "p_a": "0.9"})
        folds.append(FoldResult(number, f"fold-{number}", table.assign(p_b="0.1", present_ct="1"), validation, SPLIT))

    page = pool("cv", folds, ["a", "b"], ["ct"], origin=ORIGIN).page

    expected = (
        "Always predicting the most frequent class, a, would be right in 6 (75.0 %): "
        "by accuracy the model is no better."
    )
    assert expected in page
