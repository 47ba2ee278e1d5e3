"""A process that starts warm finds what a new interpreter finds."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.warm_start import IS_WARM, WarmPopen
from vwmm.engine.launch.rendezvous import register_rendezvous

STATE = """
import random, threading, time
import numpy, torch
from vwmm.engine.launch.rendezvous import register_rendezvous
register_rendezvous()
print(torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), file=open("settings", "w"))
print(random.random(), numpy.random.random(), torch.rand(()).item(), file=open("numbers", "w"))
threading.Thread(target=lambda: (time.sleep(0.3), print("a thread's last words", flush=True))).start()
"""
PROGRAM = """
import json, logging, os, signal, subprocess, sys, warnings
import vwmm
child = subprocess.run([sys.executable, "child.py"], env={"TURN": "2"}, capture_output=True, text=True)
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "home": os.environ.get("HOME"), "turn": os.environ["TURN"],
    "files": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1], "handlers": len(logging.root.handlers),
    "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "usr1": signal.getsignal(signal.SIGUSR1).name,
    "vwmm": vwmm.__file__, "main": __name__, "child": [child.returncode, child.stdout, child.stderr],
}))
print("to the other stream", file=sys.stderr)
raise SystemExit(75)
"""


def start(popen: type[subprocess.Popen], folder: Path) -> tuple[int, dict[str, object], str]:
    process = popen(
        [sys.executable, "program.py", "a=1"], cwd=folder, env={"TURN": "1", "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, json.loads(stdout), stderr


@pytest.mark.skipif(not IS_WARM, reason="starts interpreters: OMP_NUM_THREADS is not 1, or VWMM_COLD_STARTS is 1")
def test_a_warm_start_is_like_a_cold_one(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "child.py").write_text("import os, sys; print(len(sys.argv)); sys.exit(f'turn {os.environ[\"TURN\"]}')")
    WarmPopen([sys.executable, "child.py"], cwd=tmp_path, env={"TURN": ""}, stderr=subprocess.DEVNULL).wait(60)

    cold = start(subprocess.Popen, tmp_path)
    begun = time.process_time()
    warm = start(WarmPopen, tmp_path)

    assert warm == cold
    assert cold[0] == 75
    assert cold[2] == "to the other stream\n"
    assert str(cold[1]["vwmm"]).startswith(str(ROOT))
    assert time.process_time() - begun < 5


@pytest.mark.skipif(not IS_WARM, reason="starts interpreters: OMP_NUM_THREADS is not 1, or VWMM_COLD_STARTS is 1")
def test_a_warm_start_inherits_no_state_of_the_libraries(tmp_path: Path) -> None:
    register_rendezvous()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    outputs = []
    try:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "program.py").write_text(STATE)
            process = WarmPopen(
                [sys.executable, "program.py"], cwd=tmp_path / name, env={"PYTHONPATH": str(ROOT)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            outputs.append(process.communicate(timeout=60)[0])
    finally:
        torch.use_deterministic_algorithms(was_deterministic)

    assert outputs == ["a thread's last words\n"] * 2
    assert (tmp_path / "first" / "settings").read_text() == "False 1\n"
    numbers = [(tmp_path / name / "numbers").read_text().split() for name in ("first", "second")]
    assert all(a != b for a, b in zip(*numbers, strict=True))
