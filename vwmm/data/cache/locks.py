"""Locks of cache entries: one byte range per entry in one lock file.

The locks belong to an open file, so the kernel releases them whenever the process ends: no clean-up is needed, and no
process waits for a dead one.
"""

import contextlib
import errno
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_FOLDER = 1 << 61  # behind the keys' bytes: the lock of the whole folder
_UNSUPPORTED = (errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class KeyLocks:
    """Locks by key among all processes that use one folder, and among the threads of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.are_supported = True
        self._descriptor: int | None = None
        self._mine: set[str] = set()
        self._guard = threading.Lock()

    @contextmanager
    def try_hold(self, key: str) -> Iterator[bool]:
        """Whether this thread has the key until the block ends; never waits. Raises OSError.

        On a file system without locks it has, always: two processes may then do the same work, with the same result.
        """
        with self._guard:
            is_free = key not in self._mine and self._lock(key, fcntl.F_WRLCK)
            if is_free:
                self._mine.add(key)
        try:
            yield is_free
        finally:
            if is_free:
                with self._guard:
                    self._mine.remove(key)
                    self._lock(key, fcntl.F_UNLCK)

    def hold_together(self) -> None:
        """Until `let_go`, no process holds the folder alone. Does nothing without a place to lock."""
        with self._guard, contextlib.suppress(OSError):
            self._lock_place(_FOLDER, fcntl.F_RDLCK)

    def hold_alone(self) -> bool:
        """Whether no other process holds the folder; keeps it so until `let_go`. Raises OSError."""
        with self._guard:
            return self._lock_place(_FOLDER, fcntl.F_WRLCK)

    def let_go(self) -> None:
        """Of the folder."""
        with self._guard, contextlib.suppress(OSError):
            self._lock_place(_FOLDER, fcntl.F_UNLCK)

    def close(self) -> None:
        """Lets go of everything."""
        with self._guard:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _lock(self, key: str, kind: int) -> bool:
        return self._lock_place(int(key[:15], 16), kind)

    def _lock_place(self, place: int, kind: int) -> bool:
        if self._descriptor is None:
            self._descriptor = _open(self.path)
        request = struct.pack(_FLOCK, kind, os.SEEK_SET, place, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if error.errno not in _UNSUPPORTED:
                raise
            self.are_supported = False
        return True


def _open(path: Path) -> int:
    """The lock file, which everybody who shares the folder may lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    return descriptor
