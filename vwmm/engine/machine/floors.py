"""What a step must take at least: its arithmetic, bytes and kernels at the device's measured speed."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vwmm.config.schema import Config
from vwmm.models.fusion import build_model

# Adam reads a weight, its gradient and two moments, and writes three of them, in float32.
UPDATE_BYTES_PER_PARAMETER = 28
_REPEATS = 5


@dataclass(frozen=True)
class Work:
    """Forward and backward of one image of each modality, in training."""

    flops: dict[str, float]
    """Floating-point operations of convolutions and products, by modality."""
    bytes: dict[str, float]
    """What its kernels read and write in float32, if each goes to memory, by modality."""
    kernels: int
    """Kernels of a pass, of all branches together."""
    parameters: int
    """Of the whole model."""


@dataclass(frozen=True)
class Peaks:
    """What this device does at best, measured."""

    flops_per_s: float
    """Of a large matrix product in the precision of training."""
    bytes_per_s: float
    """Read and written by a large copy."""
    launch_s: float
    """A kernel that has nothing to do, from Python."""


class _TrafficMode(TorchDispatchMode):
    """Counts kernels, and the bytes of the tensors that they take and give."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes, self.num_kernels = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:  # a view moves nothing
            tensors = _tensors([*args, *(kwargs or {}).values(), result])
            self.num_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.num_kernels += 1
        return result


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    """Those among the values, and in lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def count_work(config: Config) -> Work:
    """Counts on the meta device, with two images of each modality: batch norm refuses a single value."""
    flops, num_bytes, kernels = dict[str, float](), dict[str, float](), 0
    with torch.device("meta"):
        model = build_model(config.model, config.modalities, num_classes=2, seed=0).train()
    for branch, (name, modality) in zip(model.branches.values(), config.modalities.items(), strict=True):
        images = torch.empty(2, 1, *modality.size, device="meta")
        with FlopCounterMode(display=False) as counter, _TrafficMode() as traffic:
            branch(images).sum().backward()
        flops[name], num_bytes[name] = counter.get_total_flops() / 2, traffic.num_bytes / 2
        kernels += traffic.num_kernels
    return Work(flops, num_bytes, kernels, sum(parameter.numel() for parameter in model.parameters()))


def measure_peaks(device: torch.device, precision: str) -> Peaks:
    """Short measurements of the device, with as many threads as training has."""
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    is_gpu = device.type == "cuda"
    n, count = (8192, 2**28) if is_gpu else (1024, 2**25)
    left = torch.full((n, n), 0.5, dtype=dtype, device=device)
    product = torch.empty_like(left)
    source = torch.zeros(count, device=device)
    target = torch.zeros_like(source)
    few = torch.zeros(1, device=device)
    with torch.no_grad():
        multiply = _best(lambda: torch.mm(left, left, out=product), device)
        copy = _best(lambda: target.copy_(source), device)
        launches = _best(lambda: [few.add_(1.0) for _ in range(1000)], device)
    return Peaks(2 * n**3 / multiply, 2 * count * 4 / copy, launches / 1000)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """The least seconds of some runs, the first of them not counted."""
    times = []
    for _ in range(_REPEATS + 1):
        started = _now(device)
        work()
        times.append(_now(device) - started)
    return min(times[1:])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def floors(work: Work, peaks: Peaks, images: dict[str, float], num_passes: float, precision: str) -> dict[str, float]:
    """Seconds of a step's forward and backward at least. images: of a step, by modality.

    Roofline (Williams, Waterman and Patterson, CACM 52, 2009), with the kernels' launches as a third roof.
    """
    half = 1.0 if precision == "no" else 0.5
    return {
        "arithmetic": sum(count * work.flops[name] for name, count in images.items()) / peaks.flops_per_s,
        "bytes": sum(count * work.bytes[name] for name, count in images.items()) * half / peaks.bytes_per_s,
        "launches": num_passes * work.kernels * peaks.launch_s,
    }
