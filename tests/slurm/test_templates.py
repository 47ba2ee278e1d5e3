"""The templates are sound shell."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted([*(ROOT / "slurm").glob("*.sh"), ROOT / "slurm" / "job.bash", ROOT / "slurm" / "site.env.example"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script: object) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (.ci/run installs it)")
@pytest.mark.parametrize("script", SCRIPTS[:-1], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: object) -> None:
    done = subprocess.run(
        ["shellcheck", "-x", "-s", "bash", str(script)], capture_output=True, text=True, cwd=ROOT / "slurm"
    )
    assert done.returncode == 0, done.stdout


# Sixteen nodes and GPUs cannot exist here: these stand for Slurm's commands and tell what they were asked.
SCONTROL = """#!/usr/bin/env bash
case "$*" in
    "show hostnames"*) for number in $(seq "$SLURM_JOB_NUM_NODES"); do echo "node$number"; done ;;
    "show node -o node1") echo "NodeName=node1 Arch=x86_64 NodeAddr=10.1.2.3 NodeHostName=node1" ;;
    *) exit 1 ;;
esac
"""
SRUN = """#!/usr/bin/env bash
for last in "$@"; do :; done
echo "machines=$VWMM_NUM_MACHINES processes=$VWMM_NUM_PROCESSES" \\
    "address=$VWMM_MAIN_ADDRESS cpu=${ACCELERATE_USE_CPU:-no}"
while [ "$1" != --launch ]; do shift; done
printf '%s\\n' "launch=$2" "last=$last"
"""


def allocate(folder: Path, nodes: int, gpus: int, *arguments: str, **environment: str) -> dict[str, str]:
    """What the tasks of such an allocation are started with."""
    for name, content in (("scontrol", SCONTROL), ("srun", SRUN)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    variables = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "VWMM_HOME": str(ROOT),
        "VWMM_PYTHON": sys.executable,
        "VWMM_SITE_ENV": "/nonexistent",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": "node[...]",
        "SLURM_SUBMIT_DIR": str(folder),
        **({"SLURM_GPUS_ON_NODE": str(gpus)} if gpus else {}),
        **environment,
    }
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / "train.sh"), *arguments],
        env=variables,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [word for line in done.stdout.splitlines()[1:] for word in (line.split() if "address" in line else [line])]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("nodes", [1, 2, 16])
@pytest.mark.parametrize("gpus", [0, 1, 4, 8])
def test_the_allocation_says_how_many_processes_there_are(nodes: int, gpus: int, tmp_path: Path) -> None:
    told = allocate(tmp_path, nodes, gpus, "--config", "my file.yaml", 'data.csv=it\'s $HOME "here".csv')
    processes = nodes * max(gpus, 1)
    kind = (
        ("one_gpu" if processes == 1 else "multi_gpu") if gpus else ("cpu" if processes == 1 else "cpu_two_processes")
    )
    assert told == {
        "machines": str(nodes),
        "processes": str(processes),
        "address": "10.1.2.3",
        "cpu": "no",
        "launch": f"launch/{kind}.yaml",
        "last": 'data.csv=it\'s $HOME "here".csv',
    }


def test_the_site_chooses_engine_scratch_and_processes(tmp_path: Path) -> None:
    site = tmp_path / "site.env"
    site.write_text("export VWMM_LAUNCH=launch/fsdp2.yaml VWMM_SCRATCH=/scratch/x VWMM_PROCESSES_PER_NODE=3\n")
    told = allocate(tmp_path, 2, 0, "train.epochs=2", VWMM_SITE_ENV=str(site))
    assert (told["processes"], told["launch"], told["cpu"]) == ("6", "launch/fsdp2.yaml", "true")
    assert told["last"] == "cache.dir=/scratch/x"
    told = allocate(tmp_path, 2, 0, "cache.dir=mine", VWMM_SITE_ENV=str(site))
    assert told["last"] == "cache.dir=mine"
