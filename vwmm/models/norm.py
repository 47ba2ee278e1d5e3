"""Batch norm of each micro-batch by itself, several of them in one pass, single images included.

Images of a pass are stacked with the micro-batch as the fastest index, so that n images of each of G micro-batches,
(n * G, C, *size), are (n, G * C, *size) without a copy: to torch one batch with G times the channels.
"""

import copy

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from vwmm.models.micro_batches import Groups
from vwmm.models.shapes import ShapesOnly

MOMENTUM = 0.1


class MicroBatchNorm(_BatchNorm):
    """Batch norm whose statistics are each micro-batch's own.

    One value of a channel has no variance: it becomes the layer's bias, and the running statistics stay. A copy of the
    image as its neighbour would give the same values; but the gradients, which are zero, would be the rounding of large
    terms that cancel, and the running variance would shrink.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = MOMENTUM,
        *,
        groups: Groups | None = None,
        number: int = 0,
    ) -> None:
        """groups: shared by the layers of a branch, of which this is one's `number`; None: of one micro-batch."""
        super().__init__(num_features, eps, momentum)
        self.groups, self.number = groups or Groups(), number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, *size)."""
        if not self.training or not self.groups.shapes:
            return self._one(x)
        if len(self.groups.shapes) == 1:  # a split would copy the gradient
            n, count = self.groups.shapes[0]
            return self._several(x, n, count, slice(0, count * x.shape[1]))
        parts, first = [], 0
        rows = x.split([n * count for n, count in self.groups.shapes])
        for part, (n, count) in zip(rows, self.groups.shapes, strict=True):
            parts.append(self._several(part, n, count, slice(first * x.shape[1], (first + count) * x.shape[1])))
            first += count
        return torch.cat(parts)

    def _one(self, x: torch.Tensor) -> torch.Tensor:
        """All images are one micro-batch, or in evaluation."""
        if self.training and x.numel() == x.shape[1]:
            return self._bias_like(x)
        if self.training and self.groups.is_counted:
            assert self.running_mean is not None
            assert self.running_var is not None
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            return functional.batch_norm(x, mean, variance, self.weight, self.bias, True, MOMENTUM, self.eps)
        return super().forward(x)

    def _several(self, x: torch.Tensor, n: int, count: int, where: slice) -> torch.Tensor:
        """x: (n * G, C, *size); where: these G = `count` micro-batches' place in the layer's terms."""
        if n == 1 and x[0].numel() == x.shape[1]:
            return self._bias_like(x)
        mean, variance = (term[where] for term in self.groups.terms[self.number])
        if self.groups.is_counted:
            mean, variance = mean.clone(), variance.clone()
        stacked = x.reshape(n, count * x.shape[1], *x.shape[2:])
        weight, bias = self.weight.repeat(count), self.bias.repeat(count)
        normalised = functional.batch_norm(stacked, mean, variance, weight, bias, True, MOMENTUM, self.eps)
        # No view to autograd, which would copy the gradient three times for the ReLU that works in place on it.
        result: torch.Tensor = torch.ops.aten._unsafe_view(normalised, x.shape)
        return result

    def _bias_like(self, x: torch.Tensor) -> torch.Tensor:
        """The bias in the shape of x. Everything stays in the graph, as data-parallel training wants it."""
        weight, bias = (value.view(1, -1, *[1] * (x.ndim - 2)) for value in (self.weight, self.bias))
        nothing = 0 * (x + weight)
        return nothing + bias.to(nothing.dtype)


class BatchNorm2d(MicroBatchNorm, nn.BatchNorm2d):
    """Of images (B, C, H, W)."""


class BatchNorm3d(MicroBatchNorm, nn.BatchNorm3d):
    """Of volumes (B, C, H, W, D)."""


def replace_batch_norm(network: nn.Module) -> None:
    """Replaces torch's layers with these; weights and names stay."""
    groups, number = Groups(), 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                continue
            kind = BatchNorm2d if isinstance(child, nn.BatchNorm2d) else BatchNorm3d
            assert child.momentum == MOMENTUM, "one momentum for all layers"
            layer = kind(child.num_features, child.eps, groups=groups, number=number)
            layer.load_state_dict(child.state_dict())
            setattr(parent, name, layer)
            number += 1


def groups_of(branch: nn.Module) -> Groups:
    """What tells a branch's batch-norm layers of micro-batches."""
    return next((layer.groups for layer in branch.modules() if isinstance(layer, MicroBatchNorm)), Groups())


def single_valued_layers(branch: nn.Module, size: list[int]) -> set[str]:
    """The batch-norm layers, by their path, that one voxel of an image of this size reaches."""
    found = set[str]()
    image = torch.zeros(1, 1, *size, device="meta")  # shapes only: nothing is computed
    shadow = copy.deepcopy(branch).to("meta").eval()
    for path, layer in shadow.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(lambda _, inputs, path=path: _note(found, path, inputs[0]))
    with ShapesOnly():
        shadow(image)
    return found


def _note(found: set[str], path: str, x: torch.Tensor) -> None:
    if x.numel() == x.shape[1]:
        found.add(path)
