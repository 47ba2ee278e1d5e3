"""metrics.jsonl: each step and epoch once, whatever happened."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from vwmm.engine.tracking import metrics_file
from vwmm.engine.tracking.metrics_file import MetricsFile, cut_metrics, last_step

STEPS: list[dict[str, Any]] = [{"event": "train", "epoch": 1 + step // 4, "step": step} for step in range(1, 7)]
EPOCH: dict[str, Any] = {"event": "validation", "epoch": 1, "step": 3}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_cut_back_to_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).write([*STEPS, EPOCH, {**EPOCH, "epoch": 2, "step": 6}])
    with path.open("a") as stream:
        stream.write('{"event": "tra')
    assert cut_metrics(path, epoch=1, step=3) == []
    assert lines_of(path) == [*STEPS[:3], EPOCH]


def test_the_validation_of_an_epoch_that_is_not_complete_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).write([*STEPS[:3], EPOCH])
    cut_metrics(path, epoch=0, step=3)
    assert lines_of(path) == STEPS[:3]


def test_lines_that_are_no_records_or_doubles_are_cut_and_missing_steps_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    kept = [json.dumps(STEPS[0]), "[1]", '{"event": "train"}', "\x00\xff", json.dumps(STEPS[0]), json.dumps(STEPS[2])]
    kept += ['{"event": "train", "epoch": 1, "step": Infinity}', '{"event": [1], "epoch": 1, "step": 2}']
    path.write_bytes("\n".join(kept).encode("latin-1"))
    assert cut_metrics(path, epoch=0, step=3) == [2]
    assert lines_of(path) == [STEPS[0], STEPS[2]]
    assert last_step(path) == 3


def test_a_run_without_the_file_has_lost_all_its_steps(tmp_path: Path) -> None:
    assert cut_metrics(tmp_path / "metrics.jsonl", epoch=0, step=2) == [1, 2]
    assert last_step(tmp_path / "nothing") == 0


def test_a_value_that_is_no_number_is_not_written_as_invalid_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        MetricsFile(tmp_path / "metrics.jsonl").write([{"loss": float("nan")}])


def test_on_a_full_disk_lines_wait_and_no_half_of_one_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write(STEPS[:1])

    def fill_up(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(metrics_file, "_write_all", fill_up)
        metrics.write(STEPS[1:3])
        with pytest.raises(OSError, match="No space"):
            metrics.flush()
        assert lines_of(path) == STEPS[:1]
    metrics.write(STEPS[3:])
    assert lines_of(path) == STEPS
