"""Torch's FSDP2: weights, gradients and the optimizer's state are sharded; one branch at a time is gathered."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.utils import get_total_norm

from vwmm.engine.checkpoints.state import optimizer_tensors, restore_optimizer
from vwmm.engine.optim import build_optimizer, set_learning_rate
from vwmm.engine.strategies.sharded import Sharded
from vwmm.models.micro_batches import MicroBatches


class FSDP2(Sharded):
    """Torch's FSDP2: weights, gradients and the optimizer's state are sharded, a branch at a time is whole."""

    def _start(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

        # Our head takes a branch's output as it is; nothing is done to it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        choice = self.runtime.strategy
        mesh = init_device_mesh(self.runtime.device.type, (self.runtime.num_processes,))
        policy = CPUOffloadPolicy() if choice.offload_weights else OffloadPolicy()
        self._trained = self.shared_copy()
        model = self._trained.model
        for module in (*model.branches.values(), model):
            fully_shard(module, mesh=mesh, reshard_after_forward=choice.reshard_after_forward, offload_policy=policy)
        for module in model.modules():
            if isinstance(module, FSDPModule):  # a sum, as a step's loss is one; gloo knows no other
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._root: Any = model
        self._parameters = list(model.parameters())
        self._optimizer = build_optimizer(self._parameters, self.settings, are_sharded=True)

    def train(self) -> None:
        self._trained.train()

    def forward(self, images: Mapping[str, torch.Tensor], micro_batches: MicroBatches) -> torch.Tensor:
        logits: torch.Tensor = self._trained(images, micro_batches)
        return logits

    def one_pass(self, *, is_last: bool) -> AbstractContextManager[object]:
        self._root.set_requires_gradient_sync(is_last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def clip_grad_norm(self) -> torch.Tensor:
        own: list[Any] = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        parts = [gradient.to_local() for gradient in own]
        norm = get_total_norm(parts).to(self.runtime.device)
        squared = norm**2
        dist.all_reduce(squared)
        norm = squared.sqrt()
        if self.settings.max_grad_norm is not None:
            factor = (self.settings.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            for part in parts:
                part.mul_(factor.to(part.device))
        return norm

    def update(self, *, is_finite: bool) -> None:
        if is_finite:
            self._optimizer.step()
            self._is_stale = True
        self._optimizer.zero_grad()

    def set_lr(self, lr: float) -> None:
        set_learning_rate(self._optimizer, lr)

    def state(self) -> dict[str, torch.Tensor]:
        return optimizer_tensors(self._root, self._optimizer, lambda tensor: _whole(tensor, self.runtime.device))

    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        from torch.distributed.tensor import distribute_tensor

        parameters: dict[str, Any] = dict(self._root.named_parameters())
        sharded = {}
        for key, tensor in state.items():
            like = parameters[key.rpartition("/")[0]]
            if tensor.shape == like.shape:
                whole = tensor.to(self.runtime.device)
                tensor = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
            sharded[key] = tensor
        restore_optimizer(self._root, self._optimizer, sharded)

    def _full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in self._root.named_parameters():
            yield name, _whole(parameter.detach(), self.runtime.device)


def _whole(tensor: Any, device: torch.device) -> torch.Tensor:
    """The full tensor of a sharded one; others unchanged."""
    whole: torch.Tensor = tensor.to(device).full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole
