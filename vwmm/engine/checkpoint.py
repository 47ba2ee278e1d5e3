"""Checkpoints: a folder with the weights, the optimizer and where the run stood. Complete or not there.

Tensors are safetensors, everything else is JSON: nothing that is read here can run code.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vwmm.config.errors import UserError

FORMAT = 1
WEIGHTS, OPTIMIZER, META = "model.safetensors", "optimizer.safetensors", "meta.json"


@dataclass
class Progress:
    """Where a run stands."""

    epoch: int = 0
    """Epochs that are complete."""
    step: int = 0
    """Optimizer updates that are done."""
    best_value: float | None = None
    """The monitored value of the best checkpoint."""
    best_epoch: int | None = None
    """Its epoch."""
    stopping_value: float | None = None
    """The monitored value that early stopping measures an improvement from."""
    epochs_without_improvement: int = 0
    """For early stopping."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the loss scaling of fp16."""


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    progress: Progress,
    description: Mapping[str, Any],
    *,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Writes a checkpoint in the place of the one before; `description` says what is needed to use the model."""
    temporary = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, temporary / WEIGHTS)
    if optimizer is not None:
        save_file(_optimizer_tensors(model, optimizer), temporary / OPTIMIZER)
    files = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in sorted(temporary.iterdir())}
    meta = {"format": FORMAT, **description, "progress": asdict(progress), "files": files}
    (temporary / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    for path in [*temporary.iterdir(), temporary]:
        _flush(path)
    _put_in_place(temporary, folder)


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Renames; the one before stays beside it until the new one has its name."""
    before = folder.with_name(f".{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        os.replace(folder, before)
    os.replace(temporary, folder)
    _flush(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a checkpoint whose files are all there, unchanged. Raises UserError."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        files: dict[str, dict[str, Any]] = meta["files"]
        if meta["format"] != FORMAT:
            raise UserError(f"checkpoint {folder} has format {meta['format']}, this version reads {FORMAT}")
        damaged = [name for name, facts in files.items() if _sha256(folder / Path(name).name) != facts["sha256"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"checkpoint {folder} is not complete: {error.__class__.__name__}: {error}") from error
    if damaged:
        raise UserError(f"checkpoint {folder} is damaged: {', '.join(damaged)} is not what was written")
    return dict(meta)


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint, or the one before it if a crash came between two renames."""
    before = folder.with_name(f".{folder.name}.before")
    return next((path for path in (folder, before) if (path / META).exists()), None)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Puts a checkpoint's weights into a model of the same shape. Raises UserError."""
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"checkpoint {folder}: the weights do not fit this model: {error}") from error


def load_progress(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Weights, optimizer and position of a checkpoint. Raises UserError."""
    meta = read_meta(folder)
    load_weights(folder, model)
    try:
        tensors = load_file(folder / OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint {folder}: the optimizer's state cannot be read: {error}") from error
    _restore_optimizer(model, optimizer, tensors)
    return Progress(**meta["progress"])


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state by `parameter/entry`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for parameter, state in optimizer.state.items():
        for entry, value in state.items():
            if value is not None:
                tensor = value if torch.is_tensor(value) else torch.tensor(value)
                tensors[f"{names[id(parameter)]}/{entry}"] = tensor.detach().cpu().contiguous()
    return tensors


def _restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    numbers = {id(p): n for n, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        state.setdefault(numbers[id(parameters[name])], {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
