"""Worker processes that may die over a job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from vwmm.data.checks.worker_pool import Died, for_each


def work(job: str) -> str:
    """Does what the job says."""
    if job == "crash":
        os.abort()
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "leaves":
        os._exit(3)
    if job == "hangs":
        time.sleep(60)
    if job == "raises":
        raise ValueError("from a worker")
    return job.upper()


@pytest.mark.parametrize("num_workers", [1, 3])
def test_job_that_kills_its_process_is_named_and_the_others_finish(num_workers: int) -> None:
    jobs = ["a", "crash", "b", "killed", "leaves", "c", "crash"]

    results = dict(for_each(work, jobs, num_workers=num_workers))

    assert {number: results[number] for number in (0, 2, 5)} == {0: "A", 2: "B", 5: "C"}
    reasons = {number: result.reason for number, result in results.items() if isinstance(result, Died)}
    assert reasons == {
        1: "the process that read it was ended by SIGABRT",
        3: "the process that read it was ended by SIGKILL, perhaps for want of memory",
        4: "the process that read it ended with code 3",
        6: "the process that read it was ended by SIGABRT",
    }


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_job_that_does_not_end_is_given_up_and_the_others_are_done(num_workers: int) -> None:
    jobs = ["a", "hangs", "b", "crash", "hangs", "c"]

    results = dict(for_each(work, jobs, num_workers=num_workers, timeout_s=2))

    assert {number: results[number] for number in (0, 2, 5)} == {0: "A", 2: "B", 5: "C"}
    late = Died("reading it did not end within 2 s", is_late=True)
    assert results[1] == results[4] == late
    assert results[3] == Died("the process that read it was ended by SIGABRT")
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert [command for command in left if "spawn_main" in " ".join(command)] == []


def test_error_of_a_worker_is_raised_in_the_caller_and_no_process_remains() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    with pytest.raises(ValueError, match="from a worker"):
        list(for_each(work, ["a", "raises", "b"], num_workers=2))

    time.sleep(0.2)
    left = {child for child in psutil.Process().children(recursive=True) if child.pid not in before}
    own = ("forkserver", "resource_tracker")  # multiprocessing's own, which serve the next pool
    assert [child.cmdline() for child in left if not any(name in " ".join(child.cmdline()) for name in own)] == []


def test_no_job_needs_no_process() -> None:
    assert list(for_each(work, [], num_workers=2)) == []


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "import os, time\nfrom vwmm.data.checks.worker_pool import for_each\n"
        "def work(job):\n    open(f'{job}.pid', 'w').write(str(__import__('os').getpid()))\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    try:\n        list(for_each(work, ['a', 'b'], num_workers=2))\n"
        "    except KeyboardInterrupt:\n        os._exit(1)\n"  # as commands leave: without the libraries' destructors
    )
    (tmp_path / "long.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, "long.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    files = [tmp_path / "a.pid", tmp_path / "b.pid"]
    limit = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < limit:
        time.sleep(0.05)
    workers = [int(file.read_text()) for file in files]

    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(timeout=30) != 0
    time.sleep(0.5)
    assert [number for number in workers if psutil.pid_exists(number)] == []
