"""Who hangs, who failed first, and who has gone."""

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from vwmm.engine.distributed.heartbeat import State, hanging
from vwmm.engine.distributed.watchdog import Failure, Watchdog

FINE, LONG = 1.0, 100.0


def state(silent_s: float, stuck_s: float, *, waits: bool = False, step: int = 5, place: int = 3) -> State:
    return silent_s, stuck_s, (waits, step, place)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([state(FINE, FINE), state(FINE, FINE)], None),
        ([state(FINE, LONG, waits=True), state(LONG, LONG)], 1),  # it was stopped
        ([state(FINE, LONG, waits=True), state(FINE, FINE)], None),  # the first one waits for a slow one
        ([state(FINE, LONG), state(FINE, LONG, waits=True)], 0),
        ([state(FINE, LONG, waits=True, step=6), state(FINE, LONG, waits=True)], 1),  # the one that is behind
        ([state(FINE, LONG, waits=True, place=9), state(FINE, LONG, place=20), state(FINE, LONG, waits=True)], 1),
        ([state(FINE, LONG)], 0),
    ],
)
def test_the_one_that_hangs_is_told_from_those_that_wait_for_it(states: list[State], expected: int | None) -> None:
    assert hanging(dict(enumerate(states)), 60) == expected


@pytest.fixture
def pair() -> list[Watchdog]:
    """Two processes' watches in one, by a real store."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    return [Watchdog(rank=n, num_processes=2, store=store, timeout_s=4) for n in range(2)]


def test_only_the_first_failure_is_said(pair: list[Watchdog], capsys: pytest.CaptureFixture[str]) -> None:
    noted: list[Failure] = []
    pair[0].report_failures_to(noted.append)
    assert pair[0].fail(Failure.of_line("process 0 broke"))
    assert not pair[1].fail(Failure.of_line("process 1 saw the connection break"))
    assert pair[1].diagnose() == ""
    assert noted == [Failure("vwmm: process 0 broke", "process 0 broke")]
    assert capsys.readouterr().err == "vwmm: process 0 broke\n"


def test_a_process_that_has_gone_is_named_with_its_place(pair: list[Watchdog], monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    pair[1].enter_phase("backward", step=7)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: child.pid)
        pair[1]._publish()
    pair[0]._look()
    diagnosis = pair[0].diagnose()
    assert diagnosis is not None
    assert "process 1 has ended, last seen in backward, step 7" in diagnosis


def test_own_error_is_not_attributed_to_another_rank(pair: list[Watchdog], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vwmm.engine.distributed.watchdog._PATIENCE_S", 0.2)
    pair[0]._publish()
    pair[1]._publish()
    assert pair[0].diagnose() is None


def test_a_place_is_said_in_words(pair: list[Watchdog]) -> None:
    pair[0].enter_phase("read", step=3, case="c1")
    assert pair[0].where() == "read, step 3, case c1"


def test_a_process_alone_that_hangs_ends_itself(tmp_path: Path) -> None:
    code = (
        "import time\nfrom vwmm.engine.distributed.watchdog import Watchdog\n"
        "watch = Watchdog(timeout_s=1.5)\nwatch.start()\nwatch.enter_phase('forward', step=3)\ntime.sleep(60)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "process 0" in done.stderr
    assert "hangs in forward, step 3: no progress" in done.stderr
    assert time.monotonic() - started < 40


def test_a_process_that_nobody_listens_to_any_more_ends_as_well() -> None:
    code = (
        "import time\nfrom vwmm.engine.distributed.watchdog import Watchdog\n"
        "from vwmm.engine.console import LOG, start_log\n"
        "start_log(is_main_process=True)\nprint('ready', flush=True)\ntime.sleep(1)\nLOG.info('into the void')\n"
        "watch = Watchdog(timeout_s=1.5)\nwatch.start()\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stderr.close()
    assert process.wait(50) == 1
