"""The interface of a training strategy: forward, backward, reduce, clip, update.

Every strategy keeps the whole model, its optimizer's state by parameter and the same checkpoints; none changes what is
learned but by rounding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import nn

from vwmm.models.fusion import FusionModel
from vwmm.models.micro_batches import MicroBatches


class Strategy(ABC):
    """Trains one model. Every method is called by all ranks."""

    model: FusionModel
    """The whole model on this rank, as it was when `gather_full_weights` was last called."""
    network: nn.Module
    """The same, computing in the run's precision: for evaluation."""

    dummies: Literal["none", "idle", "even"] = "idle"
    """Which ranks need an empty pass to take part in its collectives; see `training.epoch.Epoch`."""

    @abstractmethod
    def train(self) -> None:
        """Puts the model into training mode."""

    @abstractmethod
    def forward(self, images: Mapping[str, torch.Tensor], micro_batches: MicroBatches) -> torch.Tensor:
        """Logits (B, K) float32; see FusionModel."""

    @abstractmethod
    def one_pass(self, *, is_last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of one of this rank's passes of a step."""

    @abstractmethod
    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a pass's part of the loss."""

    def reduce_gradients(self, num_micro_batches: int) -> None:  # noqa: B027 - most have done it in the backward pass
        """Sums the gradients of all ranks, which have computed so many micro-batches in all."""

    @abstractmethod
    def clip_grad_norm(self) -> torch.Tensor:
        """Clips the step's gradient to `train.max_grad_norm`; returns its L2 norm before, a scalar."""

    @abstractmethod
    def update(self, *, is_finite: bool) -> None:
        """One step of the optimizer; none if loss or gradient are not finite. The gradient is gone afterwards."""

    @abstractmethod
    def set_lr(self, lr: float) -> None:
        """Sets the learning rate of the next step."""

    @abstractmethod
    def gather_full_weights(self) -> None:
        """Puts the trained weights into `model`, on every rank."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the optimizer's state, by `parameter/entry`; of use on the main process."""

    @abstractmethod
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continues from the weights that `model` has and an optimizer's state."""

    def scaler_state(self) -> dict[str, Any]:
        """The state of fp16's loss scaling; empty where there is none."""
        return {}

    def load_scaler(self, state: dict[str, Any]) -> None:  # noqa: B027 - most have none
        """Continues from it."""
