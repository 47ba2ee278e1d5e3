"""The templates are sound shell."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.rehearsing import IS_LONG
from vwmm.engine.launch.slurm_job import read_request

GOLDEN = Path(__file__).with_name("golden")
SCRIPTS = sorted([*(ROOT / "slurm").glob("*.sh"), ROOT / "slurm" / "job.bash", ROOT / "slurm" / "site.env.example"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script: object) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (.ci/run installs it)")
@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.suffix != ".example"], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: object) -> None:
    done = subprocess.run(["shellcheck", "-x", "-s", "bash", str(script)], capture_output=True, text=True, cwd=ROOT)
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
words=("$@")
for number in "${!words[@]}"; do
    if [ "${words[number]}" = vwmm-look ]; then  # what each task sees
        for node in $(seq "$SLURM_JOB_NUM_NODES"); do
            SLURM_NODEID="$((node - 1))" SLURMD_NODENAME="node$node" bash -c "${words[number - 1]}"
        done
        exit
    fi
    if [ "${words[number]}" = vwmm-task ]; then words[number - 1]=TASK; fi
done
echo "machines=$VWMM_NUM_MACHINES processes=$VWMM_NUM_PROCESSES" \\
    "address=$VWMM_MAIN_ADDRESS cpu=${ACCELERATE_USE_CPU:-no}"
printf '%s\\n' "${words[@]}"
"""
TEMPLATES = ("train", "cross_validate", "compare", "prepare", "sweep")
ARGUMENTS = ("--config", "my file.yaml", 'data.csv=it\'s $HOME "here".csv')


def allocate(
    template: str, folder: Path, nodes: int, gpus: int, *arguments: str, **environment: str
) -> tuple[str, list[str]]:
    """What the tasks of such an allocation are told, and with which words they are started."""
    for name, content in (("scontrol", SCONTROL), ("srun", SRUN)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"} if template != "train" else {}
    variables = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "VWMM_HOME": str(ROOT),
        "VWMM_PYTHON": sys.executable,
        "VWMM_SITE_ENV": "/nonexistent",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": "node[...]",
        "SLURM_SUBMIT_DIR": str(folder),
        **array,
        **({"SLURM_GPUS_ON_NODE": str(gpus)} if gpus else {}),
        **environment,
    }
    script = ROOT / "slurm" / f"{template}.sh"
    done = subprocess.run(["bash", str(script), *arguments], env=variables, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, *words = done.stdout[done.stdout.index("machines=") :].splitlines()
    return told, words


@pytest.mark.parametrize("template", TEMPLATES if IS_LONG else ["train"])
def test_what_each_allocation_starts_is_what_was_read_and_approved(template: str, tmp_path: Path) -> None:
    """golden/TEMPLATE.txt; to write it again: python -m tests.slurm.test_templates."""
    assert golden(template, tmp_path) == (GOLDEN / f"{template}.txt").read_text()


def golden(template: str, folder: Path) -> str:
    parts = []
    for nodes in (1, 2, 16):
        for gpus in (0, 1, 4, 8):
            told, words = allocate(template, folder, nodes, gpus, *ARGUMENTS)
            command = shlex.join(words).replace(sys.executable, "PYTHON")
            parts.append(f"== {nodes} nodes, {gpus} GPUs on each\n{told}\nsrun {command}\n")
    return "\n".join(parts)


@pytest.mark.parametrize("nodes", [1, 2, 16])
@pytest.mark.parametrize("gpus", [0, 1, 4, 8])
def test_what_is_said_before_is_what_the_job_decides(nodes: int, gpus: int, tmp_path: Path) -> None:
    """`vwmm slurm` and slurm/job.bash agree."""
    told, words = allocate("train", tmp_path, nodes, gpus, "train.epochs=2")
    options = [f"--nodes={nodes}", *([f"--gpus-per-node={gpus}"] if gpus else [])]
    request = read_request("train", options, {"PATH": "/usr/bin:/bin"})
    processes = nodes * max(gpus, 1)
    assert told == f"machines={nodes} processes={processes} address=10.1.2.3 cpu=no"
    assert request.num_processes == processes
    assert request.launch_file == words[words.index("--launch") + 1]


def test_the_site_chooses_engine_scratch_and_processes(tmp_path: Path) -> None:
    site = tmp_path / "site.env"
    site.write_text("export VWMM_LAUNCH=launch/fsdp2.yaml VWMM_SCRATCH=/scratch/x VWMM_PROCESSES_PER_NODE=3\n")
    told, words = allocate("train", tmp_path, 2, 0, "train.epochs=2", VWMM_SITE_ENV=str(site))
    assert told.split()[1::2] == ["processes=6", "cpu=true"]
    assert words[-4:] == ["--launch", "launch/fsdp2.yaml", "train.epochs=2", "cache.dir=/scratch/x"]
    request = read_request("train", ["--nodes=2"], {"PATH": "/usr/bin:/bin", "VWMM_SITE_ENV": str(site)})
    assert (request.num_processes, request.launch_file) == (6, "launch/fsdp2.yaml")
    _, words = allocate("train", tmp_path, 2, 0, "cache.dir=mine", VWMM_SITE_ENV=str(site))
    assert words[-1] == "cache.dir=mine"


def test_a_budget_that_is_no_number_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        allocate("train", tmp_path, 1, 0, VWMM_MAX_FAILURES="none")


def test_a_job_of_several_parts_ends(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        allocate("train", tmp_path, 1, 0, SLURM_HET_SIZE="2")


@pytest.mark.parametrize(
    ("seen", "processes"),
    [
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"SLURM_GPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "MIG-5,MIG-6,MIG-7"}, 3),
        ({"SLURM_GPUS_ON_NODE": "gpu:2", "ROCR_VISIBLE_DEVICES": "0,1"}, 2),
        ({"SLURM_GPUS_ON_NODE": "2"}, 2),  # devices that Slurm counts and does not name
        ({"SLURM_STEP_GPUS": "4,5"}, 2),
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 1),
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": ""}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 1),  # of the shell that submitted it
    ],
)
def test_gpus_are_those_that_a_task_sees(seen: dict[str, str], processes: int, tmp_path: Path) -> None:
    lines = allocate("train", tmp_path, 1, 0, **seen)
    assert f"processes={processes} " in lines[0], lines
    is_gpu = processes > 1
    assert ("launch/multi_gpu.yaml" if is_gpu else "launch/cpu.yaml") in lines[1]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_finds_its_folder_whatever_stands_behind_it(template: str, tmp_path: Path) -> None:
    """Slurm's line has the arguments and the working directory behind the script's path."""
    home = tmp_path / "slurm" / "my code"
    shutil.copytree(ROOT / "slurm", home / "slurm")
    (home / "slurm" / "job.bash").write_text('echo "found $0"; exit 0\n')
    programs = tmp_path / "programs"
    programs.mkdir()
    line = (
        f"JobId=7 JobName=x Command={home}/slurm/{template}.sh data.csv=/slurm/a.sh.csv WorkDir=/slurm/{template}.sh/b"
    )
    (programs / "scontrol").write_text(f"#!/bin/sh\nprintf '%s\\n' '{line}' 'JobId=8 Command=/other'\n")
    (programs / "scontrol").chmod(0o755)
    spooled = tmp_path / "spooled"
    shutil.copy(home / "slurm" / f"{template}.sh", spooled)
    variables = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", str(spooled)], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"found {spooled}\n"), done.stderr


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for name in TEMPLATES:
            (GOLDEN / f"{name}.txt").write_text(golden(name, Path(made)))
