"""FSDP2 and DeepSpeed ZeRO.

Both train a divided copy of the model that shares its buffers. Divided tensors are gathered before they are
evaluated or saved, so checkpoints hold the same safetensors as everywhere, and no engine's own files are ever read.
"""

import copy
import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import get_total_norm

from vwmm.config.schema import Train
from vwmm.engine.checkpoints.checkpoint import copy_tensor, optimizer_tensors, restore_optimizer
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.optim import build_optimizer, set_learning_rate
from vwmm.engine.strategies.data_parallel import Engine
from vwmm.models.fusion import FusionModel
from vwmm.system.errors import RunError

# What each optimizer keeps of the shape of its parameter.
_ENTRIES = {"adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


class InPrecision(nn.Module):
    """A model that computes in bfloat16 where that is the run's precision, and answers in float32."""

    def __init__(self, model: FusionModel, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model = model
        self._device_type, self._is_bf16 = device.type, precision == "bf16"

    def forward(
        self,
        images: Mapping[str, torch.Tensor],
        present: torch.Tensor,
        dropout_seed: int | None = None,
        *,
        each_alone: bool = False,
    ) -> torch.Tensor:
        with torch.autocast(self._device_type, dtype=torch.bfloat16, enabled=self._is_bf16):
            logits: torch.Tensor = self.model(images, present, dropout_seed, each_alone=each_alone)
        return logits.float()


class Sharded(Engine):
    """What both have in common."""

    def __init__(self, runtime: Runtime, model: FusionModel, train: Train) -> None:
        """model: on its device, its buffers where they will stay."""
        self.model = model
        self.network = InPrecision(model, runtime.device, runtime.mixed_precision)
        self.runtime, self.recipe = runtime, train
        self._is_stale = False
        self._start()

    @abstractmethod
    def _start(self) -> None:
        """Divides a copy of the model, with a new optimizer."""

    @abstractmethod
    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Puts an optimizer's state into the new one."""

    @abstractmethod
    def _whole_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each parameter by its name, whole, on every process."""

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self._start()
        self._is_stale = False
        if state:
            self._restore(state)

    def bring_together(self) -> None:
        if self._is_stale:
            own = dict(self.model.named_parameters())
            with torch.no_grad():
                for name, weight in self._whole_weights():
                    own[name].copy_(weight)
            self._is_stale = False

    def _copy(self) -> InPrecision:
        """A copy of the model that shares the model's buffers."""
        copied = copy.deepcopy(self.model)
        for (name, buffer), module in _buffers(self.model, copied):
            setattr(module, name, buffer)
        copied.runs_every_branch = True
        return InPrecision(copied, self.runtime.device, self.runtime.mixed_precision)


class FullySharded(Sharded):
    """Torch's FSDP2: weights, gradients and the optimizer's state are divided, a branch at a time is whole."""

    def _start(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

        # Our head takes a branch's output as it is; nothing is done to it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        choice = self.runtime.engine
        mesh = init_device_mesh(self.runtime.device.type, (self.runtime.num_processes,))
        policy = CPUOffloadPolicy() if choice.offload_weights else OffloadPolicy()
        self._trained = self._copy()
        model = self._trained.model
        for module in (*model.branches.values(), model):
            fully_shard(module, mesh=mesh, reshard_after_forward=choice.reshard_after_forward, offload_policy=policy)
        for module in model.modules():
            if isinstance(module, FSDPModule):  # a sum, as a step's loss is one; gloo knows no other
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._root: Any = model
        self._parameters = list(model.parameters())
        self._optimizer = build_optimizer(self._parameters, self.recipe, are_divided=True)

    def train(self) -> None:
        self._trained.train()

    def forward(self, images: Mapping[str, torch.Tensor], present: torch.Tensor, dropout_seed: int) -> torch.Tensor:
        logits: torch.Tensor = self._trained(images, present, dropout_seed)
        return logits

    def slot(self, *, is_last: bool) -> AbstractContextManager[object]:
        self._root.set_requires_gradient_sync(is_last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def grad_norm(self) -> torch.Tensor:
        own: list[Any] = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        parts = [gradient.to_local() for gradient in own]
        norm = get_total_norm(parts).to(self.runtime.device)
        squared = norm**2
        dist.all_reduce(squared)
        norm = squared.sqrt()
        if self.recipe.max_grad_norm is not None:
            factor = (self.recipe.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            for part in parts:
                part.mul_(factor.to(part.device))
        return norm

    def update(self, *, is_good: bool) -> None:
        if is_good:
            self._optimizer.step()
            self._is_stale = True
        self._optimizer.zero_grad()

    def set_rate(self, rate: float) -> None:
        set_learning_rate(self._optimizer, rate)

    def state(self) -> dict[str, torch.Tensor]:
        return optimizer_tensors(self._root, self._optimizer, lambda tensor: _whole(tensor, self.runtime.device))

    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        from torch.distributed.tensor import distribute_tensor

        parameters: dict[str, Any] = dict(self._root.named_parameters())
        divided = {}
        for key, tensor in state.items():
            like = parameters[key.rpartition("/")[0]]
            if tensor.shape == like.shape:
                whole = tensor.to(self.runtime.device)
                tensor = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
            divided[key] = tensor
        restore_optimizer(self._root, self._optimizer, divided)

    def _whole_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in self._root.named_parameters():
            yield name, _whole(parameter.detach(), self.runtime.device)


class ZeRO(Sharded):
    """DeepSpeed's ZeRO-1, 2 and 3."""

    def _start(self) -> None:
        deepspeed = _import_deepspeed(self.runtime.device)
        choice = self.runtime.engine
        trained = self._copy()
        num_elements = 2 * (sum(parameter.numel() for parameter in trained.parameters()) // 2 + 1)
        zero: dict[str, Any] = {
            "stage": choice.stage,
            "overlap_comm": False,
            "reduce_bucket_size": num_elements,  # the default would take 2 GB
            "allgather_bucket_size": num_elements,
        }
        for part, is_asked in (("optimizer", choice.offload_optimizer), ("param", choice.offload_weights)):
            if is_asked:
                zero[f"offload_{part}"] = {"device": "cpu", "pin_memory": True}
        settings = {
            "train_micro_batch_size_per_gpu": 1,  # we choose the micro-batch ourselves
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.recipe.max_grad_norm or 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # torch's Adam has the same bits wherever it runs
            "steps_per_print": 10**9,
        }
        self._trained = trained
        self._names = {name.removeprefix("model."): parameter for name, parameter in trained.named_parameters()}
        optimizer = build_optimizer(trained.parameters(), self.recipe)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=trained, optimizer=optimizer, config=settings, dist_init_required=False
        )

    def train(self) -> None:
        self._engine.train()

    def forward(self, images: Mapping[str, torch.Tensor], present: torch.Tensor, dropout_seed: int) -> torch.Tensor:
        logits: torch.Tensor = self._engine(images, present, dropout_seed)
        return logits

    def slot(self, *, is_last: bool) -> AbstractContextManager[object]:
        self._engine.set_gradient_accumulation_boundary(is_last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss * self.runtime.num_processes)  # it averages over the processes

    def grad_norm(self) -> torch.Tensor:
        # As its step computes it: what was not finite has become -1.
        if self.runtime.engine.stage < 3:
            norm = self._optimizer.scaled_global_norm()
        else:
            groups = self._optimizer._get_norm_groups()
            norm = torch.stack([torch.where(group < 0, torch.nan, group) for group in groups]).norm()
        norm = torch.as_tensor(norm, dtype=torch.float32, device=self.runtime.device)
        return torch.where(norm < 0, torch.nan, norm)

    def update(self, *, is_good: bool) -> None:
        self._engine.step()  # DeepSpeed itself skips a step with a non-finite gradient
        if self._engine.was_step_applied() != is_good:
            raise RunError(f"{self.runtime.engine} {'left out a good step' if is_good else 'took a step that was bad'}")
        self._is_stale = self._is_stale or is_good

    def set_rate(self, rate: float) -> None:
        set_learning_rate(self._optimizer, rate)

    def state(self) -> dict[str, torch.Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        inner = self._optimizer.optimizer.state
        known = next((state for state in inner.values() if state), None)
        if known is None:  # no step has been made
            return {}
        tensors = {}
        for name, parameter in self._names.items():
            for entry in self._entries():
                tensors[f"{name}/{entry}"] = copy_tensor(safe_get_full_optimizer_state(parameter, entry))
            if "step" in known:
                tensors[f"{name}/step"] = copy_tensor(torch.as_tensor(known["step"], dtype=torch.float32))
        return tensors

    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        is_divided = self.runtime.engine.stage == 3
        flat = (
            self._optimizer.fp32_partitioned_groups_flat
            if is_divided
            else self._optimizer.single_partition_of_fp32_groups
        )
        steps = [tensor for key, tensor in state.items() if key.endswith("/step")]
        for partition in flat:
            entries = {entry: torch.zeros_like(partition) for entry in self._entries()}
            self._optimizer.optimizer.state[partition] = entries | (
                {"step": steps[0].to(partition.device, torch.float32)} if steps else {}
            )
        if not is_divided:
            self._optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._names.items():
            for entry in self._entries():
                value = state[f"{name}/{entry}"].to(self.runtime.device)
                if is_divided:
                    safe_set_local_optimizer_state(parameter, self._own_part(value, parameter), entry)
                else:
                    safe_set_full_optimizer_state(parameter, value, entry)

    def _own_part(self, value: torch.Tensor, parameter: Any) -> torch.Tensor:
        """This process's part of a parameter's state; the last one is filled up with zeros."""
        size = parameter.ds_tensor.ds_numel
        padded = torch.zeros(size * self.runtime.num_processes, device=value.device)
        padded[: value.numel()] = value.flatten()
        return padded[size * self.runtime.process :][:size]

    def _entries(self) -> tuple[str, ...]:
        is_plain = self.recipe.optimizer == "sgd" and self.recipe.momentum == 0
        return () if is_plain else _ENTRIES[self.recipe.optimizer]

    def _whole_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        from deepspeed.utils import safe_get_full_fp32_param

        for name, parameter in self._names.items():
            yield name, safe_get_full_fp32_param(parameter)


def build_sharded(runtime: Runtime, model: FusionModel, train: Train) -> Sharded:
    """The engine that the launch file asks for."""
    return (ZeRO if runtime.engine.kind == "deepspeed" else FullySharded)(runtime, model, train)


def _import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed, quiet, and talking through what torch has set up."""
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)  # it calls torch's own Adam an untested optimizer
    # DeepSpeed's calls, not ours.
    warnings.filterwarnings("ignore", message="`torch.distributed.*` is deprecated", category=FutureWarning)

    if device.type == "cpu":  # else it compiles a way of its own between the processes of a machine
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _whole(tensor: Any, device: torch.device) -> torch.Tensor:
    """The full tensor of a divided one; others unchanged."""
    whole: torch.Tensor = tensor.to(device).full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


def _buffers(model: nn.Module, copied: nn.Module) -> Iterator[tuple[tuple[str, torch.Tensor], nn.Module]]:
    """Each buffer of a model, with its name, and the module of the copy that has it there."""
    for module, other in zip(model.modules(), copied.modules(), strict=True):
        for name, buffer in module.named_buffers(recurse=False):
            yield (name, buffer), other
