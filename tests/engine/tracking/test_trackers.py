"""What trackers get, read back from a real W&B offline run, and metrics.jsonl."""

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import BIN, TINY, Trained, read_metrics, run_command
from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.engine.tracking import trackers, wandb
from vwmm.engine.tracking.trackers import name_in_group, trackable_config


@pytest.fixture(autouse=True)
def fresh_wandb() -> None:
    """W&B reads its environment once in a process."""
    import wandb

    wandb.teardown()


def offline_file(run: Path) -> Path:
    files = list((run / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    return files[0]


def test_an_offline_run_holds_loss_accuracy_rate_and_configuration(trained: Trained) -> None:
    read = subprocess.run(
        [str(BIN / "wandb"), "leet", "inspect", "--summary", "--json", str(offline_file(trained.folder))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert read.returncode == 0, read.stderr
    summary = json.loads(read.stdout)
    text = json.dumps(summary)
    last = read_metrics(trained.folder, "validation")[-1]
    for key, value in (("val/loss", last["loss"]), ("val/accuracy", last["accuracy"]), ("train/lr", 0.002)):
        assert key in text
        assert str(value)[:12] in text, (key, value)
    assert "densenet_thin" in text


def test_no_case_patient_path_or_argument_is_in_what_wandb_wrote(trained: Trained, cohort: Path) -> None:
    rows = pd.read_csv(cohort)
    secrets = [
        *rows.case,
        *rows.patient,
        str(cohort.parent),
        "cohort.csv",
        "vw_mri/",
        str(trained.cwd),
        "--config_file",
    ]
    for path in (trained.folder / "wandb").rglob("*"):
        if path.is_file() and path.suffix != ".log":  # its own logs stay on this machine
            content = path.read_bytes()
            found = [secret for secret in secrets if secret.encode() in content]
            assert not found, (path, found)


def test_nothing_is_sent_by_default() -> None:
    assert load_config().tracking.trackers == []


def test_the_tracked_configuration_has_no_path() -> None:
    config = load_config([], ["data.csv=/secret/a.csv", "data.root=/secret", "modalities.ct.folder=secret_folder"])
    assert "secret" not in json.dumps(trackable_config(config))


def test_without_a_network_wandb_goes_offline_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        mode, why = wandb.choose_mode("auto")
    assert mode == "offline"
    assert "cannot be reached" in why


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection, and then nothing more: W&B itself would wait for 100 s."""
    monkeypatch.setattr(wandb, "PROBE_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        mode, why = wandb.choose_mode("auto")
    assert (mode, "cannot be reached" in why) == ("offline", True)


def test_a_server_that_answers_once_and_then_no_more_leaves_the_run_offline(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "_answers", lambda url: True)
    monkeypatch.setattr(wandb, "INIT_TIMEOUT_S", 1.0)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    config = load_config([], ["tracking.trackers=[wandb]"])
    opened = trackers.open_trackers(config, RunFolder(tmp_path))
    assert "W&B, offline" in opened.where()[0]
    assert "the server does not answer; later: `vwmm sync" in opened.where()[0]
    opened.finish()
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)

    assert not list((tmp_path / "wandb").glob("run-*"))


def test_a_malformed_key_is_said_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    mode, why = wandb.choose_mode("auto")
    assert (mode, "key" in why) == ("offline", True), why


def test_a_copy_of_a_run_gets_an_entry_of_its_own_and_a_moved_one_keeps_its(tmp_path: Path) -> None:
    config = load_config([], ["tracking.trackers=[mlflow]"])

    def entry_of(run: RunFolder) -> str:
        trackers.open_trackers(config, run).finish()
        return str(json.loads(run.tracker.read_text())["mlflow_id"])

    (tmp_path / "first").mkdir()
    entry = entry_of(RunFolder(tmp_path / "first"))
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    copied = entry_of(RunFolder(tmp_path / "copy"))
    assert copied != entry
    assert entry_of(RunFolder(tmp_path / "copy")) == copied
    (tmp_path / "first").rename(tmp_path / "moved")
    assert entry_of(RunFolder(tmp_path / "moved")) == entry
    shutil.move(tmp_path / "moved", tmp_path / "first")
    assert entry_of(RunFolder(tmp_path / "first")) == entry


def test_a_tracker_that_fails_is_told_no_more_and_costs_nothing_else(tmp_path: Path) -> None:
    class Told:
        def __init__(self, *, fails: bool) -> None:
            self.name, self.where, self.identity = "W&B", "W&B, online: https://x", ""
            self.rows, self.fails = list[Any](), fails

        def log(self, rows: Any) -> None:
            if self.fails:
                raise ConnectionError("the network has gone")
            self.rows += rows

    good, bad = Told(fails=False), Told(fails=True)
    both = trackers.Trackers(RunFolder(tmp_path), [bad, good])  # type: ignore[list-item]
    for step in (1, 2):
        both.log([{"event": "train", "epoch": 1, "step": step, "loss": 0.5, "lr": None}])
    assert len(both) == 1
    assert good.rows == [(step, {"train/loss": 0.5, "epoch": 1}) for step in (1, 2)]


def test_online_without_a_server_is_an_error_in_words(cohort: Path, tmp_path: Path) -> None:
    done = run_command(
        "train", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *TINY, "tracking.trackers=[wandb]",
        "tracking.mode=online", cwd=tmp_path, HOME=str(tmp_path), WANDB_BASE_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "W&B cannot be started" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_says_how_it_is_tracked(trained: Trained) -> None:
    assert f"W&B, offline; files in {trained.folder / 'wandb'}" in trained.process.stderr


@pytest.mark.parametrize(
    ("path", "group", "name"),
    [
        ("runs/first", None, "first"),
        ("runs/cv/fold-1", "cv", "cv/fold-1"),
        ("runs/fusion/only_ct/fold-1", "fusion", "fusion/only_ct/fold-1"),
        ("runs/first", "mine", "mine/first"),
        ("cv/runs/cv/fold-1", "cv", "cv/fold-1"),
    ],
)
def test_a_run_in_a_group_is_named_by_the_folders_below_it(path: str, group: str | None, name: str) -> None:
    assert name_in_group(RunFolder(Path(path)), group) == name
