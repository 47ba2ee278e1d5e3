"""The seconds of a training step by part, from the phases that the training loop names for the watchdog."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch

from vwmm.config.schema import Config
from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.distributed.watchdog import Watchdog
from vwmm.engine.training.learner import Learner
from vwmm.engine.training.step_reduction import StepResult
from vwmm.engine.training.train_loop import train_one_epoch
from vwmm.engine.training.trainer import make_epoch

PARTS = ("input wait", "copy", "augmentation", "forward", "backward", "reduce", "optimizer", "other")


class StepClock(Watchdog):
    """A watchdog that adds up the seconds of each phase."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.waits_for_device = device, False
        """Whether each part ends when the device has done its work, which a training step does not wait for."""
        self.seconds = defaultdict[str, float](float)

    @contextmanager
    def phase(self, name: str, *, step: int | None = None, waits: bool = False) -> Iterator[None]:
        with super().phase(name, step=step, waits=waits), self.part(name):
            yield

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Around a part, which may lie in another one."""
        started = self.now()
        try:
            yield
        finally:
            self.seconds[name] += self.now() - started

    def now(self) -> float:
        """Seconds, when the device has done its work if that is asked for."""
        if self.waits_for_device and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class TimedDataset(CaseDataset):
    """A dataset whose batches are timed on their way to the device."""

    clock: StepClock | None = None

    def fill(self, buffer: Batch, indices: Sequence[int]) -> Batch:
        batch = super().fill(buffer, indices)
        if self.clock is None:
            return batch
        return _TimedBatch(batch.images, batch.present, batch.labels, batch.indices, batch.levels, self.clock)


@dataclass(frozen=True)
class _TimedBatch(Batch):
    clock: StepClock | None = None

    def to(self, device: torch.device) -> Batch:
        assert self.clock is not None
        with self.clock.part("copy"):
            return super().to(device).cast()


class _EnoughError(Exception):
    """The time for the steps is up."""


@dataclass(frozen=True)
class StepTimes:
    """Measured steps, on average."""

    seconds: float
    """Of a step as training computes it."""
    cases: float
    """Of a step."""
    parts: dict[str, float]
    """Seconds by `PARTS`; on a GPU each waits for the device, so that their sum may be more than `seconds`."""
    num_steps: int
    """How many were measured; the first one, which prepares buffers and libraries, is not counted if there are more."""

    @property
    def computing(self) -> float:
        """Seconds of forward and backward."""
        return self.parts["forward"] + self.parts["backward"]


class Stepper:
    """Trains on plans of micro-batches by the training loop, and times it. Its weights are nobody's."""

    def __init__(self, runtime: Runtime, config: Config, learner: Learner, dataset: TimedDataset) -> None:
        """runtime: with a StepClock as its watchdog."""
        assert isinstance(runtime.watchdog, StepClock)
        self.runtime, self.config, self.learner, self.dataset = runtime, config, learner, dataset
        self.clock = dataset.clock = runtime.watchdog

    def measure(
        self, plan: Sequence[list[list[int]]], *, seconds: float, after_step: Callable[[], None] = lambda: None
    ) -> StepTimes:
        """Times the steps of a plan, as many as the seconds allow, two at least where it has them."""
        is_gpu = self.runtime.device.type == "cuda"
        free = self._times(plan, seconds=seconds / 2 if is_gpu else seconds, waits=False, after_step=after_step)
        if not is_gpu:
            return free
        waiting = self._times(plan, seconds=seconds / 2, waits=True, after_step=after_step)
        return replace(free, parts=waiting.parts)

    def _times(
        self, plan: Sequence[list[list[int]]], *, seconds: float, waits: bool, after_step: Callable[[], None]
    ) -> StepTimes:
        self.clock.waits_for_device = waits
        self.clock.seconds.clear()
        config, learner = self.config, self.learner
        steps = list[tuple[float, int, dict[str, float]]]()
        epoch = make_epoch(self.runtime, config, learner, self.dataset, plan, epoch=1, first_step=1)
        augment = epoch.augment

        def timed_augment(batch: Batch) -> dict[str, torch.Tensor]:
            with self.clock.part("augmentation"):
                return augment(batch)

        started = last = self.clock.now()

        def note(result: StepResult) -> None:
            nonlocal last
            now = self.clock.now()
            steps.append((now - last, result.num_cases, _parts(self.clock.seconds, now - last)))
            self.clock.seconds.clear()
            after_step()
            last = self.clock.now()
            if len(steps) > 1 and last - started > seconds:
                raise _EnoughError

        with suppress(_EnoughError):
            train_one_epoch(
                self.runtime,
                learner,
                replace(epoch, augment=timed_augment),
                set_rate=self._set_rate,
                after_step=note,
            )
        counted = steps[1:] or steps
        return StepTimes(
            seconds=statistics.fmean(total for total, _, _ in counted),
            cases=statistics.fmean(cases for _, cases, _ in counted),
            parts={name: statistics.fmean(parts[name] for _, _, parts in counted) for name in PARTS},
            num_steps=len(counted),
        )

    def _set_rate(self, step: int) -> float:
        self.learner.strategy.set_lr(self.config.train.lr)
        return self.config.train.lr


def _parts(phases: dict[str, float], total: float) -> dict[str, float]:
    """A step's seconds by `PARTS`. The phase `read` has the wait for the input, its copy and the augmentation."""
    inside = phases["copy"] + phases["augmentation"]
    parts = {
        "input wait": max(0.0, phases["read"] - inside),
        "copy": phases["copy"],
        "augmentation": phases["augmentation"],
        "forward": phases["forward"],
        "backward": phases["backward"],
        "reduce": phases["reduce"],
        "optimizer": phases["update"],
    }
    return {**parts, "other": max(0.0, total - sum(parts.values()))}
