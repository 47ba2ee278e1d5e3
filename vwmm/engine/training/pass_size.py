"""How many micro-batches one pass computes: as many as are fast and fit into memory."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from vwmm.config.schema import Config, Modality, Train
from vwmm.system.errors import RunError

# Voxels of a pass on a CPU: beyond, what a layer leaves no longer stays in its caches, and separate passes are as fast
# (benchmarks/fused_step.py).
CPU_VOXELS = 1_200_000
# The share of a GPU's memory that is for what the layers leave for the backward pass, and what a voxel leaves there:
# 510 MiB for 128 x 128 x 64 voxels of DenseNet121 in float32, and a fifth for other networks.
GPU_SHARE, BYTES_PER_VOXEL = 0.5, 640


def micro_batches_at_once(train: Train, modalities: Mapping[str, Modality], device: torch.device) -> int:
    """Micro-batches of a pass by `train.cases_at_once`; never changes a result but by rounding."""
    if train.exact:
        return 1
    voxels = sum(math.prod(modality.size) for modality in modalities.values())
    if train.cases_at_once != "auto":
        cases = train.cases_at_once
    elif device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        cases = int(GPU_SHARE * memory / (BYTES_PER_VOXEL * voxels))
    else:
        cases = CPU_VOXELS // voxels
    of_step = train.batch_size // train.micro_batch_size
    most = min(max(1, cases // train.micro_batch_size), of_step)
    return math.ceil(of_step / math.ceil(of_step / most))  # passes of one size, as far as that goes


@contextmanager
def memory_advice(config: Config, device: torch.device) -> Iterator[None]:
    """Answers a GPU without enough memory with the keys that need less. Raises RunError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        train, at_once = config.train, micro_batches_at_once(config.train, config.modalities, device)
        cures = []
        if at_once > 1:
            cures.append(
                f"train.cases_at_once={at_once // 2 * train.micro_batch_size} (the same result but for rounding)"
            )
        if not config.model.checkpointing:
            cures.append("model.checkpointing=true (the same result, in more time)")
        half = "train.mixed_precision=auto, " if train.mixed_precision == "no" else ""
        cures.append(f"in a new run: {half}smaller images or a smaller train.micro_batch_size")
        text = next(iter(str(error).splitlines()), "")
        cases = at_once * train.micro_batch_size
        raise RunError(
            f"the memory of {device} is too small for a pass of {cases} cases ({text}). Run the same command again, "
            f"which goes on from the last checkpoint, with what helps first: {'; '.join(cures)}"
        ) from error
