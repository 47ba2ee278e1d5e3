"""Checks and writes the folder of an evaluation: predictions_test.csv, evaluation.json, report.html."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vwmm.analysis.pages.evaluation_report import describe, evaluate_table
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.recalibration.operating_point import DEFAULT
from vwmm.analysis.run_record import RunRecord
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.recorded_predictions import read_written_table
from vwmm.analysis.subgroups import Grouping
from vwmm.config.run_folder import RunFolder, open_in_place, refuse_links, write_whole
from vwmm.config.split_record import SplitRecord
from vwmm.data.cohort.split_file import SplitRow, hash_of_images, hash_of_split
from vwmm.engine.evaluation.evaluation_log import LOG_NAME, folder_of_evaluations
from vwmm.system.errors import UserError

RESULTS, TABLE, PAGE = "evaluation.json", "predictions_test.csv", "report.html"


def check_split(run: RunFolder, rows: Mapping[str, SplitRow]) -> None:
    """Raises UserError where split.csv is not the split that the run was trained with."""
    try:
        told = json.loads(run.environment.read_text(encoding="utf-8"))
        split, images = told["split_hash"], told.get("images_hash")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run.environment}: has no hash of the run's split; put the file back") from error
    if split != hash_of_split(rows) or images not in (None, hash_of_images(rows)):
        raise UserError(
            f"{run.split}: is not the split that the run was trained with: its hash is not that of environment.json; "
            "put the run's own back"
        )


def split_of(run: RunFolder) -> SplitRecord | None:
    """How the run's split came about; None where it was not recorded."""
    return SplitRecord.of_json(run.read_environment().get("split"))


def check_folder(run: RunFolder, out: Path, hash_of_cases: str) -> None:
    """Raises UserError where a folder holds anything but an evaluation of these cases, or the log cannot be written."""
    log = folder_of_evaluations(run) / LOG_NAME
    try:
        refuse_links(run.path, (), (log.parent.name,))
        log.parent.mkdir(exist_ok=True)
        refuse_links(log.parent, (log.name,))
        open_in_place(log, "a").close()
    except OSError as error:
        raise UserError(f"{log}: cannot be written ({error.strerror}), and evaluations are counted there") from error
    try:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out}: this is a file; expected the name of a folder")
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise UserError(f"{out}: this folder cannot be written to; choose another one: --out DIR")
    except OSError as error:
        raise UserError(
            f"{out}: this folder cannot be made ({error.strerror}); choose another one: --out DIR"
        ) from error
    if not any(out.iterdir()):
        return
    try:
        before = json.loads((out / RESULTS).read_text(encoding="utf-8"))["cases_hash"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out}: this folder holds something else; choose another one: --out DIR") from error
    if before != hash_of_cases:
        raise UserError(
            f"{out}: holds an evaluation of other cases, labels or images; choose another folder: --out DIR"
        )


def write_evaluation(
    out: Path,
    predictions: Predictions,
    sites: list[str],
    facts: dict[str, Any],
    *,
    origin: Origin,
    record: RunRecord,
    groupings: Sequence[Grouping] = (),
    calibration: CalibrationRecord | str,
    operating_point: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Writes the table, evaluation.json and the page; (lines for people, content of evaluation.json)."""
    text = predictions.with_shapley_columns().to_csv()
    table = read_written_table(io.StringIO(text))
    found = evaluate_table(
        table, list(predictions.classes), list(predictions.modalities), sites, facts, origin=origin, record=record,
        groupings=groupings, calibration=calibration, operating_point=operating_point or DEFAULT,
        shapley=predictions.of_true_class(),
    )  # fmt: skip
    write_whole(out / RESULTS, json.dumps(found.summary, indent=2) + "\n")  # first: it marks the owner of this folder
    write_whole(out / TABLE, text)
    write_whole(out / PAGE, found.page.encode("utf-8", "replace"))
    return describe(found.summary), found.summary
