"""Data-parallel training: every rank has all weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from vwmm.engine.checkpoints.state import optimizer_tensors, restore_optimizer
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.optim import set_learning_rate
from vwmm.engine.strategies.base import Strategy
from vwmm.engine.strategies.exact_sum import ExactSum
from vwmm.models.fusion import FusionModel
from vwmm.models.micro_batches import MicroBatches


class DataParallel(Strategy):
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
        self.dummies = "none" if exact else "idle"
        self._exact_sum = ExactSum(list(model.parameters())) if exact else None
        self._parameters = list(model.parameters())  # to walk the modules takes a millisecond

    def train(self) -> None:
        self.prepared.train()

    def forward(self, images: Mapping[str, torch.Tensor], micro_batches: MicroBatches) -> torch.Tensor:
        logits: torch.Tensor = self.prepared(images, micro_batches)
        return logits

    @contextmanager
    def one_pass(self, *, is_last: bool) -> Iterator[None]:
        is_summed_later = self._exact_sum is not None
        with nullcontext() if is_last or is_summed_later else self._accelerator.no_sync(self.prepared):
            yield
        if self._exact_sum is not None:
            self._exact_sum.take()

    def backward(self, loss: torch.Tensor) -> None:
        self._accelerator.backward(loss)

    def reduce_gradients(self, num_micro_batches: int) -> None:
        if self._exact_sum is not None:
            self._exact_sum.finish(num_micro_batches)

    def clip_grad_norm(self) -> torch.Tensor:
        if self._accelerator.scaler is not None:
            self._accelerator.unscale_gradients()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = get_total_norm(gradients).to(self._device)  # of the sum, which every process has
        if self._max_grad_norm is not None:
            clip_grads_with_norm_(self._parameters, self._max_grad_norm, norm)
        return norm

    def update(self, *, is_finite: bool) -> None:
        if is_finite:
            self.optimizer.step()
        elif self._accelerator.scaler is not None:
            self._accelerator.scaler.update()  # it has looked at these gradients, and may look again
        self.optimizer.zero_grad()

    def set_lr(self, lr: float) -> None:
        set_learning_rate(self.optimizer, lr)

    def gather_full_weights(self) -> None:
        """The model is the one that is trained."""

    def state(self) -> dict[str, torch.Tensor]:
        return optimizer_tensors(self.model, self.optimizer.optimizer) if self._accelerator.is_main_process else {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        restore_optimizer(self.model, self.optimizer.optimizer, state)

    def scaler_state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {} if scaler is None else dict(scaler.state_dict())

    def load_scaler(self, state: dict[str, Any]) -> None:
        if state and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)
