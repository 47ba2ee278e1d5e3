"""`vwmm sweep`: any number of workers train so many trials, each once, whatever happens in between."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY, run_command
from tests.faults.rehearsing import bits, environment, in_long_form, wait_for_silence
from tests.warm_start import WarmPopen
from vwmm.__main__ import main

NUM_TRIALS = 3
SPACE = """
metric: accuracy
parameters:
  train.lr: {low: 1e-4, high: 1e-2, log: true}
  model.dropout: {low: 0.0, high: 0.7}
  train.optimizer: {choices: [adam, adamw]}
"""
TIMEOUT_S = 400


class Started:
    """A worker in a process of its own, and what it says."""

    def __init__(self, cwd: Path, cohort: Path, name: str, *arguments: str) -> None:
        self.log = cwd / f"{name}.log"
        command = [sys.executable, "-m", "vwmm", "sweep", "--launch", "launch/cpu.yaml", "--space", "space.yaml"]
        command += ["--trials", str(NUM_TRIALS), f"data.csv={cohort}", *TINY, "run.name=s", *arguments]
        with self.log.open("w") as stream:
            self.process = WarmPopen(
                command, cwd=cwd, env=environment(), stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not is_there():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.02)

    def wait(self) -> int:
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def swept(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a sweep whose first trial was stopped by SIGUSR1, then killed -9, then taken over."""
    cwd = tmp_path_factory.mktemp("swept")
    (cwd / "space.yaml").write_text(SPACE)
    first = cwd / "runs" / "s" / "trial-0000"
    told = Started(cwd, cohort, "told")
    told.wait_for(lambda: "epochs, batch" in told.text)
    told.process.send_signal(signal.SIGUSR1)
    assert told.wait() == 75, told.text
    assert json.loads((first / "status.json").read_text())["state"] == "preempted", told.text
    killed = Started(cwd, cohort, "killed")
    killed.wait_for(lambda: "epochs, batch" in killed.text)
    killed.process.kill()
    killed.wait()
    together = [Started(cwd, cohort, f"together-{number}") for number in range(2)]
    for worker in together:
        assert worker.wait() == 0, worker.text
    wait_for_silence(cwd)
    return cwd


@pytest.mark.slow
def test_two_workers_train_each_trial_once(swept: Path) -> None:
    folder = swept / "runs" / "s"
    assert sorted(path.name for path in folder.glob("trial-*")) == [f"trial-{n:04d}" for n in range(NUM_TRIALS)]
    assert [row["state"] for row in rows(folder)] == ["complete"] * NUM_TRIALS
    texts = [(swept / f"together-{number}.log").read_text() for number in range(2)]
    for number in range(NUM_TRIALS):
        assert sum(f"trial {number} ({number + 1} of {NUM_TRIALS})" in text for text in texts) == 1, texts
        assert json.loads((folder / f"trial-{number:04d}" / "status.json").read_text())["state"] == "done"
    assert all("trial " in text for text in texts), "both had work"


@pytest.mark.slow
def test_trials_of_stopped_and_killed_workers_are_resumed(swept: Path) -> None:
    """In the same folder, with the values that were drawn for it, and not by who drew new ones first."""
    head = [line for line in (swept / "told.log").read_text().splitlines() if line.startswith("  train.lr=")]
    assert len(head) == 1
    assert head[0] in (swept / "killed.log").read_text()
    texts = [(swept / f"together-{number}.log").read_text() for number in range(2)]
    assert sum(head[0] in text for text in texts) == 1
    starts = json.loads((swept / "runs" / "s" / "trial-0000" / "environment.json").read_text())["earlier_starts"]
    assert len(starts) == 2


@pytest.mark.slow
def test_the_table_has_what_the_runs_have(swept: Path) -> None:
    folder = swept / "runs" / "s"
    for row in rows(folder):
        run = folder / f"trial-{int(row['number']):04d}"
        meta = json.loads((run / "checkpoints" / "best" / "meta.json").read_text())
        assert float(row["value"]) == meta["validation"]["accuracy"]
        assert (int(row["best_epoch"]), row["epochs"]) == (meta["validation"]["epoch"], "2")
        config = (run / "config.yaml").read_text()
        assert f"  optimizer: {row['train.optimizer']}\n" in config
        assert "  monitor: accuracy\n" in config
        assert "  group: s\n" in config
    page = (folder / "report.html").read_text()
    assert "This value is optimistic." in page
    assert "<code>vwmm sweep " in page
    assert re.search(r"<dd>\d{4}-\d\d-\d\d \d\d:\d\d", page)
    assert "chosen on the same\n7 cases" in page


