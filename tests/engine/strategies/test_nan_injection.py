"""An injected fault makes the loss or the gradient NaN, and only then."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vwmm.engine.strategies.nan_injection import inject_nan


@pytest.mark.parametrize("makes_nan", [False, True])
def test_logits_and_loss_are_nan_while_the_watchdog_has_a_fault(makes_nan: bool) -> None:
    backward: list[torch.Tensor] = []
    strategy: Any = SimpleNamespace(forward=lambda images: 2 * images, backward=backward.append)
    watchdog: Any = SimpleNamespace(makes_nan=False)
    inject_nan(strategy, watchdog)
    watchdog.makes_nan = makes_nan

    logits = strategy.forward(torch.ones(3))
    strategy.backward(torch.tensor(1.0))

    assert logits.isnan().tolist() == [makes_nan] * 3
    assert backward[0].isnan().item() is makes_nan
