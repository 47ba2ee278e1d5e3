"""Which precision `auto` becomes, and where it leaves bf16 alone."""

from types import SimpleNamespace

import pytest

from vwmm.config.schema import Train
from vwmm.engine.distributed import precision, runtime
from vwmm.engine.distributed.precision import Convolutions, choose_precision, describe_choice, half_precision_fault

GPU = Convolutions(torch="2.13.0", cudnn=91900, has_gpu=True, has_bf16=True)
SLOW = Convolutions(torch="2.9.0", cudnn=91002, has_gpu=True, has_bf16=True)
WRONG = Convolutions(torch="2.8.0", cudnn=91002, has_gpu=True, has_bf16=True)
CPU = Convolutions(torch="2.9.0", cudnn=None, has_gpu=False, has_bf16=False)


@pytest.mark.parametrize(
    ("torch", "cudnn", "fault"),
    [
        ("2.8.0+cu128", 90701, None),
        ("2.8.0+cu128", 90800, "wrong"),
        ("2.8.0+cu128", 91002, "wrong"),
        ("2.8.0+cu128", 91100, None),
        ("2.9.0+cu128", 91002, "slow"),  # does without cuDNN from 9.8 on
        ("2.9.0+cu130", 91501, "slow"),
        ("2.9.0+cu118", 90701, None),
        ("2.9.1+cu128", 91002, "slow"),
        ("2.10.0", 91400, "slow"),
        ("2.10.0", 91501, None),
        ("2.13.0+cpu", None, None),
        ("2.9.0a0+git123", 91002, "slow"),
    ],
)
def test_pairs_of_torch_and_cudnn_are_told_apart(torch: str, cudnn: int | None, fault: str | None) -> None:
    assert half_precision_fault(torch, cudnn) == fault


@pytest.mark.parametrize(
    ("setting", "found", "has_volumes", "chosen"),
    [
        ("auto", GPU, True, "bf16"),
        ("auto", SLOW, True, "no"),
        ("auto", WRONG, True, "no"),
        ("auto", WRONG, False, "bf16"),  # slices only: 3D convolutions alone are concerned
        ("auto", CPU, True, "no"),
        ("auto", Convolutions("2.13.0", 91900, has_gpu=True, has_bf16=False), True, "fp16"),
        ("bf16", WRONG, True, "bf16"),
        ("no", GPU, True, "no"),
    ],
)
def test_auto_takes_half_precision_only_where_convolutions_can_be_trusted(
    setting: str, found: Convolutions, has_volumes: bool, chosen: str
) -> None:
    assert choose_precision(setting, found, has_volumes=has_volumes) == chosen


def test_choice_is_told_where_the_libraries_decide_it() -> None:
    told = describe_choice("auto", WRONG, has_volumes=True)
    assert told is not None
    assert told.kind == "precision_avoided"
    assert "float32" in told.found
    assert "torch 2.8.0 with cuDNN 9.10.2" in told.found
    asked = describe_choice("bf16", WRONG, has_volumes=True)
    assert asked is not None
    assert asked.kind == "precision_wrong"
    asked = describe_choice("bf16", SLOW, has_volumes=True)
    assert asked is not None
    assert asked.kind == "precision_slow"
    for quiet in (
        describe_choice("auto", GPU, has_volumes=True),
        describe_choice("no", WRONG, has_volumes=True),
        describe_choice("auto", WRONG, has_volumes=False),
        describe_choice("bf16", CPU, has_volumes=True),
    ):
        assert quiet is None


def test_start_of_training_tells_why_bf16_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list[str]()
    monkeypatch.setattr(precision, "find_convolutions", lambda **_: WRONG)
    monkeypatch.setattr(runtime, "find_convolutions", lambda **_: WRONG)
    monkeypatch.setattr(runtime, "LOG", SimpleNamespace(info=lambda text, *values: lines.append(text % values)))
    started = runtime.start_runtime(Train())
    assert started.mixed_precision == "no"
    (line,) = lines
    assert line.startswith("warning: ")
    assert "9.10.2" in line
    assert "float32" in line
    assert "cuDNN 9.15" in line
