"""The watchdog: which rank failed, hangs or was killed, and in which phase.

A thread of each process shows the others, through the store by which they found each other, that it lives and where its
main thread is. At a boundary the main thread notes its place, also on a page of memory that this machine's processes
can read; it communicates nothing.
"""

import contextlib
import json
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from vwmm.engine.launch import huge_pages
from vwmm.engine.launch.outcome import report_outcome
from vwmm.system.errors import EXIT_FAILED, say
from vwmm.system.fault_injection import FAULTS
from vwmm.system.signals import STOP

_FAILURE = "failure"
_MAX_INTERVAL_S = 1.0
# A failing process reports its error before it exits; the others wait this long for it before they report theirs.
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Beat:
    """A process's sign of life."""

    count: int
    """How many signs it has given."""
    moves: int
    """How many boundaries its main thread has passed."""
    phase: str
    """Where its main thread is."""
    step: int
    """The step that it is in or was in last."""
    case: str | None
    """The case that it is at, if that is known."""
    place: int
    """Boundaries passed within the step: who is behind has the smaller one."""
    waits: bool
    """Whether it waits for the others there."""
    stop: str | None
    """What asked it to stop."""
    pid: int
    """Its process."""
    host: str
    """Its machine."""

    def where(self) -> str:
        """`backward, step 37` or `cache`."""
        return self.phase + (f", step {self.step}" if self.step else "") + (f", case {self.case}" if self.case else "")


