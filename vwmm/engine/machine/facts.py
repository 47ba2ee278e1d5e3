"""What this machine has: plain numbers and names, as `vwmm doctor` judges them."""

import contextlib
import os
import platform
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch

from vwmm.config.schema import Config
from vwmm.engine.console import amount
from vwmm.engine.distributed.precision import (
    Convolutions,
    choose_precision,
    cudnn_text,
    find_convolutions,
    uses_volumes,
)
from vwmm.engine.preprocessing.fill_cache import available_memory
from vwmm.models.fusion import count_parameters
from vwmm.system.errors import UserError

SHM = Path("/dev/shm")  # noqa: S108 - only its size is asked for
_DRIVER = Path("/proc/driver/nvidia/version")
_PROBE_BYTES, _PROBE_BLOCK = 64 * 2**20, 4 * 2**20
# Settings that take a fast way of communication away from NCCL.
NCCL_SETTINGS = ("NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE", "NCCL_IB_DISABLE")
_PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow", "trackio": "trackio"}


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can see."""

    name: str
    """As its driver names it."""
    num_bytes: int
    """Its memory."""
    capability: tuple[int, int]
    """Its compute capability, (9, 0) for an H100."""


@dataclass(frozen=True)
class Disk:
    """The disk of a folder."""

    folder: str
    """The folder, or the nearest one above it that exists."""
    system: str = ""
    """Its file system, such as ext4 or nfs4; empty: unknown."""
    free: int = 0
    """Bytes."""
    read_bytes_per_s: float | None = None
    """Measured past the memory's copy of the file; None: it could not be."""
    error: str = ""
    """Why it cannot be written; empty: it can."""


@dataclass(frozen=True)
class Machine:
    """Everything that the checks look at."""

    convolutions: Convolutions
    """Torch and cuDNN."""
    precision: str
    """What `train.mixed_precision` becomes here: no, fp16 or bf16."""
    cuda: str | None = None
    """CUDA that torch was built for; None: it was built without."""
    driver: str | None = None
    """NVIDIA's driver; None: there is none."""
    gpus: tuple[Gpu, ...] = ()
    """Those that torch can use."""
    torch_capabilities: tuple[str, ...] = ()
    """What torch was compiled for: sm_90, compute_90, ..."""
    nccl: str | None = None
    """NCCL's version; None: torch has none."""
    nccl_settings: tuple[str, ...] = ()
    """NAME=VALUE of NCCL's settings in the environment that take a fast way away."""
    num_cores: int = 1
    """That this process may use."""
    memory: int = 0
    """Bytes that cached images may take now."""
    shm: tuple[int, int] | None = None
    """Size and free bytes of /dev/shm; None: there is none."""
    disk: Disk = field(default_factory=lambda: Disk("."))
    """Of `cache.dir`."""
    parameters: int = 0
    """Of the configuration's model."""
    trackers: dict[str, str] = field(default_factory=dict)
    """What is wrong with each tracker asked for; empty: nothing."""

    def lines(self) -> list[str]:
        """For a terminal."""
        gpus = [f"{gpu.name}, {amount(gpu.num_bytes)}" for gpu in self.gpus]
        rate = self.disk.read_bytes_per_s
        reads = "" if rate is None else f", reads {amount(int(rate))}/s"
        found = self.convolutions
        rows = {
            "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
            "torch": f"{found.torch}, CUDA {self.cuda or 'none'}, cuDNN {cudnn_text(found.cudnn)}, "
            f"NCCL {self.nccl or 'none'}",
            "GPUs": "; ".join(gpus) or "none: training runs on the CPU",
            "driver": self.driver or "none",
            "precision": "float32" if self.precision == "no" else self.precision,
            "CPU": f"{self.num_cores} cores, {amount(self.memory)} of memory available",
            str(SHM): "none" if self.shm is None else f"{amount(self.shm[0])}, {amount(self.shm[1])} free",
            "cache": f"{self.disk.folder} ({self.disk.system or 'unknown file system'}), {amount(self.disk.free)} free"
            + reads,
            "trackers": ", ".join(self.trackers) or "none",
        }
        width = max(map(len, rows))
        return [f"  {name:{width}}  {text}" for name, text in rows.items()]


