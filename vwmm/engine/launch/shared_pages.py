"""Each rank's heartbeat and position in shared memory.

It can still be read when its process has been stopped (SIGSTOP, a debugger, a disk that does not answer).
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

OUTCOME_VARIABLE = "VWMM_OUTCOME_FILE"
_PAGE = "page-"
_HEAD = struct.Struct("<Qd")  # how many signs of life; seconds without one that are too many
_PLACE, _SIZE = 16, 128


@dataclass(frozen=True)
class Page:
    """What a process has noted."""

    count: int
    """How many signs of life it has given."""
    timeout_s: float
    """Seconds without one that are too many; 0: none are to be expected."""
    place: str
    """Where its main thread was last."""


def outcome_file() -> Path | None:
    """The file for a script's exit code, read by the waiting `vwmm train`; None if none waits."""
    file = os.environ.get(OUTCOME_VARIABLE)
    return None if file is None else Path(file)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine lives; one that has ended and that its parent has not noticed yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def open_page(timeout_s: float) -> mmap.mmap | None:
    """This process's page; None where no `vwmm train` waits for it."""
    file = outcome_file()
    if file is None or not file.parent.is_dir():
        return None
    try:
        with (file.parent / f"{_PAGE}{os.getpid()}").open("w+b") as stream:
            stream.write(_HEAD.pack(0, timeout_s).ljust(_SIZE, b" "))
            stream.flush()
            return mmap.mmap(stream.fileno(), _SIZE)
    except OSError:  # the temporary folder is full: the others cannot see this process's position
        return None


def write_count(page: mmap.mmap, count: int) -> None:
    """One more sign of life."""
    struct.pack_into("<Q", page, 0, count)


def close_page(page: mmap.mmap) -> None:
    """No more signs of life are to be expected."""
    struct.pack_into("<d", page, 8, 0.0)


def write_place(page: mmap.mmap, phase: str, step: int) -> None:
    """Where the main thread is."""
    page[_PLACE:_SIZE] = (f"{phase}, step {step}" if step else phase).encode()[: _SIZE - _PLACE].ljust(_SIZE - _PLACE)


def read_place(pid: int) -> str | None:
    """Where a process of this machine was last; None where it has no page."""
    file = outcome_file()
    page = read_pages(file.parent).get(pid) if file is not None else None
    return page.place if page else None


def read_pages(folder: Path) -> dict[int, Page]:
    """All processes' pages, by process."""
    pages = {}
    for file in folder.glob(f"{_PAGE}*"):
        content = file.read_bytes()
        if len(content) == _SIZE:
            count, timeout_s = _HEAD.unpack_from(content)
            pages[int(file.name.removeprefix(_PAGE))] = Page(count, timeout_s, content[_PLACE:].decode().strip())
    return pages
