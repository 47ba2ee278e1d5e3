"""Whatever stops a job, its tasks save, and the right budget is used: a program that needs six seconds to save.

All jobs run side by side on one cluster. VWMM_REHEARSALS=20 makes it ten signals at random moments instead of three,
and time limits as well.
"""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.rehearsing import IS_LONG, NUM_REHEARSALS
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import log_of, standin_home, submit

ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED")
ONE_STOP, ONE_FAILURE, AWAY = (
    "1 of at most 100 preemptions: back",
    "1 of at most 2 failures: back",
    "Slurm ends this job: it is not put back from here",
)
BATCH = ("scancel", "--batch")
HOLDS_GPUS = "--gres=gpu:4"


@dataclass(frozen=True)
class Stop:
    """What happens to a job, and what is to come of it."""

    told: Sequence[str] = ()
    """The command; the job's number is added."""
    options: Sequence[str] = ()
    """Of sbatch."""
    says: str = ONE_STOP
    """The job's last word on its first start."""
    saves: str = "SIGUSR1"
    """The signal by which a task was told; empty: it could not save."""
    state: str = "COMPLETED"
    """Slurm's last word."""
    template: str = "train"
    """Of slurm/."""
    standin: str = "save"
    """What the tasks do (standin.py)."""
    code: str = "0:0"
    """The job's exit code."""
    restarts: int | None = None
    """How often it was put back; None: once, if it was completed."""


STOPS = {
    "USR1 to the batch shell": Stop((*BATCH, "--signal=USR1")),
    "TERM to the batch shell": Stop((*BATCH, "--signal=TERM")),
    "HUP to the batch shell": Stop((*BATCH, "--signal=HUP")),
    "INT to the batch shell": Stop((*BATCH, "--signal=INT")),
    "USR2 to the batch shell": Stop((*BATCH, "--signal=USR2")),
    "TERM to one of two nodes' jobs": Stop((*BATCH, "--signal=TERM"), ["--nodes=2"]),
    "TERM to the tasks": Stop(("scancel", "--signal=TERM"), saves="SIGTERM"),
    "scancel": Stop(("scancel",), says=AWAY, saves="SIG", state="CANCELLED", code="75:0"),
    "scancel --full": Stop(("scancel", "--full"), says=AWAY, saves="SIG", state="CANCELLED", code="75:0"),
    "TERM to all that there is": Stop(("scancel", "--full", "--signal=TERM"), saves=""),
    "requeue": Stop(("scontrol", "requeue"), says=AWAY, saves="SIG"),
    "preemption": Stop(options=["--partition=low", HOLDS_GPUS, "--nodelist=n1"], says=AWAY, saves="SIG"),
    "preemption with grace": Stop(options=["--partition=grace", HOLDS_GPUS, "--nodelist=n2"], saves="SIGTERM"),
    "no environment": Stop((*BATCH, "--signal=TERM"), ["--export=NONE"]),
    "a fold": Stop((*BATCH, "--signal=TERM"), ["--array=3"], template="cross_validate"),
    "a share of the cohort": Stop((*BATCH, "--signal=TERM"), ["--array=2"], template="prepare"),
    "a worker of a search": Stop((*BATCH, "--signal=USR1"), ["--array=1"], template="sweep"),
    "a crash beside a stop": Stop(options=["--nodes=2"], standin="75+6,1", says=ONE_FAILURE, saves=""),
    "a crash after a stop": Stop(options=["--nodes=2"], standin="75,1+6", says=ONE_FAILURE, saves=""),
    "a stop after a success": Stop(options=["--nodes=2"], standin="0,75+6", saves=""),
    "a kill beside a stop": Stop(options=["--nodes=2"], standin="75,kill", says=ONE_FAILURE, saves=""),
    "a crash again and again": Stop(
        options=["--nodes=2"],
        standin="1!",
        says="the budget of 2 failures is used up",
        saves="",
        state="FAILED",
        code="1:0",
        restarts=2,
    ),
    "a mistake beside a crash": Stop(
        options=["--nodes=2"], standin="1,2", says="the input is wrong", saves="", state="FAILED", code="2:0"
    ),
}
LIMITS = {
    "a time limit told by USR1": Stop(options=["--time=1", "--signal=B:USR1@50"]),
    "a time limit told by TERM": Stop(options=["--time=1", "--signal=B:TERM@50"]),
    # the template's B: holds all the same
    "a time limit told by TERM without B:": Stop(options=["--time=1", "--signal=TERM@50"]),
    "a time limit with too little time": Stop(options=["--time=1"], standin="save-for-minutes", saves=""),
    "a time limit that nobody had announced": Stop(
        options=["--time=1", "--signal=B:USR1@1"], standin="save-at-TERM", saves="SIGTERM"
    ),
}
EARLY = {
    f"TERM at a random moment {number}": Stop((*BATCH, "--signal=TERM"))
    for number in range(min(10, 2 + NUM_REHEARSALS))
}
ALL = STOPS | EARLY | (LIMITS if IS_LONG else {})


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    job: dict[str, str]
    """Slurm's fields."""
    text: str
    """Its log."""
    cwd: Path
    """Where it was submitted."""


