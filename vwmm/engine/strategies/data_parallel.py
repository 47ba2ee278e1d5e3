"""The strategy interface and data-parallel training: forward, backward, reduce, update.

Every engine leaves the whole model, its optimizer's state by parameter and the same checkpoints; none changes what is
learned but by rounding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from vwmm.engine.checkpoints.checkpoint import optimizer_tensors, restore_optimizer
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.optim import set_learning_rate
from vwmm.engine.strategies.exact_sum import ExactSum
from vwmm.models.fusion import FusionModel


class Engine(ABC):
    """Trains one model."""

    model: FusionModel
    """The whole model on this process, as it was when `bring_together` was last called."""
    network: nn.Module
    """The same, computing in the run's precision: for evaluation."""

    @abstractmethod
    def train(self) -> None:
        """What is trained behaves as in training."""

    @abstractmethod
    def forward(self, images: Mapping[str, torch.Tensor], present: torch.Tensor, dropout_seed: int) -> torch.Tensor:
        """Logits (B, K) float32; see FusionModel."""

    @abstractmethod
    def slot(self, *, is_last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of one of this process's slots of a step."""

    @abstractmethod
    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a slot's part of the loss."""

    def end_slot(self) -> None:  # noqa: B027 - most have nothing to do here
        """A slot of this process, not one that stands in for none, has been computed."""

    def finish(self, num_slots: int) -> None:  # noqa: B027 - most have nothing to do here
        """All of a step's slots have been computed, here and elsewhere."""

    @abstractmethod
    def grad_norm(self) -> torch.Tensor:
        """L2 norm of the step's gradient, a scalar on every process; then it is cut to `train.max_grad_norm`."""

    @abstractmethod
    def update(self, *, is_good: bool) -> None:
        """One step of the optimizer; none if not `is_good`. The gradient is gone afterwards."""

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""

    @abstractmethod
    def bring_together(self) -> None:
        """Puts what has been trained into `model`, on every process; to be called by all."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the optimizer's state, by `parameter/entry`; to be called by all, of use on the main process."""

    @abstractmethod
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Goes on from the weights that `model` has and an optimizer's state; to be called by all."""

    @property
    def scaling(self) -> dict[str, Any]:
        """State of fp16's loss scaling; nothing where there is none."""
        return {}

    def load_scaling(self, state: dict[str, Any]) -> None:  # noqa: B027 - most have nothing to do here
        """Goes on from it."""


class DataParallel(Engine):
    """Every process has all weights; torch sums the gradients while they are computed, or ExactSum does afterwards."""

    def __init__(
        self,
        runtime: Runtime,
        model: FusionModel,
        prepared: nn.Module,
        optimizer: Any,
        *,
        max_grad_norm: float | None,
        exact: bool = False,
    ) -> None:
        """prepared, optimizer: as Accelerate prepared them."""
        self.model, self.prepared, self.optimizer = model, prepared, optimizer
        self.network = prepared.module if isinstance(prepared, DistributedDataParallel) else prepared
        self._accelerator = runtime.accelerator
        self._device = runtime.device
        self._max_grad_norm = max_grad_norm
        self._exact_sum = ExactSum(list(model.parameters())) if exact else None
        self._parameters = list(model.parameters())  # to walk the modules takes a millisecond

    def train(self) -> None:
        self.prepared.train()

    def forward(self, images: Mapping[str, torch.Tensor], present: torch.Tensor, dropout_seed: int) -> torch.Tensor:
        logits: torch.Tensor = self.prepared(images, present, dropout_seed=dropout_seed)
        return logits

    def slot(self, *, is_last: bool) -> AbstractContextManager[object]:
        if is_last or self._exact_sum is not None:
            return nullcontext()
        waits: AbstractContextManager[object] = self._accelerator.no_sync(self.prepared)
        return waits

    def backward(self, loss: torch.Tensor) -> None:
        self._accelerator.backward(loss)

    def end_slot(self) -> None:
        if self._exact_sum is not None:
            self._exact_sum.take()

    def finish(self, num_slots: int) -> None:
        if self._exact_sum is not None:
            self._exact_sum.finish(num_slots)

    def grad_norm(self) -> torch.Tensor:
        if self._accelerator.scaler is not None:
            self._accelerator.unscale_gradients()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = get_total_norm(gradients).to(self._device)  # of the sum, which every process has
        if self._max_grad_norm is not None:
            clip_grads_with_norm_(self._parameters, self._max_grad_norm, norm)
        return norm

    def update(self, *, is_good: bool) -> None:
        if is_good:
            self.optimizer.step()
        elif self._accelerator.scaler is not None:
            self._accelerator.scaler.update()  # it has looked at these gradients, and may look again
        self.optimizer.zero_grad()

    def set_rate(self, rate: float) -> None:
        set_learning_rate(self.optimizer, rate)

    def bring_together(self) -> None:
        """The model is the one that is trained."""

    def state(self) -> dict[str, torch.Tensor]:
        return optimizer_tensors(self.model, self.optimizer.optimizer) if self._accelerator.is_main_process else {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        restore_optimizer(self.model, self.optimizer.optimizer, state)

    @property
    def scaling(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {} if scaler is None else dict(scaler.state_dict())

    def load_scaling(self, state: dict[str, Any]) -> None:
        if state and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)
