"""Where evaluations are kept, and how often each test set was used.

runs/NAME/evaluations/log.jsonl       one line an evaluation, wherever its results are: who counts, cannot forget
runs/NAME/evaluations/test/           predictions_test.csv, evaluation.json, report.html
"""

import fcntl
import io
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vwmm.analysis.pages.evaluation_report import describe, evaluate_table
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.run_record import RunRecord, read_written_table
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.config.run_folder import RunFolder, open_in_place, refuse_links, write_whole
from vwmm.config.split_record import SplitRecord
from vwmm.data.cohort.split_file import SplitRow, hash_of_images, hash_of_split
from vwmm.system.errors import UserError

RESULTS, TABLE, PAGE = "evaluation.json", "predictions_test.csv", "report.html"
_LOG = "log.jsonl"


def folder_of_evaluations(run: RunFolder) -> Path:
    """Where the evaluations of a run are, and the log that counts them."""
    return run.path / "evaluations"


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
    try:
        return SplitRecord.of_json(json.loads(run.environment.read_text(encoding="utf-8")).get("split"))
    except (OSError, ValueError, AttributeError):
        return None


def check_folder(run: RunFolder, out: Path, hash_of_cases: str) -> None:
    """Raises UserError where a folder holds anything but an evaluation of these cases, or the log cannot be written."""
    log = folder_of_evaluations(run) / _LOG
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


def count_evaluation(run: RunFolder, hash_of_cases: str, num_test_cases: int, *, num_processes: int = 1) -> int:
    """Logs an evaluation before its result is shown; returns the number of evaluations, including this one.

    Of a run's own test cases any evaluation counts that had some of them, of others those of the very same cases.
    """
    path = folder_of_evaluations(run) / _LOG
    path.parent.mkdir(exist_ok=True)
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cases_hash": hash_of_cases,
        "num_test_cases": num_test_cases,
        "num_processes": num_processes,
    }
    with open_in_place(path, "a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        text = path.read_text("utf-8", "replace")
        lines = text.splitlines()
        stream.write("\n" * (text != "" and not text.endswith("\n")) + json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return 1 + sum(_is_another_look(line, entry) for line in lines)


def _is_another_look(line: str, entry: Mapping[str, Any]) -> bool:
    try:
        before = json.loads(line)
        same = bool(before["cases_hash"] == entry["cases_hash"])
        return same or bool(before["num_test_cases"] and entry["num_test_cases"])
    except (ValueError, KeyError, TypeError):
        return bool(line.strip())  # damaged: it was one of something


def write_evaluation(
    out: Path, predictions: Predictions, sites: list[str], facts: dict[str, Any], *, origin: Origin, record: RunRecord
) -> tuple[str, dict[str, Any]]:
    """Writes the table, evaluation.json and the page; (lines for people, content of evaluation.json)."""
    text = predictions.to_csv()
    table = read_written_table(io.StringIO(text))
    found = evaluate_table(
        table, list(predictions.classes), list(predictions.modalities), sites, facts, origin=origin, record=record
    )
    write_whole(out / RESULTS, json.dumps(found.summary, indent=2) + "\n")  # first: it marks the owner of this folder
    write_whole(out / TABLE, text)
    write_whole(out / PAGE, found.page.encode("utf-8", "replace"))
    return describe(found.summary), found.summary
