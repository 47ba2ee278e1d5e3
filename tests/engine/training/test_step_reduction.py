"""What a step agrees on, in one process."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vwmm.engine.training.epoch import Pass, TrainStep
from vwmm.engine.training.step_reduction import StepReduction, StepResult
from vwmm.models.micro_batches import MicroBatches
from vwmm.system.signals import STOP


def reduce(losses: list[float], *, norm: float = 1.0, scaler: object = None, wants_save: bool = False) -> StepResult:
    runtime: Any = SimpleNamespace(
        num_processes=1, device=torch.device("cpu"), accelerator=SimpleNamespace(scaler=scaler)
    )
    rows = MicroBatches(np.ones((0, 1), dtype=bool), ())
    passes = [Pass([number], [number], rows, False) for number in range(len(losses))]
    passes.append(Pass([], [], rows, True))
    step = TrainStep(7, [[number] for number in range(len(losses))], passes, [])
    reduction = StepReduction(runtime, step, 0.1, wants_save=wants_save)
    for part, loss in zip(passes, [*losses, 100.0], strict=True):
        reduction.add(part, torch.tensor([loss]))
    return reduction.wait(torch.tensor(norm))


def test_losses_add_up_and_that_of_an_empty_pass_does_not_count() -> None:
    result = reduce([0.25, 0.5], norm=3.0)

    assert (result.losses, result.loss, result.grad_norm, result.num_cases) == ([0.25, 0.5], 0.75, 3.0, 2)
    assert (result.is_finite, result.should_stop, result.should_save) == (True, False, False)
    assert result.values() == {"loss": 0.75, "grad_norm": 3.0}


@pytest.mark.parametrize(("losses", "norm"), [([0.5, math.nan], 1.0), ([0.5, math.inf], 1.0), ([0.5], math.inf)])
def test_non_finite_losses_and_norms_are_found_and_not_written(losses: list[float], norm: float) -> None:
    result = reduce(losses, norm=norm)

    assert not result.is_finite
    assert result.values()["loss"] is None
    assert result.values()["grad_norm"] == (norm if math.isfinite(norm) else None)


def test_an_overflow_of_a_scaled_gradient_is_left_to_the_scaler() -> None:
    assert reduce([0.5], norm=math.inf, scaler=object()).is_finite
    assert not reduce([math.nan], scaler=object()).is_finite


def test_requests_to_stop_and_to_save_are_part_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STOP, "reason", "SIGTERM")

    result = reduce([0.5], wants_save=True)

    assert (result.should_stop, result.should_save) == (True, True)
