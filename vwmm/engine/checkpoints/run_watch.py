"""Notices that the run folder, or a file in it, was removed during training."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from vwmm.config.run_folder import RunFolder, open_in_place, write_whole
from vwmm.engine.console import LOG
from vwmm.system.errors import RunError, UserError


class RunWatch:
    """Asked at each step: what was removed from the folder is written again, or ends the run."""

    def __init__(self, run: RunFolder, lock: IO[str]) -> None:
        self.run = run
        self._lock = lock
        self._folder = run.path.stat()
        self._texts: dict[Path, str] = {}
        self._streams: dict[Path, int] = {}

    def keep(self, texts: Mapping[Path, str]) -> None:
        """Files that are written once."""
        self._texts = dict(texts)

    def follow(self, path: Path, descriptor: int) -> None:
        """A file that lines are added to, and where it is open."""
        self._streams[path] = descriptor

    def is_ours(self) -> bool:
        """Whether the folder is there, and is the one that was opened."""
        try:
            return os.path.samestat(self.run.path.stat(), self._folder)
        except OSError:
            return False

    def check(self) -> None:
        """Raises RunError if the folder was removed or belongs to another run."""
        if not self.is_ours():
            raise RunError(
                f"the run folder {self.run.path} was removed or replaced while the run was training: restore it to "
                "resume from its last checkpoint; without it the same command starts a new run"
            )
        self._check_lock()
        try:
            self._write_again()
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or str(self.run.path)) from error

    def _write_again(self) -> None:
        for path, text in self._texts.items():
            if not path.exists():
                write_whole(path, text)
                _say_again(path)
        for path, descriptor in self._streams.items():
            if not _is_same(path, descriptor):
                _put_back(path, descriptor)
                _say_again(path)

    def check_best(self, epoch: int | None) -> None:
        """Raises RunError if the best checkpoint, of this epoch, was removed. Call it while nothing is written."""
        if epoch is not None and not self.run.best.exists():
            raise RunError(
                f"{self.run.best}, of epoch {epoch}, was removed while the run was training: restore it to resume from "
                "the last checkpoint; without it the same command starts a new run"
            )

    def close(self) -> None:
        """Lets the folder go."""
        self._lock.close()

    def _check_lock(self) -> None:
        file = self.run.path / ".lock"
        if _is_same(file, self._lock.fileno()):
            return
        try:
            self._lock = self.run.lock()
        except UserError as error:
            raise RunError(f"{error}: it was taken from this run, which has stopped") from error


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _put_back(path: Path, descriptor: int) -> None:
    """Gives a removed file its name back, with all that was in it; what follows goes into the new one."""
    temporary = path.with_name(f".writing-{uuid.uuid4().hex}")
    with open(f"/proc/self/fd/{descriptor}", "rb") as before, temporary.open("xb") as stream:
        shutil.copyfileobj(before, stream)
    with open_in_place(temporary, "ab") as stream:
        os.replace(temporary, path)
        os.dup2(stream.fileno(), descriptor, inheritable=False)


def _say_again(path: Path) -> None:
    LOG.info("%s was removed or replaced while the run was training: it is written again", path)
