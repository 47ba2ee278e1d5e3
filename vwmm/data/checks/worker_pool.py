"""Runs a function in worker processes and survives their crashes.

A process pool ends as a whole when a process of it is killed, or crashes in a decoder, and waits forever for one that
hangs; here the job is named that the process had in hand, a new process takes its place, and all other jobs are done.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from vwmm.system.signals import SIGNALS

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """A process died over this job, or had to be ended."""

    reason: str
    """In words."""
    is_late: bool = False
    """Whether it had used up its time."""


@dataclass
class _Worker:
    """A process, and the job that it has in hand."""

    process: Any
    pipe: Connection
    number: int | None = None
    since_s: float = 0.0
    """When it got the job, by the monotonic clock."""


def for_each(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    num_workers: int,
    preload: Sequence[str] = (),
    timeout_s: float | None = None,
) -> Iterator[tuple[int, Result | Died]]:
    """(number of the job, its result) in the order in which they are done; a job that kills its process is `Died`.

    function: of a module, so that it can be named to another process; what it raises is raised here. preload: modules
    that are imported once for all processes. timeout_s: a process that has one job for longer is killed. However this
    ends, no process is left.
    """
    pool = _Pool(function, jobs, preload)
    try:
        pool.start(max(1, min(num_workers, len(jobs))))
        while busy := {worker.pipe: worker for worker in pool.workers if worker.number is not None}:
            for pipe in wait(list(busy), timeout=None if timeout_s is None else _remaining_s(busy.values(), timeout_s)):
                yield pool.answer_of(busy.pop(pipe))  # type: ignore[call-overload]
            for worker in busy.values():
                if timeout_s is not None and not _remaining_s([worker], timeout_s) and not worker.pipe.poll():
                    yield pool.give_up(worker, timeout_s)
    finally:
        pool.end()


class _Pool(Generic[Job]):
    """The worker processes, and the jobs that none of them has had yet."""

    def __init__(self, function: Callable[[Job], Any], jobs: Sequence[Job], preload: Sequence[str]) -> None:
        self.function, self.jobs, self.todo = function, jobs, deque(range(len(jobs)))
        self.workers: list[_Worker] = []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, *preload])

    def start(self, num_workers: int) -> None:
        """Starts all processes, then gives each a job."""
        for _ in range(num_workers):
            self.workers.append(_start(self.context, self.function))
        for worker in self.workers:
            self._give(worker)

    def answer_of(self, worker: _Worker) -> tuple[int, Any]:
        """The result of the worker's job; a dead one is replaced, a living one gets the next job."""
        number = worker.number
        assert number is not None
        try:
            result, error = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return number, Died(_in_words(worker.process.exitcode))
        if error is not None:
            raise error
        self._give(worker)
        return number, result

    def give_up(self, worker: _Worker, timeout_s: float) -> tuple[int, Died]:
        """Kills a worker that has used up its time for a job, and replaces it."""
        number = worker.number
        assert number is not None
        worker.process.kill()
        self._replace(worker)
        return number, Died(f"reading it did not end within {timeout_s:g} s", is_late=True)

    def end(self) -> None:
        """Ends all processes."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()

    def _replace(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self.workers[self.workers.index(worker)] = new = _start(self.context, self.function)
        self._give(new)

    def _give(self, worker: _Worker) -> None:
        """The next job, if there is one; a process that is gone already is noticed when its answer is read."""
        worker.number = self.todo.popleft() if self.todo else None
        if worker.number is not None:
            worker.since_s = time.monotonic()
            with contextlib.suppress(OSError):
                worker.pipe.send(self.jobs[worker.number])


def _remaining_s(workers: Iterable[_Worker], timeout_s: float) -> float:
    """Until the first of them has used up its time."""
    return max(0.0, min(worker.since_s for worker in workers) + timeout_s - time.monotonic())


def _start(context: Any, function: Callable[..., Any]) -> "_Worker":
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection, function: Callable[..., Any]) -> None:
    """The loop of a worker, until there are no more jobs."""
    for number in SIGNALS:  # a terminal sends them to all processes; the parent ends its workers
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = function(job), None
        except Exception as error:
            answer = None, error
        pipe.send(answer)


def _watch_parent() -> None:
    """Ends this process when its parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process that read it ended with code {code}"
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-code, f"signal {-code}")
    hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"the process that read it was ended by {name}{hint}"
