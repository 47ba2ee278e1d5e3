"""Validates an Accelerate launch file."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vwmm.config.loading import find_shipped, not_found
from vwmm.config.schema import Train
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

# Of NVIDIA's driver, of those of its boards, of Windows' subsystem for Linux and of AMD.
_GPU_DEVICES = ("nvidia*", "nvgpu*", "nvhost*", "dxg", "kfd")


def check_launch_file(launch_file: str | None) -> None:
    """Raises UserError where `launch` would not start with this launch file."""
    launch_options(launch_file)
    cpu_variable(launch_file)


def launch_file_problems(launch_file: str, train: Train, num_processes: int, *, has_gpu: bool) -> list[Problem]:
    """Why a configuration cannot be trained with a launch file and so many processes; before they start."""
    from vwmm.engine.launch.strategy_choice import LAUNCH_FILE, strategy_of_launch_file, strategy_problems

    try:
        strategy = strategy_of_launch_file(_content(launch_file))
    except UserError as error:
        return [
            replace(problem, where=launch_file) if problem.where == LAUNCH_FILE else problem.within(launch_file)
            for problem in error.problems
        ]
    precision = "" if train.mixed_precision == "auto" else train.mixed_precision
    found = strategy_problems(strategy, train, precision, num_processes, has_gpu=has_gpu)
    return [problem.within(launch_file) for problem in found]


def launch_options(launch_file: str | None) -> list[str]:
    """The arguments for `accelerate launch`; default: the file that fits the GPUs seen. UserError: no such file."""
    if launch_file is not None:
        found = find_shipped(launch_file)
        if found is None:
            raise UserError(not_found("--launch", launch_file))
        return ["--config_file", str(found)]
    num_gpus = _num_gpus()
    name = "cpu" if num_gpus == 0 else "one_gpu" if num_gpus == 1 else "multi_gpu"
    file = find_shipped(f"launch/{name}.yaml")
    assert file is not None, "launch files are part of vwmm"
    return ["--config_file", str(file), *(["--num_processes", str(num_gpus)] if num_gpus > 1 else [])]


def starts_one_process(launch_file: str | None, environment: Mapping[str, str]) -> bool:
    """Whether `accelerate launch` would start one process, on this machine and without a launcher of torch's.

    environment: the launcher's, as slurm/job.bash may have described the machines in it.
    """
    if environment.get("VWMM_NUM_MACHINES", "1") != "1" or environment.get("VWMM_NUM_PROCESSES", "1") != "1":
        return False
    if launch_file is None:
        return _num_gpus() < 2
    content = _content(launch_file)
    asked = (content.get(key) for key in ("compute_environment", "distributed_type", "num_machines", "num_processes"))
    return tuple(asked) == ("LOCAL_MACHINE", "NO", 1, 1)


def _content(launch_file: str | None) -> dict[str, Any]:
    found = find_shipped(launch_file) if launch_file else None
    try:
        content = yaml.safe_load(found.read_text(encoding="utf-8")) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--launch {launch_file}: cannot be read as YAML: {error}") from error
    return content if isinstance(content, dict) else {}


def machine_options(environment: Mapping[str, str], launch_index: int = 0) -> list[str]:
    """Of several machines, as slurm/job.bash describes them, this one's place; it comes before the launch file's.

    launch_index: which of several launches one after another; each has a port of its own. Raises UserError where a
    variable is missing.
    """
    if "VWMM_NUM_MACHINES" not in environment:
        return []
    names = {"num_processes": "VWMM_NUM_PROCESSES"}
    if environment["VWMM_NUM_MACHINES"] != "1":
        names |= {
            "num_machines": "VWMM_NUM_MACHINES",
            "machine_rank": "VWMM_MACHINE_RANK",
            "main_process_ip": "VWMM_MAIN_ADDRESS",
            "main_process_port": "VWMM_MAIN_PORT",
        }
    missing = [name for name in names.values() if name not in environment]
    if missing:
        raise UserError(f"VWMM_NUM_MACHINES is set, but not {', '.join(missing)}: slurm/train.sh sets them all")
    values = {option: environment[name] for option, name in names.items()}
    if "main_process_port" in values:
        values["main_process_port"] = str(int(values["main_process_port"]) + launch_index)
    return [word for option, value in values.items() for word in (f"--{option}", value)]


def cpu_variable(launch_file: str | None) -> dict[str, str]:
    """Variables that keep processes on the CPU: of several ones Accelerate forgets the file's `use_cpu`.

    Raises UserError where the file asks for a GPU and none is visible.
    """
    uses_cpu = _content(launch_file).get("use_cpu") is True
    is_asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")
    if launch_file and not uses_cpu and not is_asked and not _has_gpu():
        raise UserError(
            f"--launch {launch_file}: asks for a GPU, but none is visible; launch/cpu.yaml needs none, and "
            "ACCELERATE_USE_CPU=true in the environment takes this file's processes to the CPU"
        )
    # train.cpu_threads decides; without the second one Accelerate warns that it chose a number itself.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    if not uses_cpu and not is_asked:
        return {}
    # DeepSpeed's launcher would look for a GPU and warn that there is none.
    return {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": threads, "DS_ACCELERATOR": "cpu"}


def _has_gpu() -> bool:
    return _num_gpus() > 0


def _num_gpus() -> int:
    """Those that torch sees. Its import takes 1.2 s of CPU time: a machine without a GPU's device file is not asked."""
    if not any(next(Path("/dev").glob(name), None) for name in _GPU_DEVICES):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