@pytest.fixture(scope="module")
def ended(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """All jobs, submitted and stopped side by side."""
    home = standin_home(tmp_path_factory.mktemp("home"))
    found: dict[str, Ended] = {}

    def go_through(name: str, stop: Stop, draw: random.Random) -> None:
        cwd = tmp_path_factory.mktemp("job")
        number = submit(cluster, stop.template, cwd, options=tuple(stop.options), home=home, STANDIN=stop.standin)
        job = f"{number}_{stop.options[-1].partition('=')[2]}" if stop.template != "train" else number
        if name in EARLY:
            cluster.wait(job, "RUNNING")
            time.sleep(draw.uniform(0, 3))
        elif stop.told or HOLDS_GPUS in stop.options:
            wait_for_text(cluster, cwd, job, "listens", 1 + ("--nodes=2" in stop.options))
        if stop.told:
            cluster.run(*stop.told, job)
        elif HOLDS_GPUS in stop.options:
            options = ("--partition=high", HOLDS_GPUS, stop.options[-1])
            submit(cluster, "train", tmp_path_factory.mktemp("high"), options=options, home=home, STANDIN="0")
        wait_for_text(cluster, cwd, job, stop.says, 1)
        found[name] = Ended(cluster.wait(job, *ENDED, timeout_s=120), log_of(cwd, job), cwd)

    # each at its own time, whatever order they run in
    threads = [
        threading.Thread(target=go_through, args=(name, stop, random.Random(name)), daemon=True)
        for name, stop in ALL.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return found


def wait_for_text(cluster: Cluster, cwd: Path, job: str, text: str, count: int, timeout_s: float = 150) -> None:
    end = time.monotonic() + timeout_s
    while (said := "".join(file.read_text() for file in cwd.glob(f"vwmm*-{job}.log"))).count(text) < count:
        assert time.monotonic() < end, f"no {text!r} of job {job}: {said}\n{cluster.logs()}"
        time.sleep(0.2)


@pytest.mark.parametrize("name", ALL)
def test_what_stops_a_job(name: str, ended: dict[str, Ended]) -> None:
    stop = ALL[name]
    assert name in ended, "it did not come to its end"
    text, job = ended[name].text, ended[name].job
    assert stop.says in text, text
    assert (job["JobState"], job["ExitCode"]) == (stop.state, stop.code), text
    restarts = int(stop.state == "COMPLETED") if stop.restarts is None else stop.restarts
    assert job["Restarts"] == str(restarts), text
    assert text.count("goes on") == (1 + ("--nodes=2" in stop.options)) * (stop.state == "COMPLETED"), text
    counted = {budget for budget in ("preemptions", "failures") if f" {budget}: back" in text}
    assert counted == {budget for budget in ("preemptions", "failures") if budget in stop.says}, text
    if stop.saves and name not in EARLY:
        assert text.count(f"saved, told {stop.saves}") == 1 + ("--nodes=2" in stop.options), text
    assert not list(ended[name].cwd.glob(".vwmm-job-*")), text
