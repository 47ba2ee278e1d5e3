"""slurm/train.sh on a real cluster of two nodes: trains over both, comes through what a cluster does, gives up in time.

VWMM_REHEARSALS=20 makes it three signals, two requeues, a node that goes down and a time limit instead of one signal.
"""

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY, run_command
from tests.faults.rehearsing import IS_LONG, assert_undisturbed, in_long_form
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import disturb, log_of, reach, steps_seen, submit
from tests.tracked import steps_in_wandb

RECIPE = [*TINY, "train.epochs=12", "train.log_every=1", "run.name=x"]
SOME = ["TERM"]
ALL = ["USR1", "requeue", "down", "TERM", "requeue", "USR1"]


@pytest.fixture(scope="module")
def local(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recipe without Slurm."""
    cwd = tmp_path_factory.mktemp("local")
    done = run_command(
        "train", "--launch", "launch/cpu_two_processes.yaml", f"data.csv={cohort}", *RECIPE, f"cache.dir={cwd}/cache",
        cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return cwd


def test_two_nodes_train_together_through_signals_and_requeues(
    cluster: Cluster, cohort: Path, local: Path, tmp_path: Path
) -> None:
    run, what_happens = tmp_path / "runs" / "x", ALL if IS_LONG else SOME
    limit = ("--signal=B:USR1@30", "--time=2") if IS_LONG else ()
    tracked = ["tracking.trackers=[wandb]", "tracking.mode=offline"]
    arguments = [f"data.csv={cohort}", *RECIPE, f"cache.dir={local}/cache", "run.snapshots=true", *tracked]
    with steps_seen(run) as seen:
        job = submit(cluster, "train", tmp_path, *arguments, options=("--nodes=2", *limit))
        for number, what in enumerate(what_happens, 1):
            reach(cluster, job, seen, 3 * number)
            disturb(cluster, job, what)
        ended = cluster.wait(job, "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED", timeout_s=400)
    text = log_of(tmp_path, job)
    assert ended["JobState"] == "COMPLETED", text
    assert text.count("2 process(es) on 2 node(s) (n[1-2])") == int(ended["Restarts"]) + 1 > len(what_happens), text
    assert "  processes  2 processes on cpu, gloo; data parallel" in text
    assert seen == sorted(seen), f"steps were done twice: {seen}"
    assert seen[-1] == 48
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert_undisturbed(run, local / "runs" / "x")
    assert [step for step, _ in steps_in_wandb(run)] == list(range(1, 49)), "one W&B run, each step once"
    assert not list(tmp_path.glob(".vwmm-job-*"))


def test_a_mistake_ends_the_job_at_once_and_is_said_once(cluster: Cluster, cohort: Path, tmp_path: Path) -> None:
    odd_name = 'run.name=it\'s odd; $(touch x) "y"'
    home = tmp_path / "my code"
    shutil.copytree(ROOT / "slurm", home / "slurm")
    job = submit(
        cluster, "train", tmp_path, f"data.csv={cohort}", "train.epochs=many", odd_name, options=("--nodes=2",),
        home=home,
    )  # fmt: skip
    ended = cluster.wait(job, "COMPLETED", "FAILED", timeout_s=60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    text = log_of(tmp_path, job)
    assert text.count("errors to fix") == 1, text
    assert "not put back into the queue" in text
    assert not (tmp_path / "x").exists()


@in_long_form
def test_a_job_that_is_cancelled_saves_and_stays_away(
    cluster: Cluster, cohort: Path, local: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "x"
    with steps_seen(run) as seen:
        arguments = [f"data.csv={cohort}", *RECIPE, "train.epochs=400", f"cache.dir={local}/cache"]
        job = submit(cluster, "train", tmp_path, *arguments)
        reach(cluster, job, seen, 2)
        cluster.run("scancel", job)
        end = time.monotonic() + 120
        while "Slurm ends this job: it is not put back from here" not in log_of(tmp_path, job):
            assert time.monotonic() < end, log_of(tmp_path, job)
            time.sleep(0.2)
    assert json.loads((run / "status.json").read_text())["state"] == "preempted"
    time.sleep(5)
    assert (cluster.job(job)["JobState"], cluster.job(job)["Restarts"]) == ("CANCELLED", "0")
    assert not list(tmp_path.glob(".vwmm-job-*"))
