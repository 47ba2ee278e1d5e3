"""What one rank computes of an epoch: its micro-batches of each step, and their batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.data.loading.sampling import micro_batches_of
from vwmm.models.micro_batches import MicroBatches

_DROPOUT = 2  # keeps dropout's draws apart from others that use the same seed


@dataclass(frozen=True)
class Pass:
    """What one rank computes at once: some of its micro-batches of a step, or none, to take part in the reduction."""

    numbers: list[int]
    """Positions of its micro-batches among those of the step."""
    cases: list[int]
    """Indices of their cases, in their order."""
    micro_batches: MicroBatches
    """Which rows are whose, which images there are, the keys of dropout."""
    is_last: bool
    """Whether it is this rank's last one of the step."""


@dataclass(frozen=True)
class TrainStep:
    """One optimizer update."""

    number: int
    """From 1, over the whole run."""
    micro_batches: list[list[int]]
    """Case indices of the micro-batches of all ranks."""
    passes: list[Pass]
    """Those of this rank, as it computes them."""
    num_images: list[list[int]]
    """For each micro-batch and each branch, how many images the micro-batch has for it."""

    @property
    def cases(self) -> list[int]:
        """Case indices of the whole batch."""
        return [index for micro_batch in self.micro_batches for index in micro_batch]


@dataclass(frozen=True)
class Epoch:
    """An epoch, or the rest of one, as one rank computes it."""

    dataset: CaseDataset
    """The training cases."""
    plan: Sequence[list[list[int]]]
    """The steps' micro-batches (data/loading/sampling.py)."""
    present: np.ndarray
    """(N, M) bool: which images of each case are used in this epoch."""
    augment: Callable[[Batch], dict[str, torch.Tensor]]
    """Returns a batch's images, augmented."""
    first_step: int
    """Number of the first step, from 1."""
    seed: int
    """Key of dropout."""
    rank: int = 0
    """This process."""
    num_processes: int = 1
    """Number of processes."""
    dummies: Literal["none", "idle", "even"] = "idle"
    """Empty passes by which a rank takes part in collectives: never, where it has no other, or so that all ranks have
    equally many (sharded weights are gathered for each pass)."""
    at_once: int = 1
    """Micro-batches of a pass."""
    num_workers: int = 1
    """Threads that read ahead."""

    def steps(self) -> Iterator[TrainStep]:
        """The steps in order."""
        for number, micro_batches in enumerate(self.plan, self.first_step):
            most = -(-len(micro_batches) // self.num_processes)  # of the rank that has most
            at_least = {"none": 0, "idle": 1, "even": -(-most // self.at_once)}[self.dummies]
            passes = self._passes(len(micro_batches))
            passes += [[] for _ in range(at_least - len(passes))]
            yield TrainStep(
                number,
                micro_batches,
                [
                    self._pass(number, micro_batches, numbers, is_last=index == len(passes) - 1)
                    for index, numbers in enumerate(passes)
                ],
                [self.present[cases].sum(axis=0).tolist() for cases in micro_batches],
            )

    def _passes(self, num_micro_batches: int) -> list[list[int]]:
        """The numbers of this rank's micro-batches in a step, by pass."""
        own = micro_batches_of(num_micro_batches, rank=self.rank, num_processes=self.num_processes)
        return [own[first : first + self.at_once] for first in range(0, len(own), self.at_once)]

    def _pass(self, step: int, micro_batches: list[list[int]], numbers: list[int], *, is_last: bool) -> Pass:
        cases = [case for number in numbers for case in micro_batches[number]]
        seeds = tuple(_dropout_seed(self.seed, step, number) for number in numbers)
        sizes = tuple(len(micro_batches[number]) for number in numbers)
        return Pass(numbers, cases, MicroBatches(self.present[cases], sizes, seeds), is_last)

    @contextmanager
    def batches(self, device: torch.device) -> Iterator[Callable[[Pass], Batch]]:
        """Within it, a function that reads the batches of this rank's passes, in their order, onto the device."""
        wanted = [
            [case for number in numbers for case in micro_batches[number]]
            for micro_batches in self.plan
            for numbers in self._passes(len(micro_batches))
        ]
        batches = load_batches(self.dataset, wanted, device, num_threads=self.num_workers)

        def read(part: Pass) -> Batch:
            batch = next(batches) if part.cases else self.dataset.empty(0).to(device).cast()
            return replace(batch, images=self.augment(batch))

        try:
            yield read
        finally:
            batches.close()


def _dropout_seed(seed: int, step: int, micro_batch: int) -> int:
    """A 64-bit seed from what identifies the micro-batch."""
    return int(np.random.SeedSequence((_DROPOUT, seed, step, micro_batch)).generate_state(1, np.uint64)[0] >> 1)
