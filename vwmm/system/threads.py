"""Threads that hide the waiting for a slow disk, where there is one."""

import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_KNOWS_WAITS = hasattr(resource, "RUSAGE_THREAD")  # Linux
_NUM_SEEN, _NUM_FOLLOWING = 32, 992
Item = TypeVar("Item")
Found = TypeVar("Found")


def map_hiding_waits(function: Callable[[Item], Found], items: Sequence[Item], num_threads: int) -> Iterator[Found]:
    """What the function returns for each, in order; in threads where it waits for a disk.

    Where it does not, threads would wait for the interpreter instead, which took half of the processor time again (900
    small images, two cores). The first ones of every thousand show which it is.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        for first in range(0, len(items), _NUM_SEEN + _NUM_FOLLOWING):
            block = items[first : first + _NUM_SEEN]
            before = _num_waits()
            yield from [function(item) for item in block]
            following = items[first + _NUM_SEEN : first + _NUM_SEEN + _NUM_FOLLOWING]
            is_waiting = not _KNOWS_WAITS or _num_waits() - before >= len(block)
            yield from (pool.map if is_waiting else map)(function, following)


def _num_waits() -> int:
    """How often this thread has given up its core, in all; 0 where the system does not tell it."""
    return 0 if not _KNOWS_WAITS else resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
