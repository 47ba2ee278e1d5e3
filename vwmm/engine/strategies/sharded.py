"""What FSDP2 and DeepSpeed ZeRO have in common.

Both train a sharded copy of the model that shares its buffers. Sharded tensors are gathered before they are evaluated
or saved, so checkpoints hold the same safetensors as everywhere, and no strategy's own files are ever read.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from vwmm.config.schema import Train
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.strategies.base import Strategy
from vwmm.models.fusion import FusionModel
from vwmm.models.micro_batches import MicroBatches


class InPrecision(nn.Module):
    """A model that computes in bfloat16 where that is the run's precision, and answers in float32."""

    def __init__(self, model: FusionModel, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model = model
        self._device_type, self._is_bf16 = device.type, precision == "bf16"

    def forward(
        self,
        images: Mapping[str, torch.Tensor],
        present: torch.Tensor | MicroBatches,
        *,
        visible: Sequence[Sequence[bool]] = (),
    ) -> torch.Tensor:
        with torch.autocast(self._device_type, dtype=torch.bfloat16, enabled=self._is_bf16):
            logits: torch.Tensor = self.model(images, present, visible=visible)
        return logits.float()


class Sharded(Strategy):
    """What both have in common."""

    dummies = "even"  # each forward and backward pass gathers weights or reduces gradients

    def __init__(self, runtime: Runtime, model: FusionModel, train: Train) -> None:
        """model: on its device, its buffers where they will stay."""
        self.model = model
        self.network = InPrecision(model, runtime.device, runtime.mixed_precision)
        self.runtime, self.settings = runtime, train
        self._is_stale = False
        self._start()

    @abstractmethod
    def _start(self) -> None:
        """Divides a copy of the model, with a new optimizer."""

    @abstractmethod
    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Puts an optimizer's state into the new one."""

    @abstractmethod
    def _full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each parameter by its name, whole, on every process."""

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self._start()
        self._is_stale = False
        if state:
            self._restore(state)

    def gather_full_weights(self) -> None:
        if self._is_stale:
            own = dict(self.model.named_parameters())
            with torch.no_grad():
                for name, weight in self._full_weights():
                    own[name].copy_(weight)
            self._is_stale = False

    def shared_copy(self) -> InPrecision:
        """A copy of the model that shares the model's buffers."""
        copied = copy.deepcopy(self.model)
        for (name, buffer), module in _buffers(self.model, copied):
            setattr(module, name, buffer)
        copied.run_empty_branches = True
        return InPrecision(copied, self.runtime.device, self.runtime.mixed_precision)


def _buffers(model: nn.Module, copied: nn.Module) -> Iterator[tuple[tuple[str, torch.Tensor], nn.Module]]:
    """Each buffer of a model, with its name, and the module of the copy that has it there."""
    for module, other in zip(model.modules(), copied.modules(), strict=True):
        for name, buffer in module.named_buffers(recurse=False):
            yield (name, buffer), other
