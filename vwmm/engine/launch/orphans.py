"""Detects that the launcher has died.

`vwmm train` holds a lock for as long as it lives, which the kernel takes back however it dies; numbers of processes are
given again, and a process that starts after its launcher's death finds another parent.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from vwmm.engine.launch.shared_pages import outcome_file

_LOCK = "alive"
_LAUNCHERS = (b"accelerate", b"torch", b"vwmm")


@contextlib.contextmanager
def hold_liveness(outcome: Path) -> Iterator[None]:
    """Tells the processes that find this outcome file that a parent waits for it."""
    with (outcome.parent / _LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def is_orphan(parent: int) -> bool:
    """Whether this process's parent is gone. parent: its parent's number, as it found it."""
    file = outcome_file()
    if file is not None:
        return not _is_held(file.parent / _LOCK)
    return parent == 1 and not any(name in _command_of(1) for name in _LAUNCHERS)


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its folder goes when it ends
        return False
    except OSError:  # a file system without locks: unknown
        return True
    return False


def _command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
