"""How a rank reports its exit code to `vwmm train`.

The files have their size before anything starts: a temporary folder that is full by the end costs nothing.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vwmm.config.run_folder import RunFolder
from vwmm.engine.launch.shared_pages import outcome_file
from vwmm.system.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED, RunError

_RUN = "run"
_SIZE = 4096
_CODES = {"done": EXIT_DONE, "failed": EXIT_FAILED, "invalid": EXIT_INVALID, "preempted": EXIT_STOPPED}
# Systems remove old files from the temporary folder after some days.
_TOUCH_EVERY_S = 3600.0


@contextlib.contextmanager
def outcome_in_temporary_folder() -> Iterator["Outcome"]:
    """Where one launch's script leaves its outcome. Raises RunError where no temporary folder can be written."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="vwmm-")
        outcome = Outcome(Path(folder.name))
    except OSError as error:
        where = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - it is named only
        raise RunError(
            f"the temporary folder {where} cannot be written ({error.strerror}): make room there, or set TMPDIR to "
            "another folder"
        ) from error
    with folder:
        yield outcome


class Outcome:
    """What a launched script has left so far."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "exit_code"
        self._run: RunFolder | None = None
        self._touched = time.monotonic()
        for path in (self.file, folder / _RUN):
            path.write_bytes(b" " * _SIZE)

    def follow(self) -> None:
        """Called again and again while the script runs: notes its run folder, and keeps the files there."""
        if self._run is None and (text := _read(self.folder / _RUN)):
            self._run = RunFolder(Path(text))
        if time.monotonic() - self._touched > _TOUCH_EVERY_S:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):
                for path in [*self.folder.iterdir(), self.folder]:
                    os.utime(path)

    def code(self) -> int | None:
        """The script's exit code, if it has left one."""
        text = _read(self.file)
        return int(text) if text.isdigit() else None

    def final_code(self) -> int | None:
        """The same once the script has ended; where it could leave none, status.json has it."""
        self.follow()
        state = None if self._run is None else self._run.state()
        return _CODES.get(str(state)) if (found := self.code()) is None else found

    def note_failure(self, reason: str) -> None:
        """For a run with killed processes, which cannot report this themselves."""
        self.follow()
        with contextlib.suppress(OSError):
            if self._run is not None and self._run.state() == "running":
                self._run.write_status("failed", reason, **self._run.position())


def register_run(run: RunFolder) -> None:
    """Called by the script when its run folder is known."""
    if (file := outcome_file()) is not None:
        _write(file.with_name(_RUN), str(run.path.absolute()))


def report_outcome(code: int) -> int:
    """Called by the script: leaves its exit code for `launch`, unless one is there; returns the code to exit with.

    To the launcher no outcome is a failure: it would add a traceback of its own to our message.
    """
    file = outcome_file()
    if file is None:
        return code
    if os.environ.get("LOCAL_RANK", "0") == "0" or code != EXIT_DONE:
        _write(file, str(code))
    return EXIT_DONE


def _read(file: Path) -> str:
    try:
        return os.fsdecode(file.read_bytes()).strip()
    except OSError:
        return ""


def _write(file: Path, text: str) -> None:
    """Over the blanks of a file; the first to come writes."""
    with contextlib.suppress(OSError), file.open("r+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not stream.read().strip():
            os.pwrite(stream.fileno(), os.fsencode(text), 0)
