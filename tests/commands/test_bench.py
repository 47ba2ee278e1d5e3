"""`vwmm bench`: the bottleneck that a test plants is the one that it names.

What is planted takes hundreds of times what the rest takes, so that no noise of the machine can change the verdict.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, TINY, run_command
from vwmm.__main__ import main
from vwmm.data.augmentation.changes import CHANGES
from vwmm.data.cache import memory_maps
from vwmm.data.cache.memory_maps import EntryMaps
from vwmm.models.norm import MicroBatchNorm

SLOW_S = 0.05
QUIET = [*TINY, "model.norm=batch", "train.epochs=1", "augment.all.enabled=false"]


def slowed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The same, after a while."""

    def later(*arguments: Any, **more: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **more)

    return later


def bench(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict[str, Any]:
    """What `vwmm bench --json` prints."""
    capsys.readouterr()
    assert main(["bench", "--json", "--seconds", "10", f"cache.dir={folder / 'cache'}", *words]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_slow_disk_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is slow to come when it is first read, as from a network disk, and at once from then on."""
    monkeypatch.setattr(memory_maps, "verify", slowed(memory_maps.verify, SLOW_S))
    told = bench(capsys, tmp_path, *QUIET)
    assert told["bottleneck"] == "disk"
    assert told["change_first"].startswith("put cache.dir on a local disk, or cache.dtype=float16")
    assert told["input_cases_per_s"]["cold"] < 20 < told["input_cases_per_s"]["warm"]


def test_heavy_augmentation_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change of the images that takes long, added where changes are added."""
    monkeypatch.setitem(CHANGES, "slow", lambda settings, random: slowed(lambda image: image, SLOW_S))
    told = bench(capsys, tmp_path, *QUIET, "augment.all.enabled=true")
    assert told["bottleneck"] == "augmentation"
    assert "augment.vw_mri." in told["change_first"]
    parts = told["step"]["parts_s"]
    assert max(parts, key=parts.get) == "augmentation"


def test_tiny_batch_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each normalisation takes as long as it does to launch it, whatever it normalises."""
    monkeypatch.setattr(MicroBatchNorm, "forward", slowed(MicroBatchNorm.forward, SLOW_S / 10))
    told = bench(capsys, tmp_path, *QUIET, "train.batch_size=2", "train.micro_batch_size=2")
    assert told["bottleneck"] == "overhead"
    assert told["change_first"].startswith("train.batch_size=8")


def test_passes_of_a_single_micro_batch_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MicroBatchNorm, "forward", slowed(MicroBatchNorm.forward, SLOW_S / 10))
    told = bench(capsys, tmp_path, *QUIET, "train.batch_size=8", "train.micro_batch_size=2", "train.cases_at_once=2")
    assert told["bottleneck"] == "overhead"
    assert told["step"]["passes"] == 4
    assert told["change_first"].startswith("train.cases_at_once=8")


def test_starved_loader_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each image takes long to read, each time, and nobody reads ahead."""
    monkeypatch.setattr(EntryMaps, "voxels", slowed(EntryMaps.voxels, SLOW_S))
    told = bench(capsys, tmp_path, *QUIET, "train.num_workers=0")
    assert told["bottleneck"] == "input"
    assert told["change_first"].startswith("train.num_workers=")
    assert told["devices_fed"]["warm"] < 1


def test_result_of_a_cohort_is_shown_and_nothing_is_left(cohort: Path, tmp_path: Path) -> None:
    done = run_command("bench", f"data.csv={cohort}", *TINY, "--seconds", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "16 cases of the cohort", "cases to train on: 0:0",
        "first time ", "cold ", "warm ", "feeds ", "a step of ", "input wait", "copy",
        "augmentation", "forward", "backward", "reduce", "optimizer", "arithmetic", "bytes", "launches", "memory ",
        "bottleneck ", "change first ",
    ):  # fmt: skip
        assert text in done.stdout, text
    assert list(tmp_path.iterdir()) == []


def test_parts_add_up_to_the_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU nothing runs beside the loop but the reading."""
    told = bench(capsys, tmp_path, *TINY)
    assert told["synthetic"] is True
    assert sum(told["step"]["parts_s"].values()) == pytest.approx(told["step"]["seconds"], rel=1e-6)
    assert set(told["floors_s"]) == {"arithmetic", "bytes", "launches"}
    assert told["memory_bytes"]["gpu"] is None
    assert told["memory_bytes"]["process"] > 10**8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--seconds", "0"], "--seconds: expected a whole number"),
        (["train.epoch=3"], "train.epochs"),
        (["data.csv=nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_input_is_exit_code_2(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert hint in capsys.readouterr().err


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["bench"]) == 2
    assert "start it without a launcher" in capsys.readouterr().err


def test_signal_removes_what_was_written(tmp_path: Path) -> None:
    """As a batch system or a closed terminal ends it."""
    words = ["bench", *TINY, "--seconds", "600"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "vwmm", *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 120
    while not list(tmp_path.glob(".vwmm-bench-*/cache/*/*.npy")):
        assert time.monotonic() < end
        time.sleep(0.1)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in stderr.decode()
    assert list(tmp_path.iterdir()) == []
