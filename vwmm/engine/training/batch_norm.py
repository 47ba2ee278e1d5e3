"""Batch-norm statistics that do not depend on the number of processes.

In one process the running statistics r are updated by one micro-batch after another, r <- (1 - m) r + m s. That is
linear in the micro-batches' statistics s, so each rank can keep a part of it: its own micro-batches are added, and for
one of another rank only the decay (1 - m) is applied. The sum of the parts is what one process would have, but for its
rounding. The parts are summed before each evaluation; a step costs no communication.

With `train.exact` the micro-batches' own terms m s are gathered after each step instead, and applied in their order,
which gives the same bits for any number of processes. So are those of several micro-batches of one pass, on the rank
that computed them. A layer that one voxel of an image reaches takes no statistics
from a micro-batch with a single image (models/norm.py).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vwmm.models.micro_batches import group
from vwmm.models.norm import MOMENTUM, MicroBatchNorm, groups_of


class _Decay(NamedTuple):
    factors: torch.Tensor
    counts: torch.Tensor


class RunningStatistics:
    """The running means and variances of all branches' batch-norm layers, in one tensor."""

    def __init__(
        self,
        branches: Mapping[str, nn.Module],
        accelerator: Accelerator,
        *,
        exact: bool = False,
        single_valued: Mapping[str, Collection[str]] | None = None,
        at_once: int = 1,
    ) -> None:
        """The layers' buffers become views of one tensor, so the model is on its device already.

        single_valued: by branch the paths of the layers that a single image has one value of each channel for.
        at_once: the most micro-batches that one pass computes.
        """
        self.accelerator, self.exact = accelerator, exact
        self.is_whole = True
        """Whether this process has the whole, not a part of it."""
        layers = {name: _layers(branch) for name, branch in branches.items()}
        widths = [[layer.num_features for layer in own.values()] for own in layers.values()]
        every = {f"branches.{name}.{path}": layer for name, own in layers.items() for path, layer in own.items()}
        self.flat, self._sizes = _joined(every, ["running_mean", "running_var"])
        self._counts, _ = _joined(every, ["num_batches_tracked"])
        self._branches = list(self.flat.split([2 * sum(own) for own in widths]))
        self._branch_counts = list(self._counts.split([len(own) for own in widths]))
        self._ones: list[_Decay] = []
        """By branch: how a micro-batch with a single image changes its layers' statistics and counts."""
        for name, own in layers.items():
            counted = [int(path not in (single_valued or {}).get(name, ())) for path in own]
            counts = torch.tensor(counted, dtype=torch.int64)
            twice = torch.tensor([2 * layer.num_features for layer in own.values()], dtype=torch.int64)
            factors = 1 - MOMENTUM * counts.repeat_interleave(twice)
            self._ones.append(_Decay(factors.to(self._counts.device), counts.to(self._counts.device)))
        self._before, self._counts_before = self.flat.clone(), self._counts.clone()
        self._terms: torch.Tensor | None = None
        self._of_pass = [_TermsOfPass(branch, layers[name], at_once) for name, branch in branches.items()]
        self._num_images: list[list[int]] = []
        self._next = 0
        """The first micro-batch of the step that has not been accounted for."""

    @property
    def _is_shared(self) -> bool:
        return self.accelerator.num_processes > 1 and len(self.flat) > 0

    def begin_step(self, num_images: list[list[int]]) -> None:
        """num_images: for each micro-batch and each branch, how many images the micro-batch has for it."""
        if self.is_whole and not self.exact and self._is_shared:
            self.is_whole = False
            if not self.accelerator.is_main_process:
                self.flat.zero_()
        self._before.copy_(self.flat)
        self._counts_before.copy_(self._counts)
        self._num_images, self._next = num_images, 0
        if self.exact:
            self._terms = torch.zeros(len(num_images), len(self.flat), device=self.flat.device)

    @contextmanager
    def one_pass(self, numbers: Sequence[int]) -> Iterator[None]:
        """Around the forward and backward pass of some of this rank's micro-batches; of none, where it has no other."""
        if len(numbers) > 1:
            yield
            self._add_terms(numbers)
            return
        for number in numbers:
            self._decay_until(number)
            if self.exact:
                self.flat.zero_()
        yield
        for number in numbers:
            if self._terms is not None:
                self._terms[number] = self.flat  # 0 <- (1 - m) 0 + m s
            self._next = number + 1

    def _add_terms(self, numbers: Sequence[int]) -> None:
        """What the micro-batches of a pass add, in their order; batch norm's layers have left it in `Groups.terms`."""
        num_images = [self._num_images[number] for number in numbers]
        columns = [of_pass.take([images[b] for images in num_images]) for b, of_pass in enumerate(self._of_pass)]
        for position, number in enumerate(numbers):
            self._decay_until(number)
            for part, counts, of_one, terms, images in zip(
                self._branches, self._branch_counts, self._ones, columns, num_images[position], strict=True
            ):
                if position in terms:
                    counts.add_(of_one.counts if images == 1 else 1)
                    part.mul_(of_one.factors if images == 1 else 1 - MOMENTUM).add_(terms[position])
            self._next = number + 1

    def _decay_until(self, number: int) -> None:
        """The micro-batches of other ranks before this one: here the statistics only decay."""
        for images in self._num_images[self._next : number]:
            rows = zip(self._branches, self._branch_counts, self._ones, images, strict=True)
            for part, counts, of_one, num_images in rows:
                if num_images > 0:
                    counts.add_(of_one.counts if num_images == 1 else 1)
                    if not self.exact:
                        part.mul_(of_one.factors if num_images == 1 else 1 - MOMENTUM)
        self._next = number

    def end_step(self, *, is_finite: bool = True) -> None:
        """All micro-batches have been computed, on all ranks. A step that is not finite leaves no trace."""
        if not is_finite:
            self.flat.copy_(self._before)
            self._counts.copy_(self._counts_before)
            self._terms = None
            return
        self._decay_until(len(self._num_images))
        if self._terms is None:
            return
        if self._is_shared:
            self._terms = self.accelerator.reduce(self._terms, reduction="sum")  # each row has one owner
        self.flat.copy_(self._before)
        for terms, images in zip(self._terms, self._num_images, strict=True):
            rows = terms.split([len(part) for part in self._branches])
            for part, term, of_one, num_images in zip(self._branches, rows, self._ones, images, strict=True):
                if num_images > 0:
                    part.mul_(of_one.factors if num_images == 1 else 1 - MOMENTUM).add_(term)
        self._terms = None

    def all_reduce(self) -> None:
        """Sums the parts; afterwards every process has the whole."""
        if not self.is_whole:
            self.flat.copy_(self.accelerator.reduce(self.flat.clone(), reduction="sum"))
            self.is_whole = True

    def gather_parts(self) -> torch.Tensor | None:
        """(P, n) the parts of all processes, each of which continues with its own; None if each has the whole."""
        if self.is_whole:
            return None
        gathered: torch.Tensor = self.accelerator.gather(self.flat[None])
        return gathered

    def set_part(self, parts: torch.Tensor) -> None:
        """Goes on with this process's part of those that `gather_parts` gave."""
        self.flat.copy_(parts[self.accelerator.process_index])
        self.is_whole = False

    def with_reduced_statistics(
        self, weights: Mapping[str, torch.Tensor], parts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """A copy of the model's state with the sum of all parts instead of this process's part."""
        whole, state = parts.sum(dim=0).cpu(), dict(weights)
        for (name, size), part in zip(self._sizes.items(), whole.split(list(self._sizes.values())), strict=True):
            assert state[name].numel() == size
            state[name] = part.clone()
        return state


class _TermsOfPass:
    """What several micro-batches of one pass add to a branch's running statistics."""

    def __init__(self, branch: nn.Module, layers: Mapping[str, _BatchNorm], at_once: int) -> None:
        """layers: the branch's batch-norm layers in the order of the running statistics."""
        widths = [layer.num_features for layer in layers.values() for _ in range(2)]  # mean, then variance
        kept = at_once if at_once > 1 else 0
        like = next(branch.parameters())
        self._flat = torch.zeros(kept * sum(widths), dtype=like.dtype, device=like.device)
        parts = self._flat.split([kept * width for width in widths])
        # A layer has (G, C) of its own, one after another; taken are (G, the channels of all layers).
        index = torch.arange(len(self._flat), device=self._flat.device).split([kept * width for width in widths])
        self._index = torch.cat([part.view(kept, -1) for part in index], dim=1) if kept and widths else None
        terms = zip(parts[::2], parts[1::2], strict=True)
        groups_of(branch).terms = {
            layer.number: pair
            for layer, pair in zip(layers.values(), terms, strict=True)
            if isinstance(layer, MicroBatchNorm)
        }

    def take(self, num_images: Sequence[int]) -> dict[int, torch.Tensor]:
        """By position of the pass's micro-batches that have images, their terms; afterwards all are zero again."""
        if self._index is None:
            return {}
        numbers, _ = group(num_images)
        terms = self._flat[self._index[: len(numbers)]]
        self._flat.zero_()
        return dict(zip(numbers, terms, strict=True))


def _layers(branch: nn.Module) -> dict[str, _BatchNorm]:
    """The batch-norm layers by their path in the branch."""
    layers = {path: layer for path, layer in branch.named_modules() if isinstance(layer, _BatchNorm)}
    assert all(layer.momentum == MOMENTUM for layer in layers.values()), "one momentum for all layers"
    return layers


def _joined(layers: Mapping[str, _BatchNorm], names: list[str]) -> tuple[torch.Tensor, dict[str, int]]:
    """Moves the layers' buffers of these names into one tensor; returns it and the sizes of its parts."""
    buffers = {f"{path}.{name}": (layer, name) for path, layer in layers.items() for name in names}
    found = [getattr(layer, name) for layer, name in buffers.values()]
    sizes = {key: buffer.numel() for key, buffer in zip(buffers, found, strict=True)}
    if not found:
        return torch.zeros(0), sizes
    flat = torch.cat([buffer.flatten() for buffer in found])
    for (layer, name), buffer, part in zip(buffers.values(), found, flat.split(list(sizes.values())), strict=True):
        setattr(layer, name, part.view_as(buffer))
    return flat, sizes
