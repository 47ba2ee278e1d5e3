"""A rank's signs of life, and which rank hangs by them."""

import os
import time
from dataclasses import dataclass

from vwmm.engine.launch import shared_pages


@dataclass(frozen=True)
class Heartbeat:
    """A process's sign of life."""

    count: int
    """How many signs it has given."""
    progress_count: int
    """How many boundaries its main thread has passed."""
    phase: str
    """Where its main thread is."""
    step: int
    """The step that it is in or was in last."""
    case: str | None
    """The case that it is at, if that is known."""
    position: int
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


class View:
    """What one process looks like from here, by this machine's clock alone."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self.heartbeat = heartbeat
        self.seen_at = self.moved_at = time.monotonic()

    def see(self, heartbeat: Heartbeat, now: float) -> None:
        if heartbeat.count != self.heartbeat.count:
            self.seen_at = now
        if heartbeat.progress_count != self.heartbeat.progress_count:
            self.moved_at = now
        self.heartbeat = heartbeat

    def ages(self) -> tuple[float, float]:
        """Seconds since it last gave a sign of life, and since it last passed a boundary."""
        now = time.monotonic()
        return now - self.seen_at, now - self.moved_at

    def state(self) -> "State":
        """Both ages, and how far it has come."""
        return *self.ages(), (self.heartbeat.waits, self.heartbeat.step, self.heartbeat.position)


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


def has_gone(heartbeat: Heartbeat) -> bool:
    """Whether a process is known to be dead; of another machine's that cannot be seen from here."""
    return heartbeat.host == os.uname().nodename and not shared_pages.is_alive(heartbeat.pid)
