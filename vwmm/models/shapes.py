"""Shapes of a network's layers, without computing them.

Torch's own way, tensors on `meta`, imports SymPy for most layers, 0.3 s of CPU time at each start. Those of the
backbones are here, except instance norm, which refuses some images; any other takes torch's way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Lengths = int | Sequence[int]


class ShapesOnly(TorchFunctionMode):
    """Tensors on `meta` get the shapes that they would have."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in _SAME:
            return args[0]
        found = _OTHERS[func](*args, **given) if func in _OTHERS else None
        return func(*args, **given) if found is None else found


def _convolved(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Lengths = 1,
    padding: Lengths | str = 0,
    dilation: Lengths = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    if isinstance(padding, str):
        return None
    return x.new_empty(len(x), len(weight), *_lengths(x, weight.shape[2:], stride, padding, dilation))


def _max_pooled(
    x: torch.Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    dilation: Lengths = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> torch.Tensor | None:
    if ceil_mode or return_indices:
        return None
    return x.new_empty(*x.shape[:2], *_lengths(x, kernel_size, stride or kernel_size, padding, dilation))


def _mean_pooled(
    x: torch.Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor | None:
    return _max_pooled(x, kernel_size, stride, padding, ceil_mode=ceil_mode)


def _joined(parts: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return parts[0].new_empty(shape)


def _mean(x: torch.Tensor, dim: Sequence[int] | None = None, keepdim: bool = False) -> torch.Tensor | None:
    if dim is None:
        return None
    left = [(1 if keepdim else 0) if n in {d % x.ndim for d in dim} else size for n, size in enumerate(x.shape)]
    return x.new_empty([size for size in left if size]) if min(x.shape) else None


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


def _lengths(x: torch.Tensor, kernel: Lengths, stride: Lengths, padding: Lengths, dilation: Lengths) -> list[int]:
    """Of the axes after the second, as documented for torch's layers of convolution and pooling."""
    dims = x.ndim - 2
    each = [[one] * dims if isinstance(one, int) else list(one) for one in (kernel, stride, padding, dilation)]
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(x.shape[2:], *each, strict=True)]


_SAME = {
    functional.batch_norm, functional.group_norm, functional.relu,
    torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.mul, torch.Tensor.add_,
}  # fmt: skip
_OTHERS: dict[Any, Callable[..., torch.Tensor | None]] = {
    torch.conv2d: _convolved,
    torch.conv3d: _convolved,
    functional.max_pool2d: _max_pooled,
    functional.avg_pool2d: _mean_pooled,
    functional.linear: _linear,
    torch.Tensor.mean: _mean,
    torch.cat: _joined,
    torch.randn: torch.empty,
}
