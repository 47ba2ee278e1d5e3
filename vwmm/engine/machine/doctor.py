"""What is wrong with a machine: each check is a function of plain facts."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vwmm.config.schema import Config
from vwmm.data.cache.entry import Layout
from vwmm.engine.check.before_training import images_in_batch_norm
from vwmm.engine.console import amount
from vwmm.engine.distributed.precision import cudnn_text, describe_choice, uses_volumes
from vwmm.engine.machine.facts import Machine
from vwmm.system.problems import Problem, count_severities, in_order

# A cache on a slower disk feeds fewer than 23 cases/s of 128 x 128 x 64 voxels in float32.
SLOW_BYTES_PER_S = 100e6
# What docker gives a container that asks for nothing, and what NCCL is to have (its documentation asks for 1 GB).
BARE_SHM, NCCL_SHM = 64 * 2**20, 10**9
# The least driver of each CUDA (NVIDIA, CUDA Compatibility, minor version compatibility).
DRIVERS = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 0, 0)}
# Weights, buffers and Adam's two moments, in the two places that a snapshot goes between.
SNAPSHOT_BYTES_PER_PARAMETER = 2 * 12


def diagnose(machine: Machine, config: Config, present: Mapping[str, float]) -> list[Problem]:
    """Everything that is wrong, the worst first. present: the share of the cases that have an image, by modality."""
    told = describe_choice(
        config.train.mixed_precision, machine.convolutions, has_volumes=uses_volumes(config.modalities)
    )
    return in_order(
        [
            *([told] if told else []),
            *gpu_problems(machine),
            *nccl_problems(len(machine.gpus), machine.nccl, machine.nccl_settings),
            *shm_problems(
                machine.shm, len(machine.gpus), machine.parameters * SNAPSHOT_BYTES_PER_PARAMETER * config.run.snapshots
            ),
            *disk_problems(machine, config),
            *batch_norm_problems(config, present),
            *tracker_problems(machine.trackers, config.tracking.mode),
        ]
    )


def gpu_problems(machine: Machine) -> list[Problem]:
    """A GPU that is there and that torch cannot use, or not as it was built."""
    if machine.driver is None:
        return []
    if machine.cuda is None:
        found = f"the driver {machine.driver} is here, but torch {machine.convolutions.torch} was built without CUDA"
        return [Problem(f"{found}: install a build of torch with CUDA (pytorch.org/get-started)", "no_gpu")]
    least = DRIVERS.get(int(machine.cuda.split(".")[0]))
    if least and numbers(machine.driver) < least:
        found = f"the driver {machine.driver} is too old for CUDA {machine.cuda}: it needs {_dotted(least)} or newer"
        return [Problem(f"{found}, or a build of torch for an older CUDA", "no_gpu")]
    if not machine.gpus:
        found = f"the driver {machine.driver} is here, but torch sees no GPU: look at `nvidia-smi`"
        return [Problem(f"{found}, CUDA_VISIBLE_DEVICES and the container's --gpus", "no_gpu")]
    problems = list[Problem]()
    for name, capability in dict.fromkeys((gpu.name, gpu.capability) for gpu in machine.gpus):
        if machine.torch_capabilities and not is_compiled_for(capability, machine.torch_capabilities):
            found = (
                f"torch {machine.convolutions.torch} was not compiled for {name} (sm_{capability[0]}{capability[1]})"
            )
            problems.append(Problem(f"{found}: it has {', '.join(machine.torch_capabilities)}", "no_gpu"))
    return problems


def is_compiled_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether code is there for a GPU: of its major version and not above it, or one that the driver compiles."""
    for name in architectures:
        kind, _, digits = name.partition("_")
        major, minor = divmod(int(re.sub(r"\D", "", digits)), 10)
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return False


def nccl_problems(num_gpus: int, nccl: str | None, settings: Sequence[str]) -> list[Problem]:
    """Several GPUs that cannot, or can only slowly, add up their gradients."""
    if num_gpus < 2:
        return []
    if nccl is None:
        return [Problem(f"{num_gpus} GPUs, but this torch has no NCCL", "nccl")]
    return [
        Problem(f"{setting} takes a fast way of communication away from {num_gpus} GPUs", "nccl_setting")
        for setting in settings
        if not setting.endswith("=0")
    ]


def shm_problems(shm: tuple[int, int] | None, num_gpus: int, snapshot_bytes: int) -> list[Problem]:
    """Too little shared memory for NCCL or for run.snapshots. shm: its size and what is free of it."""
    if shm is None:
        return [
            Problem("there is no /dev/shm: processes cannot say where they are, and run.snapshots fails", "small_shm")
        ]
    total, free = shm
    if snapshot_bytes > free:
        found = f"{amount(free)} free, run.snapshots=true needs {amount(snapshot_bytes)} for this model"
        return [Problem(found, "small_shm")]
    if total <= BARE_SHM or (num_gpus > 1 and total < NCCL_SHM):
        found = f"{amount(total)} in all" + (f", for {num_gpus} GPUs of one machine" if num_gpus > 1 else "")
        return [Problem(found, "small_shm")]
    return []


def disk_problems(machine: Machine, config: Config) -> list[Problem]:
    """A cache that cannot be written, or that is read slowly."""
    disk = machine.disk
    if disk.error:
        return [Problem(f"{disk.folder} cannot be written: {disk.error}; choose another one", "place", key="cache.dir")]
    rate = disk.read_bytes_per_s
    if rate is None or rate >= SLOW_BYTES_PER_S:
        return []
    cases = rate / case_bytes(config)
    found = f"{disk.folder} reads {amount(int(rate))}/s: {cases:.3g} cases/s of these images the first time"
    return [Problem(found, "slow_disk", key="cache.dir")]


def case_bytes(config: Config) -> int:
    """Bytes of a complete case's entries in the cache."""
    return sum(Layout((1, *modality.size), config.cache.dtype).file_bytes for modality in config.modalities.values())


def batch_norm_problems(config: Config, present: Mapping[str, float]) -> list[Problem]:
    """Images of one voxel in the last layers of which batch norm sees few at a time."""
    few = [f"{seen:.1f} {name}" for name, seen in images_in_batch_norm(config, present).items()]
    if not few:
        return []
    found = f"of images of one voxel in the last layers it sees on average {', '.join(few)} at a time"
    return [Problem(found, "few_in_batch_norm", key="train.micro_batch_size")]


def tracker_problems(trackers: Mapping[str, str], mode: str) -> list[Problem]:
    """Trackers that are not installed, and W&B without a key or a server, an error where it must go online."""
    problems = list[Problem]()
    for name, what in trackers.items():
        if what.startswith("not installed") or (what and mode == "online"):
            problems.append(Problem(f"{name}: {what}", "tracker", key="tracking.trackers"))
        elif what:
            problems.append(Problem(f"{name}: {what}: the run is logged offline", "no_key", key="tracking.trackers"))
    return problems


def json_of(machine: Machine, problems: Sequence[Problem]) -> str:
    """For programs."""
    content: dict[str, Any] = {
        "machine": asdict(machine) | {"cudnn": cudnn_text(machine.convolutions.cudnn)},
        "counts": count_severities(problems),
        "findings": [one.as_json() | {"key": one.key} for one in problems],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def numbers(version: str) -> tuple[int, ...]:
    """(550, 54, 15) for `550.54.15`."""
    return tuple(map(int, version.split(".")))


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
