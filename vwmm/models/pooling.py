"""Pooling with a deterministic backward pass on a GPU (MONAI#3716); on a CPU torch's own, which has one there."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class MaxPool3d(nn.Module):
    """Maximum over a cube: the values of `nn.MaxPool3d`, on a GPU as two maxima in a plane.

    Where several voxels share the maximum the gradient goes to one of them, perhaps to another one than torch's.
    """

    def __init__(self, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, H, W, D) -> (B, C, H', W', D')."""
        if x.device.type != "cpu":
            return self.in_planes(x)
        pooled: torch.Tensor = _ChannelsLastMaximum.apply(x, self.kernel_size, self.stride, self.padding)
        return pooled

    def in_planes(self, x: torch.Tensor) -> torch.Tensor:
        """The same, with the deterministic backward pass of the maximum in a plane."""
        size, stride, padding = self.kernel_size, self.stride, self.padding
        planes = functional.max_pool2d(x.flatten(1, 2), size, stride, padding)  # (B, C * H, W', D')
        planes = planes.unflatten(1, x.shape[1:3]).flatten(3)  # (B, C, H, W' * D')
        pooled = functional.max_pool2d(planes, (size, 1), (stride, 1), (padding, 0))
        return pooled.unflatten(3, (-1, _pooled(x.shape[4], size, stride, padding)))


class _ChannelsLastMaximum(torch.autograd.Function):
    """Torch's maximum with channels last, on a CPU 1.3 to 3 times faster, the copies included.

    Its own backward pass would leave the gradient in that order as well, and the layers before it, which have another
    one, would lose more than is gained.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel_size: int, stride: int, padding: int) -> torch.Tensor:
        last = x.contiguous(memory_format=torch.channels_last_3d)
        pooled, found = functional.max_pool3d(last, kernel_size, stride, padding, return_indices=True)
        ctx.save_for_backward(found.contiguous())
        ctx.shape = x.shape
        return pooled.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (found,) = ctx.saved_tensors
        gradient = gradients[0].new_zeros(ctx.shape).flatten(2)
        gradient.scatter_add_(2, found.flatten(2), gradients[0].flatten(2))
        return gradient.view(ctx.shape), None, None, None


class AvgPool3d(nn.Module):
    """Mean over cubes side by side; what does not fill one at the end of an axis is left out, as in `nn.AvgPool3d`."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, H, W, D) -> (B, C, H // k, W // k, D // k)."""
        return functional.avg_pool3d(x, self.kernel_size) if x.device.type == "cpu" else self.by_reshaping(x)

    def by_reshaping(self, x: torch.Tensor) -> torch.Tensor:
        """The same, with the deterministic backward pass of a mean."""
        size = self.kernel_size
        h, w, d = (length // size for length in x.shape[2:])
        cubes = x[:, :, : h * size, : w * size, : d * size].reshape(*x.shape[:2], h, size, w, size, d, size)
        return cubes.mean(dim=(3, 5, 7))


class GlobalMean(nn.Module):
    """Mean over all voxels: `nn.AdaptiveAvgPool2d(1)` and its kin, which have no such backward pass in 2D either."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, ...) -> (B, C, 1, ...)."""
        return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def make_deterministic(network: nn.Module) -> None:
    """Replaces the pooling layers of a network of MONAI. They have no parameters, so weights stay the same."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool3d):
                setattr(parent, name, MaxPool3d(_one(child.kernel_size), _one(child.stride), _one(child.padding)))
            elif isinstance(child, nn.AvgPool3d):
                assert child.kernel_size == child.stride, "cubes side by side"
                setattr(parent, name, AvgPool3d(_one(child.kernel_size)))
            elif isinstance(child, nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
                assert child.output_size in (1, (1, 1), (1, 1, 1)), "a mean of everything"
                setattr(parent, name, GlobalMean())


def _one(value: int | tuple[int, ...]) -> int:
    """The same number on each axis."""
    values = {value} if isinstance(value, int) else set(value)
    assert len(values) == 1, "cubes, not boxes"
    return values.pop()


def _pooled(length: int, size: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - size) // stride + 1
