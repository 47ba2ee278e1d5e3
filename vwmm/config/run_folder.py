"""The run folder: which file is whose, which folder a run gets, and files that are written whole or not at all."""

import fcntl
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from vwmm.config.errors import UserError
from vwmm.config.schema import Config

# Sections and keys that never change a result: a run may be continued with others.
FREE_KEYS = ("cache", "tracking", "run", "train.log_every", "train.num_workers")


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
    report = property(lambda self: self.path / "report.html")
    status = property(lambda self: self.path / "status.json")
    log = property(lambda self: self.path / "train.log")
    tracker = property(lambda self: self.path / "tracker.json")

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

    def write_status(self, state: str, reason: str | None = None, **more: Any) -> None:
        """Writes status.json."""
        write_whole(self.status, json.dumps({"state": state, "reason": reason, **more}, indent=2) + "\n")

    def lock(self) -> IO[str]:
        """Holds the folder for this process until the returned file is closed; UserError if another has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        stream = (self.path / ".lock").open("a+")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            stream.close()
            raise UserError(
                f"run folder {self.path} is in use by {holder}: wait for it, stop it, or choose another run.name"
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {os.uname().nodename}")
        stream.flush()
        return stream


def choose_run_folder(config: Config) -> RunFolder:
    """The folder that a run of this configuration belongs in.

    The newest folder of this name is gone on with if it is unfinished, with `run.resume=auto`; a finished one is never
    touched: the name gets a counter. Raises UserError where the unfinished run has another configuration.
    """
    name = config.run.name
    assert name is not None, "the name is set when the configuration is resolved"
    folder, number, newest = Path(config.run.dir), 1, None
    while (candidate := folder / (name if number == 1 else f"{name}-{number}")).exists():
        newest, number = RunFolder(candidate), number + 1
    fresh = RunFolder(candidate)
    is_unfinished = newest is not None and newest.state() != "done"
    if config.run.resume == "never" or not is_unfinished:
        if config.run.resume == "must":
            raise UserError(f"run.resume=must: there is no unfinished run {name!r} in {folder}")
        return fresh
    assert newest is not None
    if not newest.config.exists():
        return newest if _is_ours(newest.path) else fresh
    differences = compare_configs(read_saved_config(newest.config), config.model_dump(mode="json"))
    if differences:
        raise UserError(
            [f"run {newest.path} is unfinished and has another configuration: {text}" for text in differences]
            + ["to begin anew beside it: run.resume=never, or another run.name; to go on with it: mend the differences"]
        )
    return newest


def _is_ours(path: Path) -> bool:
    """Whether a folder without a configuration holds nothing but what an aborted start leaves."""
    return all(entry.name in (".lock", "train.log", "status.json") for entry in path.iterdir())


def read_saved_config(path: Path) -> dict[str, Any]:
    """The values of a run's config.yaml."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected the configuration of a run")
    return content


def compare_configs(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`key: was X, is Y` for every key that can change a result."""
    differences = []
    for key in dict.fromkeys([*before, *now]):
        dotted = f"{prefix}{key}"
        old, new = before.get(key), now.get(key)
        if dotted in FREE_KEYS or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            differences += compare_configs(old, new, f"{dotted}.")
        else:
            differences.append(f"{dotted}: was {json.dumps(old)}, is {json.dumps(new)}")
    return differences


def write_whole(path: Path, text: str | bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk and renames it."""
    content = text.encode("utf-8") if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
