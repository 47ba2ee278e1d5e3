"""Makes a rehearsed loss or gradient NaN, for the tests of non-finite steps (VWMM_FAULT, do=nan)."""

import math
from typing import Any

import torch

from vwmm.engine.distributed.watchdog import Watchdog
from vwmm.engine.strategies.base import Strategy


def inject_nan(strategy: Strategy, watchdog: Watchdog) -> None:
    """From here on the strategy computes NaN in the phases for which the watchdog has an injected fault."""
    forward, backward = strategy.forward, strategy.backward

    def faulty_forward(*arguments: Any) -> torch.Tensor:
        logits = forward(*arguments)
        return logits * math.nan if watchdog.makes_nan else logits

    def faulty_backward(loss: torch.Tensor) -> None:
        backward(loss * math.nan if watchdog.makes_nan else loss)

    for method in (("forward", faulty_forward), ("backward", faulty_backward)):
        setattr(strategy, *method)
