"""Where one modality alone beats all together, or is no better than chance, that is said in words, and only then."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import ORIGIN
from tests.analysis.printed import CLASSES, folds_of
from vwmm.analysis.pages.cross_validation_report import pool
from vwmm.analysis.pages.run_report import write_report
from vwmm.analysis.pages.unimodal import UnimodalScore, presence_notes, unimodal_notes
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

NAMES = ["no", "yes"]


def predicted(right: list[bool], labels: list[int], present: dict[str, list[bool]], **more: Any) -> RecordedPredictions:
    """Two classes, one case a patient, the first few right."""
    truth = np.array(labels)
    answer = np.where(right, truth, 1 - truth)
    shares = np.where(answer[:, None] == np.arange(2), 0.8, 0.2)
    known = RecordedPredictions(truth, shares, np.arange(len(truth)), pd.DataFrame(present))
    return replace(known, **more)


def forty(num_right: int, **more: Any) -> RecordedPredictions:
    """40 cases, 24 of them `no`; 30 of them have a CT, the first ones."""
    right = np.arange(40) % 40 < num_right
    labels = [0] * 16 + [1] * 16 + [0] * 8
    return predicted(right.tolist(), labels, {"ct": [n < 30 for n in range(40)], "mri": [True] * 40}, **more)


def score(**values: Any) -> UnimodalScore:
    return replace(UnimodalScore("ct", 30, 20, 0.7, 0.7), **values)


def test_a_modality_that_beats_all_together_is_named_with_numbers_of_the_same_cases() -> None:
    (note,) = unimodal_notes(forty(18), NAMES, [score(right=22, auroc=None)])

    assert note == (
        "ct alone was right in 22 of the 30 cases that have it (73.3 %, 95 % interval 55.6 to 85.8 %), all modalities "
        "together in 18 of the same (60.0 %). A difference of 4 cases may be chance."
    )


def test_a_large_difference_is_not_called_chance_and_not_called_proven() -> None:
    (note,) = unimodal_notes(forty(18), NAMES, [score(right=25, auroc=None)])

    assert "(60.0 %). Whether that is more than chance is not known: of one modality alone no results by case" in note


def test_a_higher_auroc_is_named_with_both() -> None:
    (note,) = unimodal_notes(forty(25), NAMES, [score(right=20, auroc=0.99)])

    assert note.startswith("ct alone reached an AUROC of 0.990 on the 30 cases that have it, all modalities together ")


def test_a_modality_below_chance_is_named() -> None:
    notes = unimodal_notes(forty(30), NAMES, [score(right=13, auroc=0.43, balanced_accuracy=0.42)])

    assert notes == [
        "ct alone is below chance on the 30 cases that have it: AUROC 0.430 (0.5 by chance), balanced accuracy 42.0 % "
        "(50.0 % by chance); no interval, since of one modality alone no results by case are recorded.",
        "ct alone was right in 13 of the 30 cases that have it (43.3 %, 95 % interval 27.4 to 60.8 %), no more than "
        "always predicting the most frequent class of these cases, no (16).",
    ]


def test_accuracy_below_the_commonest_class_alone_is_not_called_below_chance() -> None:
    (note,) = unimodal_notes(forty(30), NAMES, [score(right=16, auroc=0.8, balanced_accuracy=0.6)])

    assert "below chance" not in note
    assert "no more than always predicting the most frequent class of these cases, no (16)" in note


@pytest.mark.parametrize(
    "one",
    [
        score(),
        score(name="pet", right=30),
        score(auroc=None, balanced_accuracy=None),
    ],
)
def test_nothing_is_said_without_a_reason(one: UnimodalScore) -> None:
    assert unimodal_notes(forty(30), NAMES, [one]) == []


def test_nothing_is_said_where_the_cases_are_not_the_same() -> None:
    assert unimodal_notes(forty(18), NAMES, [score(cases=29, right=29)]) == []


def test_nothing_is_said_of_few_cases() -> None:
    few = predicted([True] * 9, [0, 1, 0, 1, 0, 1, 0, 1, 0], {"ct": [True] * 9, "mri": [True] * 9})

    assert unimodal_notes(few, NAMES, [score(cases=9, right=2, auroc=0.1)]) == []


def test_several_cases_of_a_patient_have_no_interval() -> None:
    repeated = forty(18, patients=np.arange(40) // 2)

    (note,) = unimodal_notes(repeated, NAMES, [score(right=22, auroc=None)])

    assert "(73.3 %; no interval: of one modality alone no results by case are recorded)" in note


def test_cases_with_one_modality_are_compared_with_complete_ones_as_other_cases() -> None:
    present = {"ct": [True] * 40, "mri": [n >= 12 for n in range(40)]}
    right = [True] * 12 + [n % 4 != 0 for n in range(28)]
    predictions = predicted(right, [0, 1] * 20, present)

    (note,) = presence_notes(predictions, NAMES)

    assert note == (
        "Of the cases with ct alone 12 of 12 were right (100.0 %, 95 % interval 75.8 to 100.0 %), of those with all 2 "
        "modalities 21 of 28 (75.0 %, 95 % interval 56.6 to 87.3 %): not the same cases, and the former may be easier."
    )


def test_cases_that_do_no_better_than_their_commonest_class_are_named() -> None:
    present = {"ct": [True] * 40, "mri": [n >= 12 for n in range(40)]}
    right = [n % 2 == 0 for n in range(12)] + [n % 4 == 0 for n in range(28)]
    predictions = predicted(right, [0, 1] * 20, present)

    complete, alone, more = presence_notes(predictions, NAMES)

    assert complete.startswith("Of the cases with all 2 modalities 7 of 28 were right (25.0 %, 95 % interval ")
    assert alone.startswith("Of the cases with ct alone 6 of 12 were right (50.0 %, 95 % interval 25.4 to 74.6 %), ")
    assert "no more than always predicting their most frequent class, no (6)." in alone
    assert "of those with all 2 modalities 7 of 28 (25.0 %" in more


def test_the_report_says_it_of_the_best_epoch(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", missing=0)
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min((e for e in events if e["event"] == "validation"), key=lambda e: e["loss"])
    for event in events:
        if event["event"] == "validation":
            value = 0.2 if event is best else 0.6
            event["unimodal"] = {"ct": {"loss": 1.0, "accuracy": value, "balanced_accuracy": value, "auroc": 0.6,
                                     "cases": 60}}  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    page = write_report(run).read_text()

    assert "ct alone is below chance on the 60 cases that have it: balanced accuracy 20.0 % (33.3 % by chance)" in page
    assert "ct alone was right in 12 of the 60 cases" in page


def test_a_cross_validation_adds_the_folds_up() -> None:
    alone = {"ct": {"loss": 1.0, "accuracy": 23 / 24, "balanced_accuracy": 0.9, "auroc": 0.9, "cases": 24}}
    folds = [replace(fold, validation={**fold.validation, "unimodal": alone}) for fold in folds_of(3)]

    page = pool("cv", folds, CLASSES, ["vw_mri", "mri", "ct"], origin=ORIGIN).page

    assert "ct alone was right in 69 of the 72 cases that have it" in page
