"""`vwmm sync`, and the trackers themselves: whatever happens to a run, each of its steps is there once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY, Trained, read_metrics, run_command
from tests.tracked import assert_complete, steps_in_wandb, wandb_records

ALL = ("wandb", "tensorboard", "mlflow", "trackio")
NUM_STEPS = 61
PICTURES = {"learning_curves", "modalities_alone", "confusion_matrix", "roc", "precision_recall"}


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


def test_finished_run_is_sent_with_its_result_and_sending_twice_is_idempotent(copied: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = run_command(
            "sync", copied, f"tracking.trackers=[{','.join(ALL)}]", "tracking.group=cv", cwd=tmp_path,
            TRACKIO_DIR=str(tmp_path / "trackio"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "done, with its result" in done.stdout
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("wandb", "*"))]
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
