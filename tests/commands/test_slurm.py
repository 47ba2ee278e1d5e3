"""`vwmm slurm`: what would be submitted, and everything that is wrong with it, before it waits in a queue."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, TINY, run_command
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import cluster  # noqa: F401  # a fixture
from tests.slurm.jobs import log_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with templates of its own, whose site.env may be written."""
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    return tmp_path


def without_slurm(folder: Path) -> str:
    """A PATH on which there is bash and no sbatch."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("bash", "env"):
        (programs / name).symlink_to(shutil.which(name) or "")
    return str(programs)


def test_it_says_what_it_would_do(cohort: Path, home: Path) -> None:
    (home / "slurm" / "site.env").write_text(
        "export SBATCH_PARTITION=gpu SBATCH_TIMELIMIT=24:00:00 VWMM_MAX_FAILURES=5\n"
    )
    done = run_command(
        "slurm", "train", "--nodes=2", "--gpus-per-node=a100:2", f"data.csv={cohort}", *TINY, "run.name=it-s", cwd=home,
        PATH=without_slurm(home),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:7] == [
        "submits    slurm/train.sh",
        "site       slurm/site.env",
        "asks for   2 nodes, 2 GPUs on each, at most 24:00:00, partition gpu",
        "starts     4 processes with launch/multi_gpu.yaml",
        "goes back  into the queue after a stop at most 100 times, after a crash 5",
        f"trains     36 cases: {home}/runs/it-s (new)",
        "each step  8 cases, in micro-batches of 2",
    ]
    assert "no sbatch on this machine" in done.stdout
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[:6] == ["source", "slurm/site.env", "&&", "sbatch", "--nodes=2", "--gpus-per-node=a100:2"]
    assert words[6:] == ["slurm/train.sh", f"data.csv={cohort}", *TINY, "run.name=it-s"]
    assert not (home / "runs").exists()


def test_everything_that_is_wrong_is_said_at_once(cohort: Path, home: Path) -> None:
    (home / "slurm" / "site.env").write_text(
        "export VWMM_PYTON=python3\nexport VWMM_PYTHON=/no/python\nexport VWMM_MAX_FAILURES=many VWMM_LAUNCH=x.yaml\n"
    )
    done = run_command(
        "slurm", "train", "-N2", "--array=0--4", "--ntasks=4", f"data.csv={cohort}", "train.epoch=3", cwd=home
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[1].startswith("vwmm: 8 errors to fix"), done.stderr
    for said in (
        "slurm/site.env: VWMM_PYTON: no such variable; did you mean VWMM_PYTHON?",
        "VWMM_PYTHON=/no/python: is no program",
        "VWMM_MAX_FAILURES=many: expected a whole number",
        "VWMM_LAUNCH=x.yaml: there is no such file",
        "argument -N2: expected --NAME=VALUE, here --nodes=...",
        "--array=0--4: expected 0-4, 1,3,5 or 0-9%4",
        "--ntasks: the template starts one task on each node",
        "train.epoch: no such key; did you mean train.epochs?",
    ):
        assert said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--nodes=16", "--gpus-per-node=8"], "128 processes cannot share train.batch_size=8"),
        (["cross_validate", "--array=0-3"], "--array: no task for fold 4; the folds are 0, 1, 2, 3, 4"),
        (["train", "--array=0-3"], "--array: all tasks would train the same run"),
        (["train", "--nodes=2", "--gpus=3"], "Slurm need not give each of 2 nodes as many of them"),
        (["train", "--nodes=2", "--gpus=a100:4"], "each has to have as many; write --gpus-per-node=2"),
        (["train", "--gpus-per-socket=1"], "--gpus-per-socket: does not set a node's GPUs"),
        (["train", "--nodes=0"], "--nodes=0: expected 2 or 1-4"),
        (["compare", "--array=0-3"], "--array: no task for fold 4; the folds are 0, 1, 2, 3, 4"),
        (["train", "--baselines"], "argument --baselines: only compare has it"),
        (["cross_validate", "--array=0-6"], "--array: there is no fold 5, 6; the folds are"),
        (["prepare", "data.csv=none.csv"], "none.csv"),
        (["trian"], "trian: no such template; expected train, cross_validate, compare, prepare, sweep"),
        (["sweep", "--nodes=2", "--trials", "4"], "--nodes=2: a worker of a sweep is on one node"),
        (["sweep", "--trials=many"], "argument --trials many: expected a whole number from 1"),
        (["train", "--trials", "4"], "argument --trials: only sweep has it"),
        (["train", "--nodes", "2"], "argument --nodes 2: write --nodes=2"),
        (["train", "--launch", "launch/cpu.yaml"], "argument --launch: a job chooses it; VWMM_LAUNCH=FILE"),
        ([], "missing: TEMPLATE"),
    ],
)
def test_what_cannot_work_is_refused(words: list[str], message: str, cohort: Path, tmp_path: Path) -> None:
    done = run_command("slurm", *words[:1], f"data.csv={cohort}", *TINY, *words[1:], cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_launch_file_that_the_processes_cannot_use_is_refused(cohort: Path, tmp_path: Path) -> None:
    words = ["slurm", "train", f"data.csv={cohort}", *TINY]
    done = run_command(*words, cwd=tmp_path, VWMM_LAUNCH="launch/fsdp2.yaml")
    assert done.returncode == 2, done.stdout
    assert "launch/fsdp2.yaml: FSDP2: sharding needs at least two processes" in done.stderr
    done = run_command(*words, "--nodes=2", cwd=tmp_path, VWMM_LAUNCH="launch/fsdp2.yaml", PATH=without_slurm(tmp_path))
    assert done.returncode == 0, done.stderr


def test_slurm_itself_is_asked_and_submits(cluster: Cluster, cohort: Path, tmp_path: Path) -> None:  # noqa: F811
    on_cluster: dict[str, Any] = {**cluster.environment, "VWMM_PYTHON": sys.executable}
    words = ["slurm", "prepare", "--array=1-2", "--cpus-per-task=1", f"data.csv={cohort}", *TINY]
    done = run_command(*words, cwd=tmp_path, **on_cluster)
    assert done.returncode == 0, done.stderr
    assert "to start at" in done.stdout
    refused = run_command(*words, "--nodes=3", cwd=tmp_path, **on_cluster)
    assert (refused.returncode, "sbatch rejects it" in refused.stderr) == (2, True), refused.stdout + refused.stderr
    done = run_command(*words, "--submit", cwd=tmp_path, **on_cluster)
    assert done.returncode == 0, done.stderr
    job = done.stdout.rsplit("Submitted batch job ", 1)[1].split()[0]
    assert cluster.wait(f"{job}_2", "COMPLETED", "FAILED", timeout_s=120)["JobState"] == "COMPLETED"
    assert "share 2 of 2" in log_of(tmp_path, f"{job}_2")
