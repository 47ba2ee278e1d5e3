"""Gradient sums that do not depend on the order of addition.

Each micro-batch's gradient is rounded once, to multiples of a power of two that all ranks agree on, and these are added
as 64-bit integers. The unit is so small that the largest sum just fits: with 8 micro-batches 2^-59 of the largest
element, where float32 itself keeps 2^-24 of each.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist

_BITS = 62  # of an int64, less its sign and one for the rounding


class ExactSum:
    """Collects the gradients of this rank's micro-batches, and sums those of all ranks."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._gradients: list[torch.Tensor] = []

    def take(self) -> None:
        """Called after a micro-batch's backward pass: puts its gradient aside."""
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self._gradients.append(torch.cat([part.flatten() for part in parts]))
        for parameter in self.parameters:
            parameter.grad = None

    def finish(self, num_micro_batches: int) -> None:
        """The sum over a step's micro-batches becomes every rank's gradient; NaN if any is not finite."""
        device = self.parameters[0].device
        largest = torch.zeros((), device=device)
        for part in self._gradients:
            # NaN would vanish in a maximum over processes; infinity does not.
            largest = torch.maximum(largest, torch.nan_to_num(part.abs().max(), nan=math.inf, posinf=math.inf))
        if _is_shared():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        bound = float(largest)  # the second synchronisation of an exact step
        total = torch.zeros(sum(p.numel() for p in self.parameters), dtype=torch.int64, device=device)
        if math.isfinite(bound) and bound > 0:
            exponent = _BITS - math.frexp(bound)[1] - math.ceil(math.log2(num_micro_batches))
            # In two factors: one alone may be too large for a float64.
            factors = (2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2))
            for part in self._gradients:
                total += (part.double() * factors[0] * factors[1]).round_().to(torch.int64)
            if _is_shared():
                dist.all_reduce(total)
            gradient = (total.double() / factors[0] / factors[1]).float()
        else:
            gradient = total.float() if bound == 0 else torch.full_like(total, math.nan, dtype=torch.float32)
        self._gradients.clear()
        for parameter, part in zip(self.parameters, gradient.split([p.numel() for p in self.parameters]), strict=True):
            parameter.grad = part.view_as(parameter)


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
