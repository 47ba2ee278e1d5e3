"""The data loader: threads read ahead into reused buffers.

A batch of 32 MiB is above glibc's threshold for mmap: allocated anew it would fault in all its pages each time.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from vwmm.data.loading.dataset import Batch, CaseDataset


class HostBuffer:
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
    buffers = [HostBuffer(batch, device) for batch in _take_buffers(dataset, num_threads + 1, largest, device)]
    read = _read_ahead if num_threads else _read_when_needed
    try:
        for buffer, batch in read(dataset, wanted, buffers, num_threads):
            moved = batch.to(device)
            buffer.record()
            yield moved.cast()
    finally:
        for buffer in buffers:
            buffer.wait()
            dataset.buffers.append(buffer.batch)


def _take_buffers(dataset: CaseDataset, count: int, size: int, device: torch.device) -> list[Batch]:
    """Buffers for batches of this size, those of the epoch before if they fit."""
    is_pinned = device.type == "cuda"
    fitting = [b for b in dataset.buffers if len(b.labels) == size and b.labels.is_pinned() == is_pinned]
    dataset.buffers.clear()
    return fitting[:count] + [dataset.empty(size, pin_memory=is_pinned) for _ in range(count - len(fitting))]


def _read_when_needed(
    dataset: CaseDataset, wanted: Sequence[Sequence[int]], buffers: list[HostBuffer], _: int
) -> Iterator[tuple[HostBuffer, Batch]]:
    for indices in wanted:
        yield buffers[0], buffers[0].fill(dataset, indices)


def _read_ahead(
    dataset: CaseDataset, wanted: Sequence[Sequence[int]], buffers: list[HostBuffer], num_threads: int
) -> Iterator[tuple[HostBuffer, Batch]]:
    """One batch is being used, the others are being read."""
    free, todo = deque(buffers), iter(wanted)
    reading: deque[tuple[HostBuffer, Future[Batch]]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="reading")
    try:
        while True:
            while free and (indices := next(todo, None)) is not None:
                buffer = free.popleft()
                reading.append((buffer, pool.submit(buffer.fill, dataset, indices)))
            if not reading:
                return
            buffer, batch = reading.popleft()
            yield buffer, batch.result()
            free.append(buffer)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