class Watch:
    """This process's place, and its view of the others."""

    def __init__(self, *, process: int = 0, num_processes: int = 1, store: Any = None, timeout_s: float = 600) -> None:
        """store: torch's, for this thread alone; None where this process is the only one."""
        self.process, self.num_processes, self.timeout_s = process, num_processes, timeout_s
        self.on_failure: Callable[[str], None] = lambda _: None
        """Told the message of a failure that this process is the first to speak of."""
        self._store = store
        self._count, self._moves, self._place = 0, 0, 0
        self._phase, self._step, self._case, self._waits = "start", 0, "", False
        self._views = {other: _View(self._beat()) for other in range(num_processes)}
        self._interval_s = min(_MAX_INTERVAL_S, timeout_s / 20)
        self._is_leaving = threading.Event()
        self._page: mmap.mmap | None = None
        self._publish()

    def start(self) -> None:
        """Begins to watch."""
        self._page = huge_pages.open_page(self.timeout_s)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def at(self, phase: str, *, step: int | None = None, case: str | None = None, waits: bool = False) -> bool:
        """Called at each boundary; whether a rehearsed fault makes what is computed here NaN.

        waits: whether what follows waits for the other processes.
        """
        if step is not None and step != self._step:
            self._step, self._place = step, 0
        self._phase, self._case, self._waits = phase, case or "", waits
        self._place += 1
        self._moves += 1
        self._note_place()
        return FAULTS.at(phase, step=step, case=case)

    def show(self) -> None:
        """Shows the others at once where this process is and what asked it to stop."""
        with contextlib.suppress(RuntimeError):
            self._publish()

    def asked_of_others(self) -> str:
        """What asked another process to stop, as far as it is known."""
        with contextlib.suppress(RuntimeError):
            self._look()
        asked = [f"{view.beat.stop} to process {other}" for other, view in self._views.items() if view.beat.stop]
        return asked[0] if asked else "a request to another process"

    def leave(self) -> None:
        """No more watching: this process has come to its end."""
        self._is_leaving.set()
        if self._page is not None:
            huge_pages.close_page(self._page)

    def fail(self, message: str, before: Callable[[], object] = lambda: None) -> bool:
        """Reports why the run fails, unless another process did so first; returns whether this one did.

        before: done first, if it did.
        """
        if not self._claim(message):
            return False
        before()
        say(message)
        with contextlib.suppress(OSError):
            self.on_failure(message)
        return True

    def blame(self) -> str | None:
        """Why a collective operation may have failed: another process's own message, or that one has gone.

        Waits briefly for its report; None if only this process failed. An empty text: it was reported.
        """
        end = time.monotonic() + _PATIENCE_S
        while self.num_processes > 1 and time.monotonic() < end:
            if self._failure_of_another() is not None:
                return ""
            gone = [view.beat for view in self._views.values() if _has_gone(view.beat)]
            if gone:
                number = next(n for n, view in self._views.items() if view.beat is gone[0])
                return (
                    f"vwmm: process {number} has ended, last seen in {gone[0].where()}: it was killed from outside "
                    "(out of memory?)"
                )
            time.sleep(self._interval_s / 4)
            self._look()
        return None

    def where(self) -> str:
        """This process's place in words."""
        return self._beat().where()

    def _beat(self) -> Beat:
        return Beat(
            self._count, self._moves, self._phase, self._step, self._case or None, self._place, self._waits,
            STOP.reason, os.getpid(), os.uname().nodename,
        )  # fmt: skip

    def _note_place(self) -> None:
        """On a page that others on this machine can read, also when this process has been stopped."""
        if self._page is not None:
            huge_pages.write_place(self._page, self._phase, self._step)

    def _publish(self) -> None:
        self._count += 1
        if self._page is not None:
            huge_pages.write_count(self._page, self._count)
        if self._store is not None:
            self._store.set(f"beat/{self.process}", json.dumps(asdict(self._beat())))

    def _look(self) -> None:
        """Brings the views of all processes up to date."""
        now = time.monotonic()
        for other, view in self._views.items():
            if other == self.process or self._store is None:
                view.see(self._beat(), now)
            elif self._store.check([f"beat/{other}"]):
                view.see(Beat(**json.loads(self._store.get(f"beat/{other}"))), now)

    def _watch(self) -> None:
        while not self._is_leaving.wait(self._interval_s):
            try:
                self._publish()
                self._look()
                if self._failure_of_another() is not None:
                    self._end()
            except RuntimeError:  # the launcher, which held the store, has died
                STOP.ask("the launcher's death")
                self._store = None
                self._views = {self.process: _View(self._beat())}
            for other, view in self._views.items():
                if other != self.process and view.beat.stop:
                    STOP.ask(f"{view.beat.stop} to process {other}")
            named = hanging(
                {other: view.state() for other, view in self._views.items()}, self.timeout_s - 3 * self._interval_s
            )
            if named is not None and not self._is_leaving.is_set():
                self._name(named)

    def _name(self, named: int) -> None:
        """Reports the hanging process, ends it and this one; the others end when they learn of it."""
        view = self._views[named]
        silent_s, stuck_s = view.ages()
        beat = view.beat
        is_silent = silent_s > stuck_s / 2
        place = huge_pages.read_place(beat.pid) if beat.host == os.uname().nodename else None
        last = f"stopped in {place}" if place else f"last seen in {beat.where()}"
        where = f": no sign of life, {last}," if is_silent else f" in {beat.where()}: no progress"
        self.fail(
            f"vwmm: process {named} (pid {beat.pid} on {beat.host}) hangs{where} for "
            f"{max(silent_s, stuck_s):.0f} s (run.hang_timeout_s={self.timeout_s:g}); all processes end"
        )
        if named != self.process and beat.host == os.uname().nodename:
            with contextlib.suppress(OSError):
                os.kill(beat.pid, signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        # The main thread may be inside a collective operation that will never return.
        if not self._is_leaving.is_set():
            os._exit(report_outcome(EXIT_FAILED))

    def _claim(self, message: str) -> bool:
        if self._store is None:
            return True
        with contextlib.suppress(RuntimeError):
            text = json.dumps({"process": self.process, "message": message})
            return bool(self._store.compare_set(_FAILURE, "", text).decode() == text)
        return True

    def _failure_of_another(self) -> dict[str, Any] | None:
        if self._store is None or not self._store.check([_FAILURE]):
            return None
        failure: dict[str, Any] = json.loads(self._store.get(_FAILURE))
        return failure if failure["process"] != self.process else None


class _View:
    """What one process looks like from here, by this machine's clock alone."""

    def __init__(self, beat: Beat) -> None:
        self.beat = beat
        self.seen_at = self.moved_at = time.monotonic()

    def see(self, beat: Beat, now: float) -> None:
        if beat.count != self.beat.count:
            self.seen_at = now
        if beat.moves != self.beat.moves:
            self.moved_at = now
        self.beat = beat

    def ages(self) -> tuple[float, float]:
        """Seconds since it last gave a sign of life, and since it last passed a boundary."""
        now = time.monotonic()
        return now - self.seen_at, now - self.moved_at

    def state(self) -> "State":
        """Both ages, and how far it has come."""
        return *self.ages(), (self.beat.waits, self.beat.step, self.beat.place)


# Seconds without a sign, seconds without progress; whether it waits, its step and its place in it.
State = tuple[float, float, tuple[bool, int, int]]


def hanging(states: dict[int, State], limit_s: float) -> int | None:
    """Which process hangs; None if none does.

    A process hangs if all its threads are silent. If none makes progress, the hanging one is a process that does not
    wait for the others, or the one that is behind. While any makes progress, none hangs: it may wait for a slow one.
    """
    silent = [number for number, (silent_s, _, _) in states.items() if silent_s > limit_s]
    if silent:
        return min(silent, key=lambda number: states[number][2])
    if all(stuck_s > limit_s for _, stuck_s, _ in states.values()):
        return min(states, key=lambda number: states[number][2])
    return None


def _has_gone(beat: Beat) -> bool:
    """Whether a process is known to be dead; of another machine's that cannot be seen from here."""
    return beat.host == os.uname().nodename and not huge_pages.is_alive(beat.pid)
