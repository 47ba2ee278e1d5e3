"""`vwmm sync`, and the trackers themselves: whatever happens to a run, each of its steps is there once."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import BIN, TINY, Trained, read_metrics, run_command

ALL = ("wandb", "tensorboard", "mlflow", "trackio")
NUM_STEPS = 61
PICTURES = {"learning_curves", "modalities_alone", "confusion_matrix", "roc"}


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
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.parent}/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "vwmm"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(tracked.info.run_id, key)
    return sorted((metric.step, metric.value) for metric in history)


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
    for event, key in (("train", "train/loss"), ("validation", "val/loss"), ("validation", "val/ct_alone/loss")):
        records = read_metrics(run, event)
        losses = [record["alone"]["ct"]["loss"] if "alone" in key else record["loss"] for record in records]
        expected = [(record["step"], loss) for record, loss in zip(records, losses, strict=True)]
        for kind, found in everywhere(run, cwd, key):
            assert [step for step, _ in found] == [step for step, _ in expected], (kind, key)
            assert [value for _, value in found] == pytest.approx([value for _, value in expected]), (kind, key)


def test_a_run_that_was_killed_is_sent_whole_and_then_goes_on_as_one_run(cohort: Path, tmp_path: Path) -> None:
    words = [
        f"data.csv={cohort}", *TINY, "run.name=x", "train.epochs=16", "train.log_every=1",
        f"tracking.trackers=[{','.join(ALL)}]", "tracking.mode=offline",
    ]  # fmt: skip
    local: dict[str, Any] = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    command = ["train", "--launch", "launch/cpu.yaml", *words]
    fault = f"step={NUM_STEPS + 1},phase=forward,do=kill"
    killed = run_command(*command, cwd=tmp_path, VWMM_FAULT=fault, **local)
    assert killed.returncode == 1, killed.stderr
    run = tmp_path / "runs" / "x"
    identity = json.loads((run / "tracker.json").read_text())["wandb_id"]

    done = run_command("sync", run, cwd=tmp_path, **local)
    assert done.returncode == 0, done.stderr
    assert f"{run}: {NUM_STEPS} steps, 15 validations, failed" in done.stdout
    assert [step for step, _ in steps_in_wandb(run)] == list(range(1, NUM_STEPS + 1))
    assert_complete(run, tmp_path)

    gone_on = run_command(*command, cwd=tmp_path, **local)
    assert gone_on.returncode == 0, gone_on.stderr
    assert_complete(run, tmp_path)
    assert [step for step, _ in steps_in_wandb(run)] == list(range(1, 65))
    assert json.loads((run / "tracker.json").read_text())["wandb_id"] == identity
    (tracked,) = [record["run"] for record in wandb_records(run) if record["type"] == "run"]
    assert tracked["run_id"] == identity


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """A finished run, which was tracked by nobody."""
    run = tmp_path / "runs" / "tiny"
    shutil.copytree(trained.folder, run, ignore=shutil.ignore_patterns("wandb", "tracker.json"))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("trackers: [wandb]", "trackers: []"))
    return run


def test_a_finished_run_is_sent_with_its_result_and_a_second_time_changes_nothing(copied: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = run_command(
            "sync", copied, f"tracking.trackers=[{','.join(ALL)}]", "tracking.group=cv", cwd=tmp_path,
            TRACKIO_DIR=str(tmp_path / "trackio"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "done, with its result" in done.stdout
        assert_complete(copied, tmp_path)
    (tracked,) = [record["run"] for record in wandb_records(copied) if record["type"] == "run"]
    assert (tracked["display_name"], tracked["run_group"]) == ("cv/tiny", "cv")
    (media,) = (copied / "wandb").glob("offline-run-*/files/media")
    assert {path.name.rsplit("_", 2)[0] for path in (media / "images").iterdir()} == PICTURES
    table = json.loads(next((media / "table").iterdir()).read_text())
    assert table["columns"][:3] == ["number", "label", "predicted"]
    assert len(table["data"]) == read_metrics(copied, "validation")[-1]["cases"]
    assert {path.stem for path in copied.parent.glob("mlflow_artifacts/**/*.png")} == PICTURES


def test_images_are_sent_where_that_is_asked_for(copied: Path, tmp_path: Path) -> None:
    done = run_command("sync", copied, "tracking.trackers=[wandb]", "tracking.images=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name.rsplit("_", 2)[0] for path in (copied / "wandb").glob("offline-run-*/files/media/images/*")}
    assert names == PICTURES | {"example_1", "example_2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "has no tracker; name one: vwmm sync"),
        (["train.epochs=3"], "train.epochs=3: only keys of `tracking` can be set here"),
        (["tracking.trackers=[wandbb]"], "tracking.trackers"),
        (["tracking.trackers=[wandb]", "tracking.mode=online"], "W&B cannot be started"),
    ],
)
def test_what_cannot_be_sent_is_said(words: list[str], message: str, copied: Path, tmp_path: Path) -> None:
    done = run_command("sync", copied, *words, cwd=tmp_path, HOME=str(tmp_path), WANDB_BASE_URL="http://127.0.0.1:9")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_being_computed_is_left_alone(copied: Path, tmp_path: Path) -> None:
    from vwmm.config.run_folder import RunFolder

    with RunFolder(copied).lock():
        done = run_command("sync", copied, "tracking.trackers=[wandb]", cwd=tmp_path)
    assert (done.returncode, "is in use by process" in done.stderr) == (2, True), done.stderr
    done = run_command("sync", tmp_path / "none", cwd=tmp_path)
    assert (done.returncode, "this is no run folder" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "none").exists()
