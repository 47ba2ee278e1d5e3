"""DeepSpeed's ZeRO-1, 2 and 3: the optimizer's state, the gradients and the weights are sharded."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch

from vwmm.engine.checkpoints.state import copy_tensor
from vwmm.engine.optim import build_optimizer, set_learning_rate
from vwmm.engine.strategies.sharded import Sharded
from vwmm.models.micro_batches import MicroBatches
from vwmm.system.errors import RunError

# What each optimizer keeps of the shape of its parameter.
_ENTRIES = {"adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


class ZeRO(Sharded):
    """DeepSpeed's ZeRO-1, 2 and 3."""

    def _start(self) -> None:
        deepspeed = _import_deepspeed(self.runtime.device)
        choice = self.runtime.strategy
        trained = self.shared_copy()
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
            "gradient_clipping": self.settings.max_grad_norm or 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # torch's Adam has the same bits wherever it runs
            "steps_per_print": 10**9,
        }
        self._trained = trained
        self._names = {name.removeprefix("model."): parameter for name, parameter in trained.named_parameters()}
        optimizer = build_optimizer(trained.parameters(), self.settings)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=trained, optimizer=optimizer, config=settings, dist_init_required=False
        )

        self._step, self._is_in_step = ExitStack(), False

    def train(self) -> None:
        self._engine.train()

    def forward(self, images: Mapping[str, torch.Tensor], micro_batches: MicroBatches) -> torch.Tensor:
        logits: torch.Tensor = self._engine(images, micro_batches)
        return logits

    def one_pass(self, *, is_last: bool) -> AbstractContextManager[object]:
        # ZeRO-2 lays gradients into its buckets as they arrive, and adds the ranks' buckets: where a rank lacks a
        # modality they arrive in another order, and gradients of different parameters were added. Reduced once a step,
        # they go in the parameters' order.
        if self.runtime.strategy.stage == 2 and not self._is_in_step:
            self._step.enter_context(self._engine.coalesce_grad_reduction())
            self._is_in_step = True
        self._engine.set_gradient_accumulation_boundary(is_last)
        return nullcontext()

    def reduce_gradients(self, num_micro_batches: int) -> None:
        self._step.close()
        self._is_in_step = False

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss * self.runtime.num_processes)  # it averages over the processes

    def clip_grad_norm(self) -> torch.Tensor:
        # As its step computes it: what was not finite has become -1.
        if self.runtime.strategy.stage < 3:
            norm = self._optimizer.scaled_global_norm()
        else:
            groups = self._optimizer._get_norm_groups()
            norm = torch.stack([torch.where(group < 0, torch.nan, group) for group in groups]).norm()
        norm = torch.as_tensor(norm, dtype=torch.float32, device=self.runtime.device)
        return torch.where(norm < 0, torch.nan, norm)

    def update(self, *, is_finite: bool) -> None:
        self._engine.step()  # DeepSpeed itself skips a step with a non-finite gradient
        if self._engine.was_step_applied() != is_finite:
            raise RunError(
                f"{self.runtime.strategy} {'left out a good step' if is_finite else 'took a step that was bad'}"
            )
        self._is_stale = self._is_stale or is_finite

    def set_lr(self, lr: float) -> None:
        set_learning_rate(self._optimizer, lr)

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

        is_sharded = self.runtime.strategy.stage == 3
        flat = (
            self._optimizer.fp32_partitioned_groups_flat
            if is_sharded
            else self._optimizer.single_partition_of_fp32_groups
        )
        steps = [tensor for key, tensor in state.items() if key.endswith("/step")]
        for partition in flat:
            entries = {entry: torch.zeros_like(partition) for entry in self._entries()}
            self._optimizer.optimizer.state[partition] = entries | (
                {"step": steps[0].to(partition.device, torch.float32)} if steps else {}
            )
        if not is_sharded:
            self._optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._names.items():
            for entry in self._entries():
                value = state[f"{name}/{entry}"].to(self.runtime.device)
                if is_sharded:
                    safe_set_local_optimizer_state(parameter, self._own_part(value, parameter), entry)
                else:
                    safe_set_full_optimizer_state(parameter, value, entry)

    def _own_part(self, value: torch.Tensor, parameter: Any) -> torch.Tensor:
        """This process's part of a parameter's state; the last one is filled up with zeros."""
        size = parameter.ds_tensor.ds_numel
        padded = torch.zeros(size * self.runtime.num_processes, device=value.device)
        padded[: value.numel()] = value.flatten()
        return padded[size * self.runtime.rank :][:size]

    def _entries(self) -> tuple[str, ...]:
        is_plain = self.settings.optimizer == "sgd" and self.settings.momentum == 0
        return () if is_plain else _ENTRIES[self.settings.optimizer]

    def _full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        from deepspeed.utils import safe_get_full_fp32_param

        for name, parameter in self._names.items():
            yield name, safe_get_full_fp32_param(parameter)


def _import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed, quiet, and talking through what torch has set up."""
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)  # it calls torch's own Adam an untested optimizer
    # DeepSpeed's calls, not ours.
    warnings.filterwarnings("ignore", message="`torch.distributed.*` is deprecated", category=FutureWarning)

    if device.type == "cpu":  # else it compiles a way of its own between the processes of a machine
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
