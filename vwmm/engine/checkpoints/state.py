"""The state of a run: weights, optimizer, statistics and progress."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import nn

from vwmm.system.errors import UserError


@dataclass
class Progress:
    """Where a run stands."""

    epoch: int = 0
    """Epochs that are complete."""
    step: int = 0
    """Optimizer updates that are done, those that were skipped included."""
    best_value: float | None = None
    """The monitored value of the best checkpoint."""
    best_epoch: int | None = None
    """Its epoch."""
    stopping_value: float | None = None
    """The monitored value that early stopping measures an improvement from."""
    epochs_without_improvement: int = 0
    """For early stopping."""
    loss_sum: float = 0.0
    """Of the unfinished epoch: the sum of the training losses of its cases."""
    loss_cases: int = 0
    """How many cases that sum is over."""
    skipped: int = 0
    """Steps that were skipped because of a NaN or infinite loss or gradient."""
    last_record: dict[str, Any] = field(default_factory=dict)
    """The last step's line of metrics.jsonl, which is written after its state has been kept in memory."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the loss scaling of fp16."""

    def add_step(self, step: int, record: dict[str, Any], *, loss_sum: float, num_cases: int) -> None:
        """Counts a step. record: its line of metrics.jsonl. loss_sum: over its cases; 0 of 0 if it was skipped."""
        self.step, self.last_record = step, record
        self.loss_sum += loss_sum
        self.loss_cases += num_cases

    def end_epoch(self, epoch: int) -> None:
        """The epoch is complete."""
        self.epoch, self.loss_sum, self.loss_cases = epoch, 0.0, 0


@dataclass(frozen=True)
class State:
    """A copy of all that a checkpoint holds, which training no longer changes."""

    weights: Mapping[str, torch.Tensor]
    """The model's parameters and buffers."""
    progress: Progress
    """Where the run stood."""
    description: Mapping[str, Any]
    """What is needed to use the weights elsewhere."""
    optimizer: Mapping[str, torch.Tensor] | None = None
    """By `parameter/entry`; None if no run will resume from it."""
    parts: torch.Tensor | None = None
    """(P, n) the processes' parts of the batch-norm statistics; None where each had the whole."""
    path: Path | None = None
    """Where it was loaded from; None: it has not been saved."""

    def restore_weights(self, model: nn.Module) -> None:
        """Puts the weights into a model of the same shape. Raises UserError."""
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            where = f"checkpoint {self.path}: " if self.path else ""
            raise UserError(f"{where}the weights do not fit this model: {error}") from error


def copy_state(
    model: nn.Module,
    progress: Progress,
    description: Mapping[str, Any],
    *,
    optimizer: Mapping[str, torch.Tensor] | None = None,
    parts: torch.Tensor | None = None,
) -> State:
    """The state as it is now; `optimizer`: a copy of its state already."""
    weights = {name: copy_tensor(tensor) for name, tensor in model.state_dict().items()}
    copied = Progress(**json.loads(json.dumps(asdict(progress))))
    return State(weights, copied, dict(description), optimizer, None if parts is None else copy_tensor(parts))


def digest(parameters: Iterator[nn.Parameter]) -> str:
    """A hash of the weights' bits."""
    hashed = xxhash.xxh3_128()
    for parameter in parameters:
        hashed.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def optimizer_tensors(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    whole: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
) -> dict[str, torch.Tensor]:
    """A copy of the optimizer's state, by `parameter/entry`; `whole` brings together what is divided."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for parameter, state in optimizer.state.items():
        for entry, value in state.items():
            if value is not None:
                tensors[f"{names[id(parameter)]}/{entry}"] = copy_tensor(
                    whole(value) if torch.is_tensor(value) else torch.tensor(value)
                )
    return tensors


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts in what `optimizer_tensors` gave. Raises UserError where it is another model's."""
    parameters = dict(model.named_parameters())
    numbers = {id(p): n for n, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in parameters:
            raise UserError(f"the optimizer's state in the checkpoint is another model's: it has {name}")
        state.setdefault(numbers[id(parameters[name])], {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def copy_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's copy in this computer's memory."""
    copied = tensor.detach().to("cpu", copy=True)
    return copied.contiguous()
