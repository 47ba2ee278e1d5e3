"""Turns signals into a request to stop at the next safe point.

Nothing is done inside a handler. Python's own handlers wait until the main thread leaves C code; the
kernel's note of a signal arrives at once, through a pipe that a thread of ours reads.
"""

import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

from vwmm.system.errors import EXIT_FAILED, print_line

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
# A terminal's Ctrl-C reaches a process twice where its launcher passes it on as well.
_TWICE_AFTER_S = 0.5
_PR_SET_PDEATHSIG = 1


def stop_signals() -> list[signal.Signals]:
    """The signals that ask to stop; not SIGHUP where `nohup` has this process ignore it."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


class StopRequest:
    """Whether this process was asked to stop, and by what."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """What asked, in words; None: nothing did."""
        self._lock = threading.Lock()
        self._leave_early: Callable[[], None] | None = None
        self._interrupted_at: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether anything asked."""
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """Asks, unless somebody has already."""
        with self._lock:
            self.reason = self.reason or reason
            if self._leave_early is not None:
                self._leave_early()

    def ask_after(self, minutes: float) -> None:
        """Asks for a stop when that time is up, in any phase."""
        timer = threading.Timer(minutes * 60, self.ask, [f"train.max_minutes={minutes:g}"])
        timer.daemon = True
        timer.start()

    def install(self, leave_early: Callable[[], None], *, parent: int, is_orphan: Callable[[], bool] = bool) -> None:
        """Listens from now on, and asks when the launcher dies.

        leave_early: ends this process; called by a request that comes before `defer`, when there is nothing to save.
        parent: the launcher's process; 0 where there is none. is_orphan: whether the launcher died before this process
        could see it; asked once the kernel tells of its death.
        """
        self._leave_early = leave_early
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in stop_signals():
            signal.signal(number, lambda *_: None)  # else it would end the process
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(reader,), name="signals", daemon=True).start()
        if parent:
            ask_when_parent_dies()
            if os.getppid() != parent or is_orphan():  # it died before the kernel was told
                self.ask("the launcher's death")

    def defer(self) -> None:
        """From now on there is something to save: a request waits for the next boundary."""
        with self._lock:
            self._leave_early = None

    def _listen(self, reader: socket.socket) -> None:
        while numbers := reader.recv(64):
            for number in numbers:
                if number in SIGNALS:
                    self._note(number)

    def _note(self, number: int) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted_at is not None and now - self._interrupted_at > _TWICE_AFTER_S:
                print_line("vwmm: interrupted twice: stopped at once")
                os._exit(EXIT_FAILED)
            self._interrupted_at = self._interrupted_at or now
        self.ask("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


def ask_when_parent_dies(number: int = signal.SIGTERM) -> None:
    """The kernel sends this signal whenever the parent dies: no process is left running (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


STOP = StopRequest()
