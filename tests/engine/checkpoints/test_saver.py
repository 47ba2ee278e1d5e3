"""Writing checkpoints in the background, and what a full disk costs."""

import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.checkpoints.test_checkpoint import state_of
from vwmm.config.run_folder import RunFolder
from vwmm.engine.checkpoints import saver as saver_module
from vwmm.engine.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from vwmm.engine.checkpoints.saver import Saver
from vwmm.engine.console import LOG
from vwmm.engine.tracking.metrics_file import MetricsFile
from vwmm.system.errors import RunError


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[Saver]:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    saver = Saver(run, MetricsFile(run.metrics), keep=1, snapshot=tmp_path / "memory" / "last")
    yield saver
    saver.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A disk that can be made full."""
    state = {"is_full": False}

    def write(folder: Path, *arguments: Any, **options: Any) -> None:
        if state["is_full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_checkpoint(folder, *arguments, **options)

    monkeypatch.setattr(saver_module, "write_checkpoint", write)
    return state


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, logger=LOG.name)
    return caplog


def test_first_checkpoint_that_cannot_be_written_ends_the_run(saver: Saver, disk: dict[str, bool]) -> None:
    disk["is_full"] = True
    saver.save(state_of(4))

    with pytest.raises(RunError, match=r"the first checkpoint, of step 4, .*No space left.*make room on the disk"):
        saver.wait()


def test_full_disk_costs_later_checkpoints_only_and_is_reported_once(
    saver: Saver, disk: dict[str, bool], lines: pytest.LogCaptureFixture
) -> None:
    saver.save(state_of(2))
    saver.wait()
    disk["is_full"] = True
    for step in (4, 6):
        saver.save(state_of(step))
        saver.wait()

    assert read_checkpoint(saver.run.last).progress.step == 2
    with pytest.raises(RunError, match=r"checkpoint of step 6 .*the last one is of step 2.*resumes from there"):
        saver.require(6)
    disk["is_full"] = False
    saver.save(state_of(8))
    saver.require(8)

    assert read_checkpoint(saver.run.last).progress.step == 8
    assert [line.split(" (")[0] for line in lines.messages] == [
        "the checkpoint of step 4 could not be written", "checkpoints are written again, from step 8 on",
    ]  # fmt: skip


def test_snapshot_that_cannot_be_kept_is_given_up_and_training_goes_on(
    saver: Saver, disk: dict[str, bool], lines: pytest.LogCaptureFixture
) -> None:
    place = saver.snapshot
    assert place is not None
    place.parent.mkdir()
    saver.keep_in_memory(state_of(2))
    assert read_checkpoint(place).progress.step == 2

    disk["is_full"] = True
    saver.keep_in_memory(state_of(4))
    saver.keep_in_memory(state_of(6))

    assert not place.parent.exists()
    assert len(lines.messages) == 1
    assert lines.messages[0].endswith("from here on only checkpoints are written")


def test_best_checkpoint_and_predictions_are_on_the_disk_before_the_last_one(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = list[str]()
    monkeypatch.setattr(saver_module, "write_checkpoint", lambda folder, *_, **__: order.append(folder.name))
    monkeypatch.setattr(saver_module, "write_whole", lambda path, text: order.append(path.name))

    saver.save(state_of(2), best=state_of(2), predictions="case\n")
    saver.wait()

    assert order == ["best", "predictions_val.csv", "last"]
