"""The page of a cross-validation has what that of an evaluation has."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.analysis.conftest import CANARY, ORIGIN
from tests.analysis.pictures import with_pictures
from tests.analysis.printed import CLASSES, evaluation_page, folds_of
from vwmm.analysis.pages.cross_validation_report import pool
from vwmm.analysis.pages.evaluation_report import evaluate_table
from vwmm.analysis.run_record import read_run

MODALITIES = ["vw_mri", "mri", "ct"]
SHARED = (
    "Sensitivity", "Specificity", "Precision", "AUROC", "hospital of city number 3 of the north-western region",
    "Calibration (N = 90 cases)", "The mean probability minus the observed share is", "ROC (N = 90 cases)",
    "Precision and sensitivity (N = 90 cases)", "Confusion matrix (N = 90 cases)", "Cases that have the image",
    "By the modalities that are present", "Model and recipe", "Full configuration, without paths",
    "micro_batch_size: 2",
)  # fmt: skip


def test_both_pages_have_the_same_parts(make_run: Callable[..., Path], tmp_path: Path) -> None:
    record = read_run(make_run(tmp_path / "fold-0", classes=CLASSES))

    pooled = with_pictures(pool("cv", folds_of(3), CLASSES, MODALITIES, origin=ORIGIN, record=record).page)
    evaluated = with_pictures(evaluation_page(record))

    assert [words for words in SHARED if words not in pooled] == []
    assert [words for words in SHARED if words not in evaluated] == []
    assert CANARY not in pooled + evaluated


def test_the_summary_has_classes_sites_and_calibration_as_an_evaluation_of_the_same_cases() -> None:
    folds = folds_of(3)
    pooled = pool("cv", folds, CLASSES, MODALITIES, origin=ORIGIN).summary
    table = pool("cv", folds, CLASSES, MODALITIES, origin=ORIGIN).table
    facts = {"run": "x", "epoch": 1, "is_test": True, "num_test_cases": 90, "times_evaluated": 1}

    found = evaluate_table(table, CLASSES, MODALITIES, list(table["site"]), facts, origin=ORIGIN).summary

    for key in ("metrics", "warnings", "by_class", "by_site", "calibration"):
        assert pooled[key] == found[key] != []
    assert json.loads(json.dumps(pooled)) == pooled


def test_without_sites_there_is_no_table_of_sites() -> None:
    folds = [replace(fold, predictions=fold.predictions.drop(columns="site")) for fold in folds_of(2)]

    found = pool("cv", folds, CLASSES, MODALITIES, origin=ORIGIN)

    assert found.summary["by_site"] == []
    assert "By site" not in found.page
