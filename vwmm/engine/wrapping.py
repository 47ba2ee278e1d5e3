"""What is trained and with what, in Accelerate's hands."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vwmm.config.schema import Modality, Train
from vwmm.engine.batch_norm import RunningStatistics
from vwmm.engine.exact_sum import ExactSum
from vwmm.engine.loops import Learner
from vwmm.engine.optim import build_optimizer, sum_gradients
from vwmm.engine.runtime import Runtime
from vwmm.models.fusion import FusionModel
from vwmm.models.losses import class_weights


def build_learner(
    runtime: Runtime,
    model: FusionModel,
    train: Train,
    modalities: Mapping[str, Modality],
    labels: Sequence[int],
    num_classes: int,
) -> Learner:
    """The model with all that a step needs; `labels`: of the training cases, for the weights of the classes."""
    optimizer = build_optimizer(model.parameters(), train)
    sizes = {name: modality.size for name, modality in modalities.items()}
    prepared, prepared_optimizer = _prepare(runtime, model, optimizer, sizes, exact=train.exact)
    return Learner(
        model=prepared,
        optimizer=prepared_optimizer,
        # After the model has been moved to its device: the layers' buffers become parts of one tensor.
        statistics=RunningStatistics(dict(model.branches.items()), runtime.accelerator, exact=train.exact),
        weights=class_weights(train.class_weights, labels, num_classes),
        label_smoothing=train.label_smoothing,
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        exact_sum=ExactSum(list(model.parameters())) if train.exact else None,
    )


def _prepare(
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
