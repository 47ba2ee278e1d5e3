"""Model and optimizer in Accelerate's hands."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from vwmm.engine.optim import sum_gradients
from vwmm.engine.runtime import Runtime
from vwmm.models.fusion import FusionModel


def prepare_training(
    runtime: Runtime,
    model: FusionModel,
    optimizer: torch.optim.Optimizer,
    sizes: Mapping[str, list[int]],
    *,
    exact: bool,
) -> tuple[torch.nn.Module, Any]:
    """Model and optimizer, prepared; `sizes`: of each modality's images. An exact sum of gradients is ours to make."""
    if exact:
        prepared = runtime.accelerator.prepare_model(model, evaluation_mode=True)
        return prepared, runtime.accelerator.prepare_optimizer(optimizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*broadcast_buffers")  # torch's advice to Accelerate
        prepared, optimizer = runtime.accelerator.prepare(model, optimizer)
    sum_gradients(prepared)
    if runtime.num_processes > 2:
        _settle_buckets(runtime, prepared, model, sizes)
    return prepared, optimizer


def _settle_buckets(
    runtime: Runtime, prepared: torch.nn.Module, model: FusionModel, sizes: Mapping[str, list[int]]
) -> None:
    """Lets data-parallel training arrange its buckets on images of zeros, whatever the run begins with.

    It arranges them after its first backward pass, and where an element lies in its bucket decides in which order more
    than two processes' values of it are added: a run that goes on would have other bits than one that was not stopped.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    images = {name: torch.zeros(2, 1, *size, device=runtime.device) for name, size in sizes.items()}
    present = torch.ones(2, len(images), dtype=torch.bool, device=runtime.device)
    runtime.accelerator.backward(prepared.train()(images, present).sum())
    for parameter in model.parameters():
        parameter.grad = None
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
