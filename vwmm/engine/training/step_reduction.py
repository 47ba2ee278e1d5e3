"""What all ranks agree on before a step changes anything: losses, requests to stop and to save, the gradient's norm."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.training.epoch import Pass, TrainStep
from vwmm.system.signals import STOP


@dataclass(frozen=True)
class StepResult:
    """What all ranks know of a step."""

    step: int
    """Its number, from 1."""
    micro_batches: list[list[int]]
    """Its cases."""
    lr: float
    """Its learning rate."""
    losses: list[float]
    """Of each micro-batch: its part of the step's loss."""
    grad_norm: float
    """L2 norm of the gradient, before it is clipped to `max_grad_norm`."""
    is_finite: bool
    """Whether loss and gradient are finite; if not, nothing was changed."""
    should_stop: bool
    """Whether any rank was asked to stop."""
    should_save: bool
    """Whether the main process finds that it is time for a checkpoint."""

    @property
    def loss(self) -> float:
        """The mean loss of its cases, added up in the order of the micro-batches."""
        return sum(self.losses)

    def values(self) -> dict[str, Any]:
        """Its values for metrics.jsonl, without non-finite ones."""
        return {
            "loss": self.loss if self.is_finite else None,
            "grad_norm": self.grad_norm if math.isfinite(self.grad_norm) else None,
        }

    @property
    def num_cases(self) -> int:
        """How many cases it has."""
        return sum(map(len, self.micro_batches))


class StepReduction:
    """Sums the losses of a step's micro-batches and the ranks' requests while the last pass computes."""

    def __init__(self, runtime: Runtime, step: TrainStep, lr: float, *, wants_save: bool) -> None:
        self._step, self._lr, self._wants_save = step, lr, wants_save
        self._has_others = runtime.num_processes > 1
        # A scaled gradient may overflow in fp16 at any time: its scaler handles that.
        self._has_scaler = runtime.accelerator.scaler is not None
        # The losses of the micro-batches; how many ranks are to stop; how many want a checkpoint.
        self._buffer = torch.zeros(len(step.micro_batches) + 2, device=runtime.device)
        self._work: dist.Work | None = None
        if not step.passes:
            self.start()

    def add(self, part: Pass, losses: torch.Tensor) -> None:
        """The parts of the loss of a pass's micro-batches; the reduction starts with this rank's last pass."""
        for number, loss in zip(part.numbers, losses.detach(), strict=bool(part.numbers)):
            self._buffer[number] = loss
        if part.is_last:
            self.start()

    def start(self) -> None:
        """All of this rank's losses are known; STOP is read now, by all ranks at the same point of the step."""
        if STOP.is_asked:
            self._buffer[-2] = 1
        if self._wants_save:
            self._buffer[-1] = 1
        if self._has_others:
            self._work = dist.all_reduce(self._buffer, async_op=True)

    def wait(self, grad_norm: torch.Tensor) -> StepResult:
        """The result of the step, the same on every rank. grad_norm: a scalar, the same on every rank already."""
        if self._work is not None:
            self._work.wait()
        *losses, num_stop, num_save, norm = torch.cat([self._buffer, grad_norm[None]]).tolist()
        return StepResult(
            step=self._step.number,
            micro_batches=self._step.micro_batches,
            lr=self._lr,
            losses=losses,
            grad_norm=norm,
            is_finite=(self._has_scaler or math.isfinite(norm)) and all(map(math.isfinite, losses)),
            should_stop=num_stop > 0,
            should_save=num_save > 0,
        )
