"""Several micro-batches in one pass: which rows are whose, and in which order a branch computes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch


@dataclass(frozen=True)
class MicroBatches:
    """What a forward pass in training knows of its B cases, in the computer's memory: no device is waited for."""

    present: np.ndarray
    """(B, M) bool: which images there are."""
    sizes: tuple[int, ...]
    """Cases of each micro-batch; its rows follow those of the one before."""
    dropout_seeds: tuple[int, ...] = ()
    """Key of each micro-batch's dropout; empty: nothing is dropped."""

    def rows(self) -> list[range]:
        """The rows of each micro-batch."""
        ends = list(accumulate(self.sizes))
        return [range(end - size, end) for size, end in zip(self.sizes, ends, strict=True)]

    def order(self, modality: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The rows with an image of a modality, as its branch computes them, and the `Groups.shapes` of these."""
        column = self.present[:, modality]
        found = [[row for row in rows if column[row]] for rows in self.rows()]
        if len(found) <= 1:
            return [row for rows in found for row in rows], []
        numbers, shapes = group([len(rows) for rows in found])
        order, first = [], 0
        for n, count in shapes:
            together = [found[number] for number in numbers[first : first + count]]
            order += [rows[image] for image in range(n) for rows in together]
            first += count
        return order, shapes


def one_micro_batch(present: torch.Tensor, dropout_seed: int | None) -> MicroBatches:
    """All cases of a batch as one micro-batch; present: (B, M) bool. Waits for its device."""
    seeds = () if dropout_seed is None else (dropout_seed,)
    return MicroBatches(present.cpu().numpy(), (len(present),), seeds)


def group(num_images: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Micro-batches with equally many images together: their positions, and (n, G) for G of them with n images each.

    num_images: of each micro-batch. Those without an image are in no group.
    """
    numbers = sorted((number for number, n in enumerate(num_images) if n > 0), key=lambda number: num_images[number])
    counts = [num_images[number] for number in numbers]
    return numbers, [(n, counts.count(n)) for n in sorted(set(counts))]


@dataclass
class Groups:
    """How a branch's batch-norm layers divide images into micro-batches; one for all of its layers."""

    shapes: list[tuple[int, int]] = field(default_factory=list)
    """(n, G): n images of each of G micro-batches, the micro-batch as the fastest index, one shape after another;
    empty: all images are one micro-batch."""
    terms: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """By the layer's number (G * C) mean and variance of each micro-batch times the momentum. Several micro-batches at
    once put these here and leave the running statistics as they are."""

    is_counted: bool = False
    """Whether the statistics of what is computed now are counted already: recomputed activations."""

    def __deepcopy__(self, memo: object) -> "Groups":
        """A copy of a model shares it, as it shares the running statistics."""
        return self
