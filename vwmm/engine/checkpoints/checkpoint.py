"""Writes and reads checkpoints; each is complete and verified, or not loaded.

Tensors are safetensors, everything else is JSON: nothing that is read here can run code. A checkpoint is written under
another name, flushed, and renamed; `meta.json` has the size and the hash of each file, and a hash of its own.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vwmm.engine.checkpoints.state import Progress, State
from vwmm.system.errors import UserError
from vwmm.system.fault_injection import FAULTS
from vwmm.system.problems import KINDS, Problem

FORMAT = 2
WEIGHTS, OPTIMIZER, STATISTICS, META = (
    "model.safetensors", "optimizer.safetensors", "statistics.safetensors", "meta.json"
)  # fmt: skip
HOW_TO_RESTORE = KINDS["checkpoint"].action
LAST, OLDER, DAMAGED, UNUSED = "last", "step-", "damaged-", "unused-"
_CHUNK = 2**22


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
        os.replace(folder, _name_by_step(folder))
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


def _name_by_step(folder: Path) -> Path:
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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk that is complete and unchanged."""

    path: Path
    """Its folder."""
    progress: Progress
    """Where the run stood."""
    description: Mapping[str, Any]
    """What is needed to use the weights elsewhere: classes, modalities, model, validation, ..."""
    weights_xxh3: str = ""
    """Hash of its weights' file."""

    def load(self) -> State:
        """Its tensors. Raises UserError."""
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        for name in (WEIGHTS, OPTIMIZER, STATISTICS):
            if name == WEIGHTS or (self.path / name).exists():
                try:
                    tensors[name] = load_file(self.path / name)
                except (OSError, SafetensorError) as error:
                    raise _unusable(self.path, f"{name} cannot be read: {error}") from error
        parts = tensors.get(STATISTICS, {}).get("parts")
        return State(
            tensors[WEIGHTS], self.progress, self.description, tensors.get(OPTIMIZER), parts=parts, path=self.path
        )


def load_checkpoint(folder: Path) -> State:
    """The state in a checkpoint's folder, verified. Raises UserError."""
    return read_checkpoint(folder).load()


def read_checkpoint(folder: Path) -> Checkpoint:
    """A complete, unchanged checkpoint, without its tensors. Raises UserError."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise _unusable(folder, f"has format {meta['format']}, this version reads {FORMAT}")
        told = meta.pop("xxh3")
        if told != _hash_meta(meta):
            raise _unusable(folder, f"damaged: {META} is not what was written")
        files: dict[str, dict[str, Any]] = meta["files"]
        damaged = [name for name, facts in files.items() if not _is_intact(folder / Path(name).name, facts)]
        progress = Progress(**{known.name: meta["progress"][known.name] for known in fields(Progress)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        if isinstance(error, PermissionError):
            raise UserError(
                f"{error.filename}: may not be read by this user: ask its owner for the right to read (chmod -R a+rX)"
            ) from error
        what = f"{META} is cut off or altered" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise _unusable(folder, f"not complete: {what}") from error
    if damaged:
        raise _unusable(folder, f"damaged: {', '.join(damaged)} is not what was written")
    description = {key: value for key, value in meta.items() if key not in ("format", "progress", "files")}
    return Checkpoint(folder, progress, description, str(files[WEIGHTS]["xxh3"]))


def _unusable(folder: Path, found: str) -> UserError:
    return UserError(Problem(found, "checkpoint", where=f"checkpoint {folder}"))


def find_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint, or the one before it if a crash came between two renames. Raises UserError if it is damaged."""
    path = next((path for path in (folder, *older_checkpoints(folder)) if (path / META).exists()), None)
    return None if path is None else read_checkpoint(path)


def free_name(folder: Path, prefix: str) -> Path:
    """A name beside a checkpoint that is not in use, under which it is never loaded."""
    numbers = (f"{prefix}{folder.name}" + (f"-{n}" if n > 1 else "") for n in range(1, 10**6))
    return next(path for number in numbers if not (path := folder.with_name(number)).exists())


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
