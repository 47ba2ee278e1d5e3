"""Writes and reads checkpoints; each is complete and verified, or not loaded.

Tensors are safetensors, everything else is JSON: nothing that is read here can run code. A checkpoint is written under
another name, flushed, and renamed; `meta.json` has the size and the hash of each file, and a hash of its own.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vwmm.system.errors import UserError
from vwmm.system.fault_injection import FAULTS

FORMAT = 2
WEIGHTS, OPTIMIZER, STATISTICS, META = (
    "model.safetensors", "optimizer.safetensors", "statistics.safetensors", "meta.json"
)  # fmt: skip
LAST, OLDER, DAMAGED, UNUSED = "last", "step-", "damaged-", "unused-"
_CHUNK = 2**22


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


def write_checkpoint(folder: Path, state: State, *, keep: int = 1, is_durable: bool = True) -> None:
    """Writes a checkpoint and replaces the previous one, which is kept as `step-...` if there are to be several.

    is_durable: whether it is to survive a loss of power. Raises OSError, and then nothing has changed.
    """
    temporary = folder.with_name(f".{folder.name}.writing")
    for leftover in [temporary, *folder.parent.glob(f".{_prefix(folder)}*.removing")]:
        shutil.rmtree(leftover, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)  # not its parents: a run folder that was removed is not made again
    temporary.mkdir()
    try:
        _write_files(temporary, state)
        for path in [*temporary.iterdir(), temporary] if is_durable else []:
            _flush(path)
        FAULTS.at("save", step=state.progress.step)
        _put_in_place(temporary, folder, keep, is_durable=is_durable)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_files(folder: Path, state: State) -> None:
    with (folder / META).open(
        "x"
    ) as stream:  # with the rights that the user wants for new files; safetensors' are its own
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    groups = {WEIGHTS: state.weights, OPTIMIZER: state.optimizer}
    if state.parts is not None:
        groups[STATISTICS] = {"parts": state.parts}
    for name, tensors in groups.items():
        if tensors is not None:
            try:
                save_file(dict(tensors), folder / name)
            except SafetensorError as error:  # raised when the disk is full
                raise OSError(str(error)) from error
            (folder / name).chmod(mode)
            FAULTS.at("save", step=state.progress.step)
    written = sorted(file for file in folder.iterdir() if file.name != META)
    files = {file.name: {"bytes": file.stat().st_size, "xxh3": hash_file(file)} for file in written}
    meta = {"format": FORMAT, **state.description, "progress": asdict(state.progress), "files": files}
    (folder / META).write_text(json.dumps(meta | {"xxh3": _hash_meta(meta)}, indent=2) + "\n", encoding="utf-8")


def _put_in_place(temporary: Path, folder: Path, keep: int, *, is_durable: bool) -> None:
    """Renames; the one before has another name until the new one has its own, and is removed or kept after that."""
    if folder.exists():
        os.replace(folder, _free_name(folder))
    os.replace(temporary, folder)
    if is_durable:
        _flush(folder.parent)
    for path in older_checkpoints(folder)[keep - 1 :]:
        _remove(path)


def _remove(folder: Path) -> None:
    """Under another name first, so that half of it is never taken for a damaged checkpoint."""
    removing = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(removing, ignore_errors=True)
    if folder.exists():
        os.replace(folder, removing)
        shutil.rmtree(removing, ignore_errors=True)


def _free_name(folder: Path) -> Path:
    """`step-00000120` beside `last`, `best-step-...` beside `best`; by what it holds, if that can be read."""
    try:
        step = int(json.loads((folder / META).read_text(encoding="utf-8"))["progress"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        step = 0
    name = folder.with_name(f"{_prefix(folder)}{step:08}")
    _remove(name)
    return name


def _prefix(folder: Path) -> str:
    return OLDER if folder.name == LAST else f"{folder.name}-{OLDER}"


def older_checkpoints(folder: Path) -> list[Path]:
    """Those that had this checkpoint's place before it, the newest first."""
    pattern = re.compile(re.escape(_prefix(folder)) + r"\d{8,}")
    found = [path for path in folder.parent.glob(f"{_prefix(folder)}*") if pattern.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a complete, unchanged checkpoint. Raises UserError."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise UserError(f"checkpoint {folder} has format {meta['format']}, this version reads {FORMAT}")
        told = meta.pop("xxh3")
        if told != _hash_meta(meta):
            raise UserError(f"checkpoint {folder} is damaged: {META} is not what was written")
        files: dict[str, dict[str, Any]] = meta["files"]
        damaged = [name for name, facts in files.items() if not _is_intact(folder / Path(name).name, facts)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        if isinstance(error, PermissionError):
            raise UserError(
                f"{error.filename}: may not be read by this user: ask its owner for the right to read (chmod -R a+rX)"
            ) from error
        raise UserError(f"checkpoint {folder} is not complete: {error.__class__.__name__}: {error}") from error
    if damaged:
        raise UserError(f"checkpoint {folder} is damaged: {', '.join(damaged)} is not what was written")
    return dict(meta)


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint, or the one before it if a crash came between two renames."""
    return next((path for path in (folder, *older_checkpoints(folder)) if (path / META).exists()), None)


def set_aside(folder: Path, prefix: str = DAMAGED) -> Path:
    """Gives a checkpoint a name under which it is never loaded."""
    numbers = (f"{prefix}{folder.name}" + (f"-{n}" if n > 1 else "") for n in range(1, 10**6))
    name = next(path for number in numbers if not (path := folder.with_name(number)).exists())
    os.replace(folder, name)
    return name


def load_weights(folder: Path, model: nn.Module) -> None:
    """Puts a checkpoint's weights into a model of the same shape. Raises UserError."""
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"checkpoint {folder}: the weights do not fit this model: {error}") from error


def load_parts(folder: Path, num_processes: int) -> torch.Tensor | None:
    """(P, n) the processes' parts of the statistics, if it has any and they were as many. Raises UserError."""
    if not (folder / STATISTICS).exists():
        return None
    try:
        parts = load_file(folder / STATISTICS)["parts"]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"checkpoint {folder}: the statistics cannot be read: {error}") from error
    return parts if len(parts) == num_processes else None


def load_optimizer(folder: Path) -> dict[str, torch.Tensor]:
    """The optimizer's state, by `parameter/entry`, of a checkpoint that is intact. Raises UserError."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(folder / OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint {folder}: the optimizer's state cannot be read: {error}") from error
    return tensors


def read_progress(folder: Path) -> Progress:
    """Where the run stood. Raises UserError."""
    try:
        values = json.loads((folder / META).read_text(encoding="utf-8"))["progress"]
        return Progress(**{known.name: values[known.name] for known in fields(Progress)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {folder} is not complete: {error.__class__.__name__}: {error}") from error


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


def _hash_meta(meta: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(meta, sort_keys=True).encode())


def _is_intact(file: Path, facts: Mapping[str, Any]) -> bool:
    return file.stat().st_size == facts["bytes"] and hash_file(file) == facts["xxh3"]


def hash_file(path: Path) -> str:
    """XXH3 of a file's content, 128 bit: at the speed of memory, and it notices every accident."""
    hashed = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
