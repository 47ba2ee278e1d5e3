"""The run folder: its files, its lock, which folder a run gets, atomic writes."""

import fcntl
import glob
import json
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import yaml

from vwmm.config.schema import Config
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

SWEEP_JOURNAL = "sweep.journal"

# Sections and keys that never change a result: a run may be continued with others. With another number of
# `max_skipped_steps` it is the run that it would have been with that number from the start; `cases_at_once` changes
# rounding, and lets a run that needed too much memory go on.
FREE_KEYS = (
    "cache.dir", "cache.on_device", "cache.workers", "tracking", "run", "train.log_every", "train.num_workers",
    "train.max_minutes", "train.max_skipped_steps", "train.cases_at_once", "model.checkpointing",
)  # fmt: skip


# What a run writes in its folder.
FILES = (
    ".lock", ".identity", ".starts.json", "config.yaml", "environment.json", "split.csv", "metrics.jsonl",
    "predictions_val.csv", "status.json", "train.log", "tracker.json", "report.html",
    "calibration.json",
)  # fmt: skip
FOLDERS = ("checkpoints", "checkpoints/best", "checkpoints/last", "wandb", "tensorboard")


@dataclass(frozen=True)
class RunFolder:
    """`runs/NAME/` and the files in it."""

    path: Path
    """The folder."""

    config = property(lambda self: self.path / "config.yaml")
    environment = property(lambda self: self.path / "environment.json")
    split = property(lambda self: self.path / "split.csv")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    predictions = property(lambda self: self.path / "predictions_val.csv")
    best = property(lambda self: self.path / "checkpoints" / "best")
    last = property(lambda self: self.path / "checkpoints" / "last")
    calibration = property(lambda self: self.path / "calibration.json")
    report = property(lambda self: self.path / "report.html")
    status = property(lambda self: self.path / "status.json")
    log = property(lambda self: self.path / "train.log")
    tracker = property(lambda self: self.path / "tracker.json")
    starts = property(lambda self: self.path / ".starts.json")

    @property
    def name(self) -> str:
        """The run's name, its counter included."""
        return self.path.name

    def state(self) -> str | None:
        """`running`, `done`, ... from status.json; None where there is none that can be read."""
        try:
            state = json.loads(self.status.read_text())["state"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(state)

    def identity(self) -> str:
        """A random name of this run, made when it is first asked for."""
        file = self.path / ".identity"
        try:
            return file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            identity = uuid.uuid4().hex
            write_whole(file, identity + "\n")
            return identity

    def read_environment(self) -> dict[str, Any]:
        """The content of environment.json; empty where it is absent or damaged."""
        try:
            found = json.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def position(self) -> dict[str, Any]:
        """Epoch, step and the digests of results from status.json, as far as it has them."""
        try:
            status = json.loads(self.status.read_text())
            return {key: status[key] for key in ("epoch", "step", "files", "altered") if key in status}
        except (OSError, ValueError, TypeError):
            return {}

    def write_status(self, state: str, reason: str | None = None, **more: Any) -> None:
        """Writes status.json."""
        write_whole(self.status, json.dumps({"state": state, "reason": reason, **more}, indent=2) + "\n")

    def is_in_use(self) -> bool:
        """Whether a process holds the folder."""
        try:
            with (self.path / ".lock").open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def lock(self) -> IO[str]:
        """Holds the folder for this process until the returned file is closed; UserError if another has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links(self.path, FILES, FOLDERS)
            stream = open_in_place(self.path / ".lock", "a+")
        except OSError as error:
            raise UserError(f"run.dir: {self.path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            stream.close()
            raise UserError(
                f"run folder {self.path} is in use by {holder}: wait for it, stop it, or choose another run.name"
            ) from error
        except OSError as error:
            stream.close()
            raise UserError(
                f"run.dir: {self.path} cannot be locked ({error.strerror}): choose one on a disk with locks"
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {os.uname().nodename}")
        stream.flush()
        return stream


def refuse_links(folder: Path, files: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Raises UserError where one is a link, which would have something else overwritten, or not a file or folder."""
    problems = list[Problem]()
    for name in (*files, *folders):
        try:
            mode = (folder / name).lstat().st_mode
        except OSError:
            continue
        kind = "file" if name in files else "folder"
        if stat.S_ISLNK(mode):
            found = f"is a link, which is not followed; remove it, or put a {kind} in its place"
            problems.append(Problem(found, where=str(folder / name)))
        elif not (stat.S_ISREG(mode) if kind == "file" else stat.S_ISDIR(mode)):
            problems.append(Problem(f"is not a {kind}; remove it, or give it another name", where=str(folder / name)))
    if problems:
        raise UserError(problems)


def open_in_place(path: Path, mode: str, encoding: str | None = None, buffering: int = -1) -> IO[Any]:
    """Opens a file for writing as it is, without following a link and without waiting for the reader of a pipe."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)

    return open(path, mode, buffering, encoding, opener=opener)


def choose_run_folder(config: Config) -> RunFolder:
    """The folder that a run of this configuration belongs in.

    The newest folder of this name is resumed if it is unfinished, with `run.resume=auto`; a finished one is never
    touched: the name gets a counter. Raises UserError where the unfinished run has another configuration.
    """
    name = config.run.name
    assert name is not None, "the name is set when the configuration is resolved"
    folder = Path(config.run.dir)
    for sign, what in ((folder / name / "fold-0", "cross-validation"), (folder / name / SWEEP_JOURNAL, "sweep")):
        if sign.exists():
            raise UserError(f"run.name: {folder / name} is a {what}, not a run; choose another run.name")
    taken = max(_numbers_of(folder, name), default=0)  # numbers between may be free: their runs were removed
    newest = _numbered(folder, name, taken) if taken else None
    fresh = _numbered(folder, name, taken + 1)
    unfinished = newest if newest is not None and newest.state() != "done" and _is_ours(newest) else None
    if unfinished is None and config.run.resume != "never" and newest is not None and _has_lost_its_config(newest):
        raise UserError(
            f"run {newest.path} is unfinished and has checkpoints, but no config.yaml: restore it to resume the run; "
            "to start a new run: run.resume=never, or another run.name"
        )
    if config.run.resume == "never" or unfinished is None:
        if config.run.resume == "must":
            raise UserError(f"run.resume=must: there is no unfinished run {name!r} in {folder}")
        return fresh
    if not unfinished.config.exists():
        return unfinished
    if differences := differences_from(unfinished, config):
        where = f"run {unfinished.path} is unfinished and has another configuration"
        to_do = "; to resume it, undo the differences; to start a new run: run.resume=never, or another run.name"
        *others, last = [one.within(where) for one in differences]
        raise UserError([*others, replace(last, found=f"{last.found}{to_do}")])
    return unfinished


def _numbers_of(folder: Path, name: str) -> list[int]:
    """The numbers of the run folders `NAME` (1), `NAME-2`, ... that exist."""
    numbers = [1] if os.path.lexists(folder / name) else []
    for path in folder.glob(f"{glob.escape(name)}-*"):
        counter = path.name.removeprefix(f"{name}-")
        if counter.isascii() and counter.isdigit() and str(int(counter)) == counter and int(counter) > 1:
            numbers.append(int(counter))
    return numbers


def _numbered(folder: Path, name: str, number: int) -> RunFolder:
    return RunFolder(folder / (name if number == 1 else f"{name}-{number}"))


def differences_from(run: RunFolder, config: Config) -> list[Problem]:
    """`was X, is Y` for every key that can change a result and differs between a run's configuration and this."""
    return compare_configs(read_saved_config(run.config), config.model_dump(mode="json"))


def finished_before(run: RunFolder, config: Config) -> str | None:
    """A note on a new run with the name of a finished one; None if there was none."""
    name, counter = str(config.run.name), run.name.removeprefix(f"{config.run.name}-")
    if run.name == name or not counter.isdigit():
        return None
    before = RunFolder(run.path.with_name(name if counter == "2" else f"{name}-{int(counter) - 1}"))
    if before.state() != "done" or not before.config.exists():
        return None
    changed = differences_from(before, config)
    if [one.key for one in changed] == ["train.epochs"]:
        what = f"asked for another number of epochs ({changed[0].found})"
        return f"{before.path} is finished, and is not continued where it is {what}: {run.name} trains from the start"
    return f"{before.path} is finished and stays as it is: {run.name} is a run of its own, from the start"


def _has_lost_its_config(run: RunFolder) -> bool:
    return run.state() != "done" and run.last.parent.is_dir() and not run.config.exists()


def _is_ours(run: RunFolder) -> bool:
    """Whether a folder is a run's: with a configuration, or with nothing but what an aborted start leaves."""
    if not run.path.is_dir():
        return False
    names = [entry.name for entry in run.path.iterdir()]
    return run.config.name in names or all(n.startswith(".") or n in (run.log.name, run.status.name) for n in names)


def read_saved_config(path: Path) -> dict[str, Any]:
    """The values of a run's config.yaml."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected the configuration of a run: restore it to resume; to start a new run: "
            "run.resume=never, or another run.name"
        )
    return content


def compare_configs(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[Problem]:
    """`was X, is Y` for every key that can change a result."""
    differences = list[Problem]()
    if prefix == "modalities." and set(before) == set(now) and list(before) != list(now):
        found = f"their order was {', '.join(before)}, is {', '.join(now)}"
        differences.append(Problem(found, "configuration", key="modalities"))
    for key in dict.fromkeys([*before, *now]):
        dotted = f"{prefix}{key}"
        old, new = before.get(key), now.get(key)
        if dotted in FREE_KEYS or (prefix.startswith("modalities.") and key == "preset"):  # the keys it filled count
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            differences += compare_configs(old, new, f"{dotted}.")
        elif old != new:
            found = f"was {json.dumps(old)}, is {json.dumps(new)}"
            differences.append(Problem(found, "configuration", key=dotted))
    return differences


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
