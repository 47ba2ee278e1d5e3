"""The watchdog: which rank failed, hangs or was killed, and in which phase.

A thread in each process publishes a heartbeat and the main thread's current phase to torch's store, through which the
processes found each other. The main thread only records its phase, also in memory that this machine's processes share;
it never communicates.
"""

import contextlib
import json
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from vwmm.engine.distributed.heartbeat import Heartbeat, View, hanging, has_gone
from vwmm.engine.launch import shared_pages
from vwmm.engine.launch.outcome import report_outcome
from vwmm.system.errors import EXIT_FAILED, print_line
from vwmm.system.fault_injection import FAULTS
from vwmm.system.signals import STOP

_FAILURE = "failure"
_MAX_INTERVAL_S = 1.0
# A failing process reports its error before it exits; the others wait this long for it before they report theirs.
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Failure:
    """Why a run fails, as the first rank that fails reports it."""

    message: str
    """For people: all lines."""
    reason: str
    """For status.json: one line."""
    is_invalid: bool = False
    """Whether the user's input is wrong."""

    @classmethod
    def of_line(cls, line: str) -> "Failure":
        """A failure that one line tells."""
        return cls(f"vwmm: {line}", line.splitlines()[0] if line else "")


class Watchdog:
    """The phase of this process, and what it knows of the others."""

    def __init__(self, *, rank: int = 0, num_processes: int = 1, store: Any = None, timeout_s: float = 600) -> None:
        """store: torch's, for this thread alone; None where this process is the only one."""
        self.rank, self.num_processes, self.timeout_s = rank, num_processes, timeout_s
        self._on_failure: Callable[[Failure], None] = lambda _: None
        self._store = store
        self._count, self._progress_count, self._position = 0, 0, 0
        self._phase, self._step, self._case, self._waits = "start", 0, "", False
        self._views = {other: View(self._heartbeat()) for other in range(num_processes)}
        self._interval_s = min(_MAX_INTERVAL_S, timeout_s / 20)
        self.makes_nan = False
        """Whether an injected fault makes what is computed in this phase NaN (VWMM_FAULT, for tests)."""
        self._is_leaving = threading.Event()
        self._page: mmap.mmap | None = None
        self._publish()

    def report_failures_to(self, report: Callable[[Failure], None]) -> None:
        """report: receives a failure that this rank is the first to report."""
        self._on_failure = report

    def start(self) -> None:
        """Begins to watch."""
        self._page = shared_pages.open_page(self.timeout_s)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def enter_phase(self, phase: str, *, step: int | None = None, case: str | None = None, waits: bool = False) -> None:
        """Called at each boundary: records where this process is.

        waits: whether what follows waits for the other processes.
        """
        if step is not None and step != self._step:
            self._step, self._position = step, 0
        self._phase, self._case, self._waits = phase, case or "", waits
        self._position += 1
        self._progress_count += 1
        self._note_place()
        self.makes_nan = FAULTS.at(phase, step=step, case=case)

    @contextlib.contextmanager
    def phase(self, name: str, *, step: int | None = None, waits: bool = False) -> Iterator[None]:
        """Around a part of the training step; an injected NaN lasts until its end."""
        self.enter_phase(name, step=step, waits=waits)
        try:
            yield
        finally:
            self.makes_nan = False

    def publish_now(self) -> None:
        """Publishes at once where this process is and what asked it to stop."""
        with contextlib.suppress(RuntimeError):
            self._publish()

    def stop_reason_elsewhere(self) -> str:
        """What asked another process to stop, if it is known."""
        with contextlib.suppress(RuntimeError):
            self._look()
        asked = [
            f"{view.heartbeat.stop} to process {other}" for other, view in self._views.items() if view.heartbeat.stop
        ]
        return asked[0] if asked else "a request to another process"

    def leave(self) -> None:
        """No more watching: this process has come to its end."""
        self._is_leaving.set()
        if self._page is not None:
            shared_pages.close_page(self._page)

    def fail(self, failure: Failure, before: Callable[[], object] = lambda: None) -> bool:
        """Reports why the run fails, unless another process did so first; returns whether this one did.

        before: called before the message is printed, only if this process is the first to report.
        """
        if not self._claim(failure.message):
            return False
        before()
        print_line(failure.message)
        with contextlib.suppress(OSError):
            self._on_failure(failure)
        return True

    def diagnose(self) -> str | None:
        """Why a collective operation failed; waits up to 3 s for another process's report.

        A message if a process has ended, an empty text if another process has already reported the failure, None if
        only this one failed.
        """
        end = time.monotonic() + _PATIENCE_S
        while self.num_processes > 1 and time.monotonic() < end:
            if self._failure_of_another() is not None:
                return ""
            gone = [view.heartbeat for view in self._views.values() if has_gone(view.heartbeat)]
            if gone:
                number = next(n for n, view in self._views.items() if view.heartbeat is gone[0])
                return (
                    f"process {number} has ended, last seen in {gone[0].where()}: it was killed from outside "
                    "(out of memory?)"
                )
            time.sleep(self._interval_s / 4)
            self._look()
        return None

    def where(self) -> str:
        """This process's place in words."""
        return self._heartbeat().where()

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self._count, self._progress_count, self._phase, self._step, self._case or None, self._position, self._waits,
            STOP.reason, os.getpid(), os.uname().nodename,
        )  # fmt: skip

    def _note_place(self) -> None:
        """On a page that others on this machine can read, also when this process has been stopped."""
        if self._page is not None:
            shared_pages.write_place(self._page, self._phase, self._step)

    def _publish(self) -> None:
        self._count += 1
        if self._page is not None:
            shared_pages.write_count(self._page, self._count)
        if self._store is not None:
            self._store.set(f"heartbeat/{self.rank}", json.dumps(asdict(self._heartbeat())))

    def _look(self) -> None:
        """Brings the views of all processes up to date."""
        now = time.monotonic()
        for other, view in self._views.items():
            if other == self.rank or self._store is None:
                view.see(self._heartbeat(), now)
            elif self._store.check([f"heartbeat/{other}"]):
                view.see(Heartbeat(**json.loads(self._store.get(f"heartbeat/{other}"))), now)

    def _watch(self) -> None:
        while not self._is_leaving.wait(self._interval_s):
            try:
                self._publish()
                self._look()
                if self._failure_of_another() is not None:
                    self._exit_failed()
            except RuntimeError:  # the launcher, which held the store, has died
                STOP.ask("the launcher's death")
                self._store = None
                self._views = {self.rank: View(self._heartbeat())}
            for other, view in self._views.items():
                if other != self.rank and view.heartbeat.stop:
                    STOP.ask(f"{view.heartbeat.stop} to process {other}")
            hanging_rank = hanging(
                {other: view.state() for other, view in self._views.items()}, self.timeout_s - 3 * self._interval_s
            )
            if hanging_rank is not None and not self._is_leaving.is_set():
                self._kill_hanging(hanging_rank)

    def _kill_hanging(self, hanging_rank: int) -> None:
        """Reports the hanging process, ends it and this one; the others end when they learn of it."""
        view = self._views[hanging_rank]
        silent_s, stuck_s = view.ages()
        heartbeat = view.heartbeat
        is_silent = silent_s > stuck_s / 2
        place = shared_pages.read_place(heartbeat.pid) if heartbeat.host == os.uname().nodename else None
        last = f"stopped in {place}" if place else f"last seen in {heartbeat.where()}"
        where = f": no sign of life, {last}," if is_silent else f" in {heartbeat.where()}: no progress"
        line = (
            f"process {hanging_rank} (pid {heartbeat.pid} on {heartbeat.host}) hangs{where} for "
            f"{max(silent_s, stuck_s):.0f} s (run.hang_timeout_s={self.timeout_s:g}); all processes end"
        )
        self.fail(Failure.of_line(line))
        if hanging_rank != self.rank and heartbeat.host == os.uname().nodename:
            with contextlib.suppress(OSError):
                os.kill(heartbeat.pid, signal.SIGKILL)
        self._exit_failed()

    def _exit_failed(self) -> None:
        # The main thread may be inside a collective operation that will never return.
        if not self._is_leaving.is_set():
            os._exit(report_outcome(EXIT_FAILED))

    def _claim(self, message: str) -> bool:
        if self._store is None:
            return True
        with contextlib.suppress(RuntimeError):
            text = json.dumps({"process": self.rank, "message": message})
            return bool(self._store.compare_set(_FAILURE, "", text).decode() == text)
        return True

    def _failure_of_another(self) -> dict[str, Any] | None:
        if self._store is None or not self._store.check([_FAILURE]):
            return None
        failure: dict[str, Any] = json.loads(self._store.get(_FAILURE))
        return failure if failure["process"] != self.rank else None
