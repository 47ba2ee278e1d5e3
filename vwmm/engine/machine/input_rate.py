"""How fast cases come from the files, from the disk of the cache, and from memory."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vwmm.data.cache.store import Entry
from vwmm.data.loading.dataset import CaseDataset
from vwmm.data.loading.loader import load_batches

READERS = (1, 2, 4, 8)
# A rate is that of so many batches of each reader at least, if they take at most so many times as long as they should.
MIN_BATCHES, PATIENCE = 3, 4
REPEATS = 1000


@dataclass(frozen=True)
class InputRate:
    """Cases a second that the input delivers to a process."""

    first_time: float
    """Files read and transformed, by all workers of the machine."""
    cold: float
    """From the disk of the cache, by `train.num_workers` threads."""
    warm: float
    """From memory, by the same threads."""
    warm_by_readers: dict[int, float]
    """From memory, by other numbers of threads."""

    def better_readers(self, now: int) -> int | None:
        """The fewest threads that read nearly as fast as any, if they are much faster than those of now."""
        best = max(self.warm_by_readers.values(), default=0.0)
        found = [readers for readers, rate in self.warm_by_readers.items() if rate > 0.8 * best and readers > now]
        return min(found) if found and best > 1.3 * self.warm else None


def forget(entries: Iterable[Entry]) -> None:
    """Asks the system to drop its copies of the entries' files from memory."""
    for entry in entries:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)  # what is not on the disk yet cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def rate(dataset: CaseDataset, wanted: Sequence[Sequence[int]], *, readers: int, seconds: float) -> float:
    """Cases a second, of batches that are read one after another until the seconds are over.

    Each of the readers gets some of them, unless that takes several times as long.
    """
    done, least, started = 0, MIN_BATCHES * max(1, readers), time.perf_counter()
    batches = load_batches(dataset, wanted, num_threads=readers)
    try:
        for number, batch in enumerate(batches, 1):
            done += len(batch.labels)
            passed = time.perf_counter() - started
            if passed > (seconds if number >= least else PATIENCE * seconds):
                break
    finally:
        batches.close()
    return done / passed


def measure_input(
    dataset: CaseDataset,
    entries: Iterable[Entry],
    *,
    batch_size: int,
    readers: int,
    first_time: float,
    seconds: float,
    after_part: Callable[[str], None],
) -> InputRate:
    """The rates; dataset: one that has not been read yet. seconds: for each of them."""
    count = len(dataset)
    wanted = [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
    forget(entries)
    cold = rate(dataset, wanted, readers=readers, seconds=seconds)
    rate(dataset, wanted, readers=max(READERS), seconds=PATIENCE * seconds)  # all of them into memory
    after_part("reading from memory")
    again = wanted * REPEATS
    warm = rate(dataset, again, readers=readers, seconds=seconds / 4)
    others = {
        number: rate(dataset, again, readers=number, seconds=seconds / 4) for number in READERS if number != readers
    }
    return InputRate(first_time, cold, warm, others)
