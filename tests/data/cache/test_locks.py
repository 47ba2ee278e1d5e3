"""Locks by key: one holder at a time, and none that outlives its process."""

import errno
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from vwmm.data.cache.locks import KeyLocks

KEY, OTHER = "a" * 32, "b" * 32


def hold(path: str, started: Any) -> None:
    with KeyLocks(Path(path)).try_hold(KEY) as is_mine:
        started.put(is_mine)
        signal.pause()


def test_one_holder_at_a_time_even_within_a_process(tmp_path: Path) -> None:
    locks, others = KeyLocks(tmp_path / "locks"), KeyLocks(tmp_path / "locks")

    with locks.try_hold(KEY) as mine, locks.try_hold(KEY) as again, others.try_hold(KEY) as theirs:
        assert (mine, again, theirs) == (True, False, False)
        with others.try_hold(OTHER) as different:
            assert different
    with others.try_hold(KEY) as later:
        assert later


def test_a_refused_lock_is_not_let_go_of(tmp_path: Path) -> None:
    locks, others = KeyLocks(tmp_path / "locks"), KeyLocks(tmp_path / "locks")

    with locks.try_hold(KEY):
        with locks.try_hold(KEY) as again:
            assert not again
        with others.try_hold(KEY) as theirs:
            assert not theirs


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    started = context.Queue()
    holder = context.Process(target=hold, args=(str(tmp_path / "locks"), started))
    holder.start()
    assert started.get(timeout=60)

    locks = KeyLocks(tmp_path / "locks")
    with locks.try_hold(KEY) as while_it_lives:
        assert not while_it_lives
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(timeout=60)
    with locks.try_hold(KEY) as afterwards:
        assert afterwards


def test_the_folder_is_held_together_or_alone(tmp_path: Path) -> None:
    one, two, three = (KeyLocks(tmp_path / "locks") for _ in range(3))
    one.hold_together()
    two.hold_together()
    with one.try_hold(KEY) as mine:
        assert mine
    assert not three.hold_alone()
    one.let_go()
    assert not three.hold_alone()
    two.let_go()
    assert three.hold_alone()


def test_without_locks_everybody_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    locks = KeyLocks(tmp_path / "locks")
    with locks.try_hold(KEY) as mine:
        assert mine
    assert not locks.are_supported


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists"), KeyLocks(tmp_path / "file" / "locks").try_hold(KEY):
        pass
