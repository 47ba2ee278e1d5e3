"""What one rank computes of an epoch: its micro-batches of each step, and their batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.data.loading.sampling import DUMMY_MICRO_BATCH, micro_batches_of

_DROPOUT = 2  # keeps dropout's draws apart from others that use the same seed


@dataclass(frozen=True)
class MicroBatch:
    """A part of a step that one rank computes whole."""

    number: int
    """Its position among the step's micro-batches; `DUMMY_MICRO_BATCH` where it only takes part in the reduction."""
    cases: list[int]
    """Indices of its cases; none of a dummy."""
    is_last: bool
    """Whether it is this rank's last one of the step."""
    dropout_seed: int
    """Key of its dropout."""


@dataclass(frozen=True)
class TrainStep:
    """One optimizer update."""

    number: int
    """From 1, over the whole run."""
    micro_batches: list[list[int]]
    """Case indices of the micro-batches of all ranks."""
    own: list[MicroBatch]
    """Those of this rank."""
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
    """Empty micro-batches by which a rank takes part in collectives: never, where it has no other, or so that all ranks
    have equally many (sharded weights are gathered for each micro-batch)."""
    num_workers: int = 1
    """Threads that read ahead."""

    def steps(self) -> Iterator[TrainStep]:
        """The steps in order."""
        for number, micro_batches in enumerate(self.plan, self.first_step):
            own = micro_batches_of(len(micro_batches), rank=self.rank, num_processes=self.num_processes)
            at_least = {"none": 0, "idle": 1, "even": -(-len(micro_batches) // self.num_processes)}[self.dummies]
            own += [DUMMY_MICRO_BATCH] * (at_least - len(own))
            yield TrainStep(
                number,
                micro_batches,
                [
                    MicroBatch(
                        position,
                        [] if position == DUMMY_MICRO_BATCH else micro_batches[position],
                        index == len(own) - 1,
                        _dropout_seed(self.seed, number, max(position, 0)),
                    )
                    for index, position in enumerate(own)
                ],
                [self.present[cases].sum(axis=0).tolist() for cases in micro_batches],
            )

    @contextmanager
    def batches(self, device: torch.device) -> Iterator[Callable[[MicroBatch], Batch]]:
        """Within it, a function that reads this rank's micro-batches, in their order, onto the device."""
        wanted = [
            micro_batches[position]
            for micro_batches in self.plan
            for position in micro_batches_of(len(micro_batches), rank=self.rank, num_processes=self.num_processes)
        ]
        batches = load_batches(self.dataset, wanted, device, num_threads=self.num_workers)

        def read(micro_batch: MicroBatch) -> Batch:
            is_dummy = micro_batch.number == DUMMY_MICRO_BATCH
            batch = self.dataset.empty(0).to(device).cast() if is_dummy else next(batches)
            mask = torch.from_numpy(self.present[batch.indices.numpy()]).to(device, non_blocking=True)
            return replace(batch, images=self.augment(batch), present=mask)

        try:
            yield read
        finally:
            batches.close()


def _dropout_seed(seed: int, step: int, micro_batch: int) -> int:
    """A 64-bit seed from what identifies the micro-batch."""
    return int(np.random.SeedSequence((_DROPOUT, seed, step, micro_batch)).generate_state(1, np.uint64)[0] >> 1)