@pytest.mark.slow
@in_long_form
def test_best_yaml_repeats_the_best_trial(swept: Path, tmp_path: Path) -> None:
    folder = swept / "runs" / "s"
    best = max(rows(folder), key=lambda row: (float(row["value"]), -int(row["number"])))
    done = run_command("train", "--launch", "launch/cpu.yaml", "--config", folder / "best.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert bits(swept / "runs" / "s-best") == bits(folder / f"trial-{int(best['number']):04d}")


@pytest.mark.slow
def test_repeated_command_trains_nothing_and_prints_the_result(swept: Path, cohort: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (swept / "runs" / "s").glob("trial-*/*")}
    again = Started(swept, cohort, "again")
    assert again.wait() == 0, again.text
    assert "trials   3 of 3: 3 complete" in again.text
    assert "chosen on the same cases: expect less on others" in again.text
    assert {path: path.stat().st_mtime_ns for path in (swept / "runs" / "s").glob("trial-*/*")} == before


def test_killed_trial_leaves_the_next_one_alone(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    done = run_command(
        "sweep", "--launch", "launch/cpu.yaml", "--space", "space.yaml", "--trials", "2", f"data.csv={cohort}", *TINY,
        "train.epochs=1", "run.name=s", cwd=tmp_path,
        VWMM_FAULT=f"step=2,phase=forward,do=kill,once={tmp_path}/killed",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed, complete = rows(tmp_path / "runs" / "s")
    assert (killed["state"], complete["state"]) == ("failed", "complete"), done.stderr
    assert "trial 0 failed: the process was killed from outside (out of memory?)" in done.stderr


@in_long_form
def test_a_hopeless_trial_is_stopped_early(cohort: Path, tmp_path: Path) -> None:
    """With this seed the second trial has less than half of the learning rate of the first, which is small already."""
    (tmp_path / "space.yaml").write_text("metric: loss\nparameters: {train.lr: {low: 1e-6, high: 1e-3, log: true}}\n")
    arguments = ["--trials", "2", "--startup", "1", "train.epochs=14", "train.seed=41"]
    done = run_command(
        "sweep", "--launch", "launch/cpu.yaml", "--space", "space.yaml", *arguments[:4], f"data.csv={cohort}", *TINY,
        *arguments[4:], "run.name=s", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    complete, pruned = rows(tmp_path / "runs" / "s")
    assert (complete["state"], pruned["state"]) == ("complete", "pruned"), done.stderr
    assert complete["epochs"] == "14"
    assert 2 <= int(pruned["epochs"]) < 14, "the first tenth decides nothing"
    status = json.loads((tmp_path / "runs" / "s" / "trial-0001" / "status.json").read_text())
    assert status["state"] == "preempted"
    assert status["epoch"] < 14
    assert "stopped by SIGUSR1" in status["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "nowhere.yaml"], "--space nowhere.yaml: file not found"),
        (["--trials", "0"], "argument --trials 0: expected a whole number from 1"),
        (["--startup", "many"], "argument --startup many: expected a whole number from 1"),
        (["--prune", "often"], "argument --prune often: expected median or none"),
        (["--launch", "nowhere.yaml"], "--launch nowhere.yaml: file not found"),
        (["run.resume=never"], "run.resume=never: a sweep resumes its existing trials"),
        (["train.lr=fast"], "train.lr: expected a valid number, found fast"),
        (["data.csv=nowhere.csv"], "nowhere.csv"),
        (["train.warmup_steps=4000"], "train.warmup_steps: 4000 is not below the"),
        (["--wrong", "1"], "argument --wrong: no such option; known are --config, --space"),
    ],
)
def test_a_mistake_is_said_before_anything_is_written(
    arguments: list[str], message: str, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert mistake(arguments, cohort, tmp_path, monkeypatch, SPACE) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_all_mistakes_are_said_at_once(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = "parameters: {train.lrr: {choices: [1]}, model.dropout: {low: 0, high: 2}}\n"
    assert mistake(["--trials", "x", "train.epochs=none"], cohort, tmp_path, monkeypatch, space) == 2
    said = capsys.readouterr().err
    for message in (
        "argument --trials x",
        "space.yaml line 1: train.lrr: no such key; did you mean train.lr?",
        "space.yaml line 1: model.dropout: expected a number less than 1, found 2",
        "argument train.epochs=none: train.epochs",
    ):
        assert message in said
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_values_that_the_cohort_does_not_allow_are_found(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = "parameters: {train.warmup_steps: {low: 0, high: 4000}, train.class_weights: {choices: [[1, 1], null]}}\n"
    assert mistake([], cohort, tmp_path, monkeypatch, space) == 2
    said = capsys.readouterr().err
    assert "train.warmup_steps: 4000 is not below the 8 steps of the whole training" in said
    assert "train.class_weights has 2 numbers, but there are 3 classes" in said


def mistake(arguments: list[str], cohort: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch, space: str) -> Any:
    """The exit code of `vwmm sweep`, in this process."""
    (cwd / "space.yaml").write_text(space)
    monkeypatch.chdir(cwd)
    defaults = [] if "--space" in arguments else ["--space", "space.yaml"]
    defaults += [] if "--launch" in arguments else ["--launch", "launch/cpu.yaml"]
    return main(["sweep", *defaults, f"data.csv={cohort}", *TINY, "run.name=s", *arguments])


def test_accelerate_launch_is_told_how_to_start_a_sweep(tmp_path: Path) -> None:
    done = run_command("-m", "vwmm.sweep", cwd=tmp_path, launcher=["--cpu", "--num_processes", "1"])
    assert "`vwmm sweep --launch launch/FILE.yaml`" in done.stderr
    assert list(tmp_path.iterdir()) == []
