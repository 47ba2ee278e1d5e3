"""Counts how often each test set was used.

runs/NAME/evaluations/log.jsonl has one line an evaluation, wherever its results are: what was counted cannot be undone.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vwmm.config.run_folder import RunFolder, open_in_place

LOG_NAME = "log.jsonl"


def folder_of_evaluations(run: RunFolder) -> Path:
    """Where the evaluations of a run are, and the log that counts them."""
    return run.path / "evaluations"


def count_evaluation(run: RunFolder, hash_of_cases: str, num_test_cases: int, *, num_processes: int = 1) -> int:
    """Logs an evaluation before its result is shown; returns the number of evaluations, including this one.

    Of a run's own test cases any evaluation counts that had some of them, of others those of the very same cases.
    """
    path = folder_of_evaluations(run) / LOG_NAME
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
