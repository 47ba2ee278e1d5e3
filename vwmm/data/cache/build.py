"""Fills the cache with threads or worker processes.

A worker holds an entry's lock while it makes it. What another process is making is left for later, so that processes
that build the same cache help each other instead of waiting.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from vwmm.config.schema import Cache, Modality
from vwmm.data.cache.store import WAIT_S, Entry, LockedElsewhere, Store, StoreError
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.imports import import_readers, import_transforms
from vwmm.system.errors import RunError
from vwmm.system.fault_injection import FAULTS
from vwmm.system.signals import SIGNALS, STOP

# Unpacking, the compiled loops and hashing let go of the interpreter: two threads took 0.53 of one's time,
# and were done in 2.4 s where two processes, which take seconds to start, needed 5.9 (192 images, two cores). MONAI's
# Spacing mostly holds it, and with many threads so do the few milliseconds of Python that each image has.
MAX_THREADS = 8
MIN_IMAGES_PER_PROCESS = 32


@dataclass(frozen=True)
class Job:
    """One image to transform."""

    image: Path
    """The file, or the folder of a series."""
    modality: str
    """Its name."""
    case: str = ""
    """The image's case."""

    def __str__(self) -> str:
        return f"case {self.case}: {self.modality} {self.image}" if self.case else f"{self.modality} {self.image}"


@dataclass(frozen=True)
class Failure:
    """Why an image could not be cached."""

    reason: str
    """In words."""
    kind: str = "unusable"
    """Of `vwmm.system.problems.KINDS`."""
    is_cache_error: bool = False
    """Whether the cache itself is at fault, so that no other image would do better."""


Result = Entry | Failure


def build(
    cache: Cache,
    modalities: Mapping[str, Modality],
    jobs: Sequence[Job],
    *,
    num_workers: int,
    each: Callable[[], None] | None = None,
) -> list[Result]:
    """The entries of all images in their order, or why there is none. Nothing is built twice.

    each: called after every image. Raises RunError where a worker process dies.
    """
    num_workers = max(1, min(num_workers, len(jobs)))
    holds_interpreter = cache.mode == "exact" and any(modality.spacing_mm for modality in modalities.values())
    is_worth_it = len(jobs) >= num_workers * MIN_IMAGES_PER_PROCESS
    if num_workers == 1 or not is_worth_it or not (holds_interpreter or num_workers > MAX_THREADS):
        work = _Work(cache, modalities)
        if num_workers > 1:
            import_readers(job.image for job in jobs)
            import_transforms(modalities.values(), mode=cache.mode)
        with ThreadPoolExecutor(num_workers) as pool:
            return _run(pool, work, jobs, num_workers, each)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = (cache, dict(modalities))
    with ProcessPoolExecutor(num_workers, context, initializer=_start_worker, initargs=arguments) as pool:
        try:
            return _run(pool, _in_worker, jobs, num_workers, each)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


Attempt = Callable[[Job, str | None], "Result | LockedElsewhere"]


def _run(
    pool: Executor, work: Attempt, jobs: Sequence[Job], num_workers: int, each: Callable[[], None] | None
) -> list[Result]:
    results: dict[int, Result] = {}
    todo: deque[tuple[int, str | None]] = deque((number, None) for number in range(len(jobs)))
    running: dict[Future[Result | LockedElsewhere], int] = {}
    while todo or running:
        if STOP.is_asked:
            for number, _ in todo:
                results[number] = Failure("stopped before it was transformed")
            todo.clear()
        while todo and len(running) < 2 * num_workers:
            number, content = todo.popleft()
            running[pool.submit(work, jobs[number], content)] = number
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            try:
                result = future.result()
            except BrokenProcessPool as error:
                # In the order in which they were handed out: the first ones were in a worker's hands.
                in_hand = [str(jobs[number]) for number in running.values()][:num_workers]
                raise RunError(
                    f"a worker process died, perhaps for want of memory, while it transformed {' or '.join(in_hand)}; "
                    "what is finished is kept: start again with cache.workers=1"
                ) from error
            number = running.pop(future)
            if isinstance(result, LockedElsewhere) and not STOP.is_asked:
                if not todo:
                    time.sleep(WAIT_S)
                todo.append((number, result.content_hash))
                continue
            results[number] = (
                Failure("stopped before it was transformed") if isinstance(result, LockedElsewhere) else result
            )
            if each is not None:
                each()
            if isinstance(result, Failure) and result.is_cache_error:
                for other, _ in todo:
                    results[other] = result
                    if each is not None:
                        each()
                todo.clear()
    return [results[number] for number in range(len(jobs))]


class _Work:
    """Makes single entries."""

    def __init__(self, cache: Cache, modalities: Mapping[str, Modality]) -> None:
        self._store = Store(cache)
        self._recipes = {name: self._store.recipe(modality) for name, modality in modalities.items()}

    def __call__(self, job: Job, content: str | None) -> Result | LockedElsewhere:
        try:
            FAULTS.at("cache", case=job.case)
            return self._store.try_entry(job.image, self._recipes[job.modality], content=content)
        except StoreError as error:
            return Failure(error.strerror or str(error), is_cache_error=True)
        except ImageError as error:
            return Failure(str(error), error.kind)
        except OSError as error:
            return Failure(error.strerror or str(error))
        except Exception as error:  # four libraries and any geometry: the message must name the image
            return Failure(f"cannot be transformed: {error.__class__.__name__}: {error}")


_WORK: _Work | None = None


def _start_worker(cache: Cache, modalities: Mapping[str, Modality]) -> None:
    global _WORK
    for number in SIGNALS:  # they may reach the whole group; the parent stops its workers
        signal.signal(number, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_watch_parent, daemon=True).start()
    _WORK = _Work(cache, modalities)


def _watch_parent() -> None:
    """Ends this process when its parent is gone, however it went: a pool's workers would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(job: Job, content: str | None) -> Result | LockedElsewhere:
    assert _WORK is not None
    return _WORK(job, content)
