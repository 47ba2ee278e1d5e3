"""The data loader: threads read ahead into reused buffers.

A batch of 32 MiB is above glibc's threshold for mmap: allocated anew it would fault in all its pages each time.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from vwmm.data.loading.dataset import Batch, CaseDataset


class _Room:
    """A buffer, and when the device has taken what is in it."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        self.batch = batch
        self._taken = torch.cuda.Event() if device.type == "cuda" else None

    def fill(self, dataset: CaseDataset, indices: Sequence[int]) -> Batch:
        """Reads a batch, as soon as the one before has left."""
        self.wait()
        return dataset.fill(self.batch, indices)

    def record(self) -> None:
        """Called when the copy to the device has been asked for."""
        if self._taken is not None:
            self._taken.record()

    def wait(self) -> None:
        """Until the device has what is in it."""
        if self._taken is not None:
            self._taken.synchronize()


def load_batches(
    dataset: CaseDataset,
    wanted: Sequence[Sequence[int]],
    device: torch.device = torch.device("cpu"),  # noqa: B008
    *,
    num_threads: int = 1,
) -> Generator[Batch, None, None]:
    """The batches in the order asked for, float32, on the device. No random number is drawn.

    A batch is good until the next one is asked for, or the loop is left: its memory is then filled again.
    """
    if dataset.is_resident:
        yield from (dataset[indices].cast() for indices in wanted)
        return
    largest = max(map(len, wanted), default=0)
    rooms = [_Room(batch, device) for batch in _take_rooms(dataset, num_threads + 1, largest, device)]
    read = _read_ahead if num_threads else _read_when_needed
    try:
        for room, batch in read(dataset, wanted, rooms, num_threads):
            moved = batch.to(device)
            room.record()
            yield moved.cast()
    finally:
        for room in rooms:
            room.wait()
            dataset.rooms.append(room.batch)


def _take_rooms(dataset: CaseDataset, count: int, size: int, device: torch.device) -> list[Batch]:
    """Buffers for batches of this size, those of the epoch before if they fit."""
    is_pinned = device.type == "cuda"
    fitting = [b for b in dataset.rooms if len(b.labels) == size and b.labels.is_pinned() == is_pinned]
    dataset.rooms.clear()
    return fitting[:count] + [dataset.empty(size, pin_memory=is_pinned) for _ in range(count - len(fitting))]


def _read_when_needed(
    dataset: CaseDataset, wanted: Sequence[Sequence[int]], rooms: list[_Room], _: int
) -> Iterator[tuple[_Room, Batch]]:
    for indices in wanted:
        yield rooms[0], rooms[0].fill(dataset, indices)


def _read_ahead(
    dataset: CaseDataset, wanted: Sequence[Sequence[int]], rooms: list[_Room], num_threads: int
) -> Iterator[tuple[_Room, Batch]]:
    """One batch is being used, the others are being read."""
    free, todo = deque(rooms), iter(wanted)
    reading: deque[tuple[_Room, Future[Batch]]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="reading")
    try:
        while True:
            while free and (indices := next(todo, None)) is not None:
                room = free.popleft()
                reading.append((room, pool.submit(room.fill, dataset, indices)))
            if not reading:
                return
            room, batch = reading.popleft()
            yield room, batch.result()
            free.append(room)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