def read_machine(config: Config) -> Machine:
    """Looks at this machine; writes and removes one file of 64 MiB beside the cache, to measure its disk."""
    has_gpu = torch.cuda.is_available()
    convolutions = find_convolutions(has_gpu=has_gpu)
    try:
        setting = config.train.mixed_precision
        precision = choose_precision(setting, convolutions, has_volumes=uses_volumes(config.modalities))
    except UserError:  # fp16 without a GPU: training says so
        precision = config.train.mixed_precision
    count = torch.cuda.device_count() if has_gpu else 0
    properties = [torch.cuda.get_device_properties(number) for number in range(count)]
    return Machine(
        convolutions=convolutions,
        precision=precision,
        cuda=torch.version.cuda,
        driver=driver_version(_read(_DRIVER)),
        gpus=tuple(Gpu(one.name, one.total_memory, (one.major, one.minor)) for one in properties),
        torch_capabilities=tuple(torch.cuda.get_arch_list()),
        nccl=_nccl(),
        nccl_settings=tuple(f"{name}={os.environ[name]}" for name in NCCL_SETTINGS if os.environ.get(name)),
        num_cores=len(os.sched_getaffinity(0)),
        memory=available_memory(),
        shm=_shm(),
        disk=look_at_disk(Path(config.cache.dir)),
        parameters=count_parameters(config.model, config.modalities, num_classes=2),
        trackers={name: _tracker(name, config.tracking.mode) for name in config.tracking.trackers},
    )


def driver_version(text: str) -> str | None:
    """`550.54.15` of /proc/driver/nvidia/version."""
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return found[0] if found else None


def look_at_disk(folder: Path) -> Disk:
    """Room and speed of the disk of a folder that may not exist yet."""
    there = folder.absolute()
    while not there.is_dir() and there != there.parent:
        there = there.parent
    free, system = shutil.disk_usage(there).free, _file_system(there)
    if free < 4 * _PROBE_BYTES:
        return Disk(str(there), system, free, error="" if os.access(there, os.W_OK) else "no permission to write")
    try:
        rate = _read_rate(there)
    except OSError as error:
        return Disk(str(there), system, free, error=error.strerror or str(error))
    return Disk(str(there), system, free, rate)


def _read_rate(folder: Path) -> float:
    """Bytes per second of a file that is not in memory any more. Raises OSError."""
    block = os.urandom(_PROBE_BLOCK)  # a disk may compress
    with tempfile.TemporaryFile(dir=folder, prefix=".vwmm-") as file:
        for _ in range(_PROBE_BYTES // _PROBE_BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        started = time.perf_counter()
        while file.read(_PROBE_BLOCK):
            pass
        return _PROBE_BYTES / (time.perf_counter() - started)


def _file_system(folder: Path) -> str:
    """Of the mount that holds the folder: the longest one that it lies in."""
    with contextlib.suppress(OSError, psutil.Error):
        mounts = [one for one in psutil.disk_partitions(all=True) if folder.is_relative_to(one.mountpoint)]
        return max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else ""
    return ""


def _nccl() -> str | None:
    if not (torch.distributed.is_available() and torch.distributed.is_nccl_available()):
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))


def _shm() -> tuple[int, int] | None:
    try:
        usage = shutil.disk_usage(SHM)
    except OSError:
        return None
    return usage.total, usage.free


def _tracker(name: str, mode: str) -> str:
    """What is wrong with a tracker; empty: nothing."""
    if find_spec(_PACKAGES[name]) is None:
        return f"not installed (pip install 'vwmm[{name}]')"
    if name != "wandb" or mode in ("offline", "disabled"):
        return ""
    from vwmm.engine.tracking.wandb import choose_mode

    chosen, why = choose_mode("auto")
    return "" if chosen == "online" else why.strip(" ()")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
