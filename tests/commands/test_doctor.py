"""`vwmm doctor`, as a user starts it."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY
from vwmm.__main__ import main
from vwmm.engine.distributed.precision import Convolutions
from vwmm.engine.machine import facts


def test_machine_is_shown_with_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *TINY, f"cache.dir={tmp_path / 'cache'}"]) == 0
    shown = capsys.readouterr().out
    for name in ("torch", "GPUs", "CPU", "/dev/shm", "cache"):
        assert f"  {name} " in shown
    assert "warning: Batch norm with few cases: 1" in shown
    assert "to do: try a larger train.micro_batch_size" in shown
    assert shown.rstrip().endswith("1 warning")
    assert list(tmp_path.iterdir()) == []


def test_json_has_facts_and_findings(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the cohort some images are missing, so batch norm sees fewer than a micro-batch."""
    words = [f"data.csv={cohort}", *TINY, "train.micro_batch_size=4", f"cache.dir={tmp_path}"]
    assert main(["doctor", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"error": 0, "warning": 1, "note": 0}
    (finding,) = told["findings"]
    assert finding["kind"] == "few_in_batch_norm"
    assert finding["key"] == "train.micro_batch_size"
    assert told["machine"]["num_cores"] >= 1
    assert told["machine"]["disk"]["read_bytes_per_s"] > 0


def test_error_of_the_machine_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Convolutions("2.8.0", 91002, has_gpu=True, has_bf16=True)
    monkeypatch.setattr(facts, "find_convolutions", lambda **_: wrong)
    words = ["model.norm=group", f"cache.dir={tmp_path}"]
    assert main(["doctor", *words, "train.mixed_precision=bf16"]) == 1
    assert "error: A precision that this cuDNN computes wrongly" in capsys.readouterr().out
    assert main(["doctor", *words]) == 0
    shown = capsys.readouterr().out
    assert "precision  float32" in shown
    assert "train.mixed_precision=auto uses float32" in shown


def test_wrong_configuration_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "train.epoch=3"]) == 2
    assert "train.epochs" in capsys.readouterr().err
