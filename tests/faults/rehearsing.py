"""Runs that are disturbed and started again until they are done, and what came of them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, TINY
from tests.warm_start import WarmPopen
from vwmm.engine.tracking.metrics_file import last_step

# Augmentation is on by default; dropout 0.2 and batch norm are in TINY; 29 training cases in steps of 8 are ragged.
RECIPE = [*TINY, "train.epochs=3", "train.log_every=1"]
NUM_STEPS = 12
# How many seeded disturbances of each kind are rehearsed.
NUM_REHEARSALS = int(os.environ.get("VWMM_REHEARSALS", "1"))
IS_LONG = NUM_REHEARSALS > 2
in_long_form = pytest.mark.skipif(not IS_LONG, reason="takes a minute, and a shorter test is like it: `make rehearse`")
ONE, TWO = "launch/cpu.yaml", "launch/cpu_two_processes.yaml"
SAVE_EVERY = 3
MAX_STARTS = 8
PHASES = ("resume", "read", "forward", "backward", "reduce", "update", "step", "validate", "save", "report")
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@dataclass(frozen=True)
class Disturbance:
    """What happens to one start of a run."""

    fault: str = ""
    """A value of VWMM_FAULT."""
    signal: int = 0
    """Sent to `vwmm train` from outside."""
    after_s: float = 0.0
    """When it is sent."""

    def __str__(self) -> str:
        return self.fault or f"{signal.Signals(self.signal).name} after {self.after_s:.1f} s"


@dataclass
class Outcome:
    """How the starts of a run went."""

    codes: list[int] = field(default_factory=list)
    """Their exit codes."""
    twice: list[int] = field(default_factory=list)
    """Steps that each start but the first did again."""
    text: str = ""
    """What all of them said."""


def environment(**variables: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "WANDB_", "VWMM_"))}
    return {**clean, "PYTHONPATH": str(ROOT), **variables}


def start(cohort: Path, cwd: Path, *arguments: str, launch: str, fault: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vwmm", "train", "--launch", launch, f"data.csv={cohort}", *RECIPE, "run.name=x"]
    return WarmPopen(
        [*command, *arguments], cwd=cwd, env=environment(VWMM_FAULT=fault) if fault else environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_obey_hangups,
    )  # fmt: skip


def start_torchrun(cohort: Path, cwd: Path, options: Sequence[str], *arguments: str) -> subprocess.Popen[str]:
    """torchrun's own launcher, which starts failed processes again."""
    torchrun = Path(sys.executable).with_name("torchrun")
    script = [str(ROOT / "vwmm" / "train.py"), f"data.csv={cohort}", *RECIPE, "run.name=x"]
    return subprocess.Popen(
        [torchrun, *options, *script, *arguments], cwd=cwd, env=environment(ACCELERATE_USE_CPU="true"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def children_of(parent: int) -> list[int]:
    """Processes that a process has started and that have not ended."""
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _obey_hangups() -> None:
    """Tests may themselves run under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def run_through(
    cohort: Path, cwd: Path, disturbances: list[Disturbance], *arguments: str, launch: str | list[str]
) -> Outcome:
    """Starts the run again and again, each start with its disturbance, until it is done.

    launch: the launch file of all starts, or of each, the last one for the rest.
    """
    outcome = Outcome()
    run = cwd / "runs" / "x"
    launches = [launch] if isinstance(launch, str) else launch
    for number in range(MAX_STARTS):
        disturbance = disturbances[number] if number < len(disturbances) else Disturbance()
        reached = last_step(run / "metrics.jsonl")
        file = launches[min(number, len(launches) - 1)]
        process = start(cohort, cwd, *arguments, launch=file, fault=disturbance.fault)
        try:
            if disturbance.signal:
                time.sleep(disturbance.after_s)
                process.send_signal(disturbance.signal)
            text, _ = process.communicate(timeout=180)
        finally:
            process.kill()
        wait_for_silence(cwd)
        outcome.codes.append(process.returncode)
        outcome.text += text
        found = re.search(r"resuming after epoch \d+, step (\d+)", text)
        if number and "  training   " in text:
            outcome.twice.append(reached - (int(found.group(1)) if found else 0))
        if json.loads((run / "status.json").read_text())["state"] == "done" if run.exists() else False:
            return outcome
    raise AssertionError(f"not done after {MAX_STARTS} starts:\n{outcome.text}")


def wait_for_silence(folder: Path, timeout_s: float = 60) -> None:
    """Until no process works in a folder: nothing is left behind."""
    end = time.monotonic() + timeout_s
    while found := processes_in(folder):
        assert time.monotonic() < end, f"these are left behind: {found}"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == folder.resolve():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def records(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock decides."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "cases_per_s"} for record in lines]


def bits(run: Path) -> dict[str, bytes]:
    """What a run leaves, as bytes."""
    names = ["checkpoints/last/model.safetensors", "checkpoints/last/optimizer.safetensors"]
    return {
        name: (run / name).read_bytes()
        for name in [*names, "checkpoints/best/model.safetensors", "predictions_val.csv"]
    }


def assert_undisturbed(run: Path, reference: Path) -> None:
    """Metrics and weights are those of a run that nothing happened to."""
    assert records(run) == records(reference)
    for name, content in bits(reference).items():
        assert bits(run)[name] == content, f"{name} differs"


def draw_kill(number: int) -> list[Disturbance]:
    """A seeded kill -9: of one process, of all, of the launcher; every third time a second one in the same epoch."""
    draw = random.Random(f"kill {number}")
    do = ("kill", "kill_all", "kill_launcher")[number % 3]
    phase = draw.choice(PHASES)
    fault = f"rank={draw.randrange(2)},phase={phase},do={do}"
    if phase in ("read", "forward", "backward", "reduce", "update", "step"):
        fault += f",step={draw.randint(1, NUM_STEPS)}"
    if phase in ("save", "report"):
        fault = fault.replace("rank=1", "rank=0")  # only that one saves
    if phase == "save":
        fault += f",step={draw.choice([3, 4, 6, 8, 9, 12])}"
    again = [Disturbance("rank=0,phase=step,do=kill")] if number % 3 == 0 else []
    return [Disturbance(fault), *again]


def draw_signal(number: int) -> list[Disturbance]:
    """A seeded signal: at a random moment from outside, or at a boundary; the next one after a first step."""
    draw = random.Random(f"signal {number}")
    which = SIGNALS[number % 3]
    if number % 2:
        first = Disturbance(signal=which, after_s=draw.uniform(1, 14))
    else:
        do = {signal.SIGTERM: "term", signal.SIGUSR1: "usr1", signal.SIGINT: "int"}[which]
        phase = draw.choice(["cache", *PHASES])
        steps = f",step={draw.randint(1, NUM_STEPS)}" if phase in ("read", "forward", "backward", "update") else ""
        first = Disturbance(f"rank={draw.randrange(2)},phase={phase},do={do}{steps}")
    return [first, Disturbance("rank=1,phase=step,do=term")] if number % 3 == 0 else [first]
