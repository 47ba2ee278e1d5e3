"""What trackers have of a run, read back from their own files."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import BIN, read_metrics


def wandb_records(run: Path) -> list[dict[str, Any]]:
    """The records of the one run that is there."""
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    done = subprocess.run(
        [str(BIN / "wandb"), "leet", "inspect", "--json", str(file)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def steps_in_wandb(run: Path, key: str = "train/loss") -> list[tuple[int, float]]:
    rows = [record["history"]["item"] for record in wandb_records(run) if record["type"] == "history"]
    return [(row["_step"], row[key]) for row in rows if key in row]


def steps_in_tensorboard(run: Path, key: str = "train/loss") -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(key)]


def steps_in_mlflow(run: Path, key: str = "train/loss") -> list[tuple[int, float]]:
    """From its file, which is closed before another process forks: SQLite does not work on in a child."""
    of_project = "experiment_id IN (SELECT experiment_id FROM experiments WHERE name = 'vwmm')"
    with closing(sqlite3.connect(run.parent / "mlflow.db")) as database:
        ((tracked,),) = database.execute(f"SELECT run_uuid FROM runs WHERE {of_project}")
        found = database.execute("SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ?", (tracked, key))
        return sorted(found)


def steps_in_trackio(cwd: Path, key: str = "train/loss") -> list[tuple[int, float]]:
    script = (
        "import json, trackio; from trackio.sqlite_storage import SQLiteStorage as S; "
        "(run,) = trackio.Api().runs('vwmm'); "
        f"print(json.dumps([(row['step'], row['{key}']) for row in S.get_logs('vwmm', run.name) if '{key}' in row]))"
    )
    done = subprocess.run(
        [str(BIN / "python"), "-c", script], capture_output=True, text=True, timeout=120,
        env={**os.environ, "TRACKIO_DIR": str(cwd / "trackio")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(step, value) for step, value in json.loads(done.stdout.splitlines()[-1])]


def everywhere(run: Path, cwd: Path, key: str = "train/loss") -> Iterator[tuple[str, list[tuple[int, float]]]]:
    yield "wandb", steps_in_wandb(run, key)
    yield "tensorboard", steps_in_tensorboard(run, key)
    yield "mlflow", steps_in_mlflow(run, key)
    yield "trackio", steps_in_trackio(cwd, key)


def assert_complete(run: Path, cwd: Path) -> None:
    """Each step and each epoch of metrics.jsonl is with each tracker once."""
    for event, key in (("train", "train/loss"), ("validation", "val/loss"), ("validation", "val/ct_unimodal/loss")):
        records = read_metrics(run, event)
        losses = [record["unimodal"]["ct"]["loss"] if "unimodal" in key else record["loss"] for record in records]
        expected = [(record["step"], loss) for record, loss in zip(records, losses, strict=True)]
        for kind, found in everywhere(run, cwd, key):
            assert [step for step, _ in found] == [step for step, _ in expected], (kind, key)
            assert [value for _, value in found] == pytest.approx([value for _, value in expected]), (kind, key)
