"""Batch-norm statistics that do not depend on which process computed which slot.

In one process the running statistics are updated slot after slot, r <- (1 - m) r + m s. That is linear in the slots'
statistics s, so each process can keep a part of it: its own slots are added, and for a slot of another process only the
decay (1 - m) is applied. The sum of the parts is what one process would have. They are summed before each evaluation
and each save; a step costs no communication.
"""

from collections.abc import Iterable, Mapping

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class RunningStatistics:
    """The running means and variances of all branches' batch-norm layers, in parts over the processes."""

    def __init__(self, branches: Mapping[str, nn.Module], accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.buffers: list[list[torch.Tensor]] = []
        self.momentum = 0.1
        for branch in branches.values():
            layers = [layer for layer in branch.modules() if isinstance(layer, _BatchNorm)]
            assert all(layer.momentum == self.momentum for layer in layers), "one momentum for all layers"
            found = [(layer.running_mean, layer.running_var) for layer in layers]
            self.buffers.append([buffer for pair in found for buffer in pair if buffer is not None])

    def begin(self) -> None:
        """The main process keeps the statistics so far; the others' parts begin at zero."""
        if not self.accelerator.is_main_process:
            for buffers in self.buffers:
                if buffers:
                    torch._foreach_zero_(buffers)

    def pass_over(self, has_images: Iterable[bool]) -> None:
        """A slot of another process; has_images: for each branch, whether the slot had any image for it."""
        for buffers, has_any in zip(self.buffers, has_images, strict=True):
            if has_any and buffers:
                torch._foreach_mul_(buffers, 1 - self.momentum)

    def bring_together(self) -> None:
        """Sums the parts; afterwards every process has the whole."""
        flat = [buffer for buffers in self.buffers for buffer in buffers]
        if self.accelerator.num_processes == 1 or not flat:
            return
        summed = self.accelerator.reduce(torch.cat([buffer.flatten() for buffer in flat]), reduction="sum")
        for buffer, part in zip(flat, summed.split([buffer.numel() for buffer in flat]), strict=True):
            buffer.copy_(part.view_as(buffer))
