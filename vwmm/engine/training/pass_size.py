"""How many micro-batches one pass computes: as many as are fast and fit into memory."""

import math
from collections.abc import Mapping

import torch

from vwmm.config.schema import Modality, Train

# Voxels of a pass on a CPU: beyond, what a layer leaves no longer stays in its caches, and separate passes are as fast
# (benchmarks/fused_step.py).
CPU_VOXELS = 600_000
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
    return min(max(1, cases // train.micro_batch_size), train.batch_size // train.micro_batch_size)
