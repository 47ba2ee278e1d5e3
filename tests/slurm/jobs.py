"""Jobs on the tests' cluster: submits a template, follows its run, and does to it what a cluster does."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.slurm.cluster import Cluster
from vwmm.engine.tracking.metrics_file import last_step


def submit(
    cluster: Cluster, template: str, cwd: Path, *arguments: str, options: tuple[str, ...] = (), home: Path = ROOT,
    **env: str,
) -> str:  # fmt: skip
    """The number of a job of slurm/TEMPLATE.sh. home: the folder that slurm/ is in."""
    script = home / "slurm" / f"{template}.sh"
    text = cluster.run("sbatch", "--parsable", *options, script, *arguments, cwd=cwd, VWMM_PYTHON=sys.executable, **env)
    return text.strip()


def log_of(cwd: Path, job: str) -> str:
    """What a job has written so far; of an array's task, `12_3`."""
    return next(cwd.glob(f"vwmm*-{job}.log")).read_text()


def standin_home(folder: Path) -> Path:
    """A folder whose slurm/ has a site.env: jobs run a program that only stands for vwmm (standin.py)."""
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    (folder / "slurm" / "site.env").write_text(f"VWMM_PYTHON={Path(__file__).with_name('standin.py')}\n")
    return folder


@contextmanager
def steps_seen(run: Path) -> Iterator[list[int]]:
    """The last step in metrics.jsonl, whenever it changes."""
    seen, is_over = [0], threading.Event()

    def look() -> None:
        while not is_over.wait(0.02):
            step = last_step(run / "metrics.jsonl")
            if step != seen[-1]:
                seen.append(step)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def reach(cluster: Cluster, job: str, seen: list[int], step: int) -> None:
    """Until the job runs and the run has come to a step."""
    end = time.monotonic() + 240
    while seen[-1] < step or cluster.job(job)["JobState"] != "RUNNING":
        assert time.monotonic() < end, f"job {job} does not reach step {step}: {cluster.logs()}"
        time.sleep(0.05)


def disturb(cluster: Cluster, job: str, what: str) -> None:
    """What a cluster does to a job; until it has left the nodes."""
    before = cluster.job(job)["Restarts"]
    if what == "requeue":
        cluster.run("scontrol", "requeue", job)
    elif what == "down":
        cluster.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=rehearsal")
    else:
        cluster.run("scancel", "--batch", f"--signal={what}", job)
    end = time.monotonic() + 120
    while cluster.job(job)["Restarts"] == before:
        assert time.monotonic() < end, cluster.logs()
        time.sleep(0.1)
    if what == "down":
        cluster.run("scontrol", "update", "NodeName=n2", "State=RESUME")
