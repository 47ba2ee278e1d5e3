"""Which GPUs the tasks of a job see, on a cluster whose GPUs are files: processes are counted from them.

What differs between nodes is refused at the start of the job. All jobs are submitted at once.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.rehearsing import IS_LONG, in_long_form
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import log_of, standin_home, submit
from tests.slurm.test_stops import ENDED

EVEN = {  # what is asked for: processes, launch file
    "--gpus-per-node=1": (1, "one_gpu"),
    "--nodes=2 --gpus-per-node=4": (8, "multi_gpu"),
    "--nodes=2 --gres=gpu:2": (4, "multi_gpu"),
    "--nodes=2 --gpus-per-task=1": (2, "multi_gpu"),
    "--gpus=3": (3, "multi_gpu"),
    "--exclusive": (1, "cpu"),
    "--nodes=2 --exclusive": (2, "cpu_two_processes"),
    "--nodes=2 --exclusive --gpus-per-node=2": (4, "multi_gpu"),
}
UNEVEN = ["--nodes=2 --gpus=3", "--nodes=2 --gpus=3 --exclusive"]
REFUSED = (
    r"the nodes have different numbers of GPUs \(n1 [123], n2 [123]\), and every node has to have as many; submit with "
)


@dataclass(frozen=True)
class Submitted:
    """A job on its way."""

    number: str
    """Slurm's."""
    cwd: Path
    """Where it was submitted."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Templates for the stand-in."""
    return standin_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Submitted]:
    """All of them, by what they ask for."""
    found = {}
    for asked in (*EVEN, *UNEVEN):
        cwd = tmp_path_factory.mktemp("job")
        number = submit(cluster, "train", cwd, options=tuple(asked.split()), home=home, STANDIN="0")
        found[asked] = Submitted(number, cwd)
    return found


@pytest.mark.parametrize("asked", EVEN)
def test_processes_are_as_many_as_gpus_that_the_tasks_see(
    asked: str, cluster: Cluster, jobs: dict[str, Submitted]
) -> None:
    ended = cluster.wait(jobs[asked].number, *ENDED, timeout_s=120)
    text = log_of(jobs[asked].cwd, jobs[asked].number)
    processes, launch = EVEN[asked]
    assert ended["JobState"] == "COMPLETED", text
    assert text.count(f"--launch launch/{launch}.yaml VWMM_NUM_PROCESSES={processes}") == int(ended["NumNodes"]), text
    is_told = re.search(r"this job holds 4 GPU\(s\) on n[12], but did not ask for any", text) is not None
    assert is_told == ("--exclusive" in asked and "gpus" not in asked), text


def assert_refused(cluster: Cluster, job: Submitted) -> None:
    ended, text = cluster.wait(job.number, *ENDED, timeout_s=120), log_of(job.cwd, job.number)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0"), text
    assert re.search(REFUSED + "--gpus-per-node=N", text), text
    assert "runs -m vwmm" not in text
    assert [path.name for path in job.cwd.iterdir()] == [f"vwmm-{job.number}.log"]


@pytest.mark.parametrize("asked", UNEVEN)
def test_uneven_gpus_end_the_job_at_its_start(asked: str, cluster: Cluster, jobs: dict[str, Submitted]) -> None:
    assert_refused(cluster, jobs[asked])


@in_long_form
def test_as_many_gpus_as_nodes_divide_may_be_uneven_all_the_same(cluster: Cluster, home: Path, tmp_path: Path) -> None:
    """Of four GPUs on two idle nodes Slurm gives three and one."""
    number = submit(cluster, "train", tmp_path, options=("--nodes=2", "--gpus=4"), home=home, STANDIN="0")
    assert_refused(cluster, Submitted(number, tmp_path))


def test_a_second_task_on_a_node_ends_the_job(cluster: Cluster, home: Path, tmp_path: Path) -> None:
    job = submit(cluster, "train", tmp_path, options=("--ntasks-per-node=2",), home=home, STANDIN="0")
    ended, text = cluster.wait(job, *ENDED, timeout_s=60), log_of(tmp_path, job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "2:0"), text
    assert "2 task(s) on 1 node(s): one starts all processes of its node" in text


def lines_of(page: str) -> list[str]:
    """The lines of a page's shell blocks that submit something."""
    blocks = (ROOT / page).read_text().split("```bash\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].splitlines() if "sbatch" in line]


@pytest.mark.parametrize("page", ["README.md", "docs/slurm.md"] if IS_LONG else ["README.md"])
def test_the_lines_of_a_page_work_as_they_stand(page: str, cluster: Cluster, home: Path, tmp_path: Path) -> None:
    (tmp_path / "slurm").symlink_to(home / "slurm")
    script = "\n".join(["set -e", *lines_of(page)])
    cluster.run("bash", "-c", script, cwd=tmp_path, STANDIN="0")
    jobs = {line.split()[0] for line in cluster.run("squeue", "-h", "-r", "-o", "%i").splitlines()}
    for job in sorted(jobs):
        cluster.wait(job, *ENDED, timeout_s=240)
    logs = sorted(tmp_path.glob("vwmm*.log"))
    assert len(logs) >= len(lines_of(page)) > 1
    for log in logs:
        assert "ends with 0" in log.read_text(), log.read_text()
