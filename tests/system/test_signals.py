"""Signals become a request that waits for a boundary."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import os, sys, time
from vwmm.system.signals import STOP
STOP.install(lambda: os._exit(75), parent=0)
"""
WAIT = """
print("ready", flush=True)
end = time.monotonic() + 30
while not STOP.is_asked and time.monotonic() < end:
    time.sleep(0.01)
print(STOP.reason, flush=True)
"""


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_a_request_once_there_is_something_to_save(number: signal.Signals) -> None:
    process = start("STOP.defer()" + WAIT)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert out == {signal.SIGINT: "Ctrl-C"}.get(number, number.name) + "\n"
    assert process.returncode == 0


def test_before_that_it_ends_the_process_at_once() -> None:
    process = start('print("ready", flush=True); time.sleep(30)')
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 75


def test_a_second_interrupt_ends_it_at_once_and_an_echo_of_the_first_does_not() -> None:
    process = start('STOP.defer(); print("ready", flush=True); time.sleep(30)')
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 1
    assert process.stderr is not None
    assert "interrupted twice" in process.stderr.read()


def test_the_second_interrupt_need_not_wait_for_a_main_thread_that_is_in_c_code() -> None:
    blocked = """
import ctypes, signal
STOP.defer()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # another thread takes it
print("ready", flush=True)
ctypes.CDLL(None).pause()
"""
    process = start(blocked)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 1


def test_the_death_of_the_launcher_is_a_request(tmp_path: Path) -> None:
    said = tmp_path / "said"
    worker = (
        HEAD.replace("parent=0", "parent=os.getppid()")
        + f"""
STOP.defer()
print("ready", os.getpid(), flush=True)
end = time.monotonic() + 30
while not STOP.is_asked and time.monotonic() < end:
    time.sleep(0.01)
open({str(said)!r} + ".part", "w").write(STOP.reason or "nothing")
os.rename({str(said)!r} + ".part", {str(said)!r})
"""
    )
    launcher = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {worker!r}])"
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    end = time.monotonic() + 20
    while not said.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert said.read_text() == "SIGTERM"
