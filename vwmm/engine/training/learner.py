"""What is trained and with what: the model in its strategy, batch norm's statistics, the loss."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vwmm.config.schema import Modality, Train
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.optim import build_optimizer, sum_gradients
from vwmm.engine.strategies.base import Strategy
from vwmm.engine.strategies.data_parallel import DataParallel
from vwmm.engine.strategies.fsdp2 import FSDP2
from vwmm.engine.strategies.nan_injection import inject_nan
from vwmm.engine.strategies.zero import ZeRO
from vwmm.engine.training.batch_norm import RunningStatistics
from vwmm.engine.training.pass_size import micro_batches_at_once
from vwmm.models.fusion import FusionModel
from vwmm.models.losses import WeightedCrossEntropy, class_weights, pattern_weights
from vwmm.models.norm import single_valued_layers
from vwmm.system.fault_injection import FAULTS


@dataclass(frozen=True)
class Learner:
    """What is trained, and with what."""

    strategy: Strategy
    """Keeps the weights and updates them."""
    batch_norm: RunningStatistics
    """Batch norm's running statistics."""
    loss: WeightedCrossEntropy
    """The loss, with the weights of classes and cases."""
    at_once: int
    """Micro-batches of a pass."""


def build_learner(
    runtime: Runtime,
    model: FusionModel,
    train: Train,
    modalities: Mapping[str, Modality],
    dataset: CaseDataset,
    num_classes: int,
) -> Learner:
    """The model with all that a step needs; dataset: the training cases, for the weights of classes and patterns."""
    sizes = {name: modality.size for name, modality in modalities.items()}
    branches: dict[str, torch.nn.Module] = dict(model.branches.items())
    single = {
        key: single_valued_layers(branch, size)
        for (key, branch), size in zip(branches.items(), sizes.values(), strict=True)
    }
    model.to(runtime.device)
    prepared = None if runtime.strategy.is_sharded else _data_parallel(runtime, model, train, sizes)
    # After the model has been moved to its device: the layers' buffers become parts of one tensor.
    at_once = micro_batches_at_once(train, modalities, runtime.device)
    statistics = RunningStatistics(
        branches, runtime.accelerator, exact=train.exact, single_valued=single, at_once=at_once
    )
    strategy = prepared or (ZeRO if runtime.strategy.kind == "deepspeed" else FSDP2)(runtime, model, train)
    if FAULTS.make_nan:
        inject_nan(strategy, runtime.watchdog)
    loss = WeightedCrossEntropy(
        dataset.labels,
        class_weights(train.class_weights, dataset.labels, num_classes),
        pattern_weights(train.pattern_weights, dataset.present()),
        train.label_smoothing,
    )
    return Learner(strategy, statistics, loss, at_once)


def _data_parallel(runtime: Runtime, model: FusionModel, train: Train, sizes: Mapping[str, list[int]]) -> DataParallel:
    """In Accelerate's hands; `sizes`: of each modality's images. An exact sum of gradients is ours to make.

    device_placement: what Accelerate would find as well, after importing DTensor (0.3 s of CPU time) to look for one.
    """
    optimizer = build_optimizer(model.parameters(), train)
    if train.exact:
        prepared = runtime.accelerator.prepare_model(model, device_placement=True, evaluation_mode=True)
        optimizer = runtime.accelerator.prepare_optimizer(optimizer)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*broadcast_buffers")  # torch's advice to Accelerate
            prepared, optimizer = runtime.accelerator.prepare(model, optimizer, device_placement=[True, None])
        sum_gradients(prepared)
        if runtime.num_processes > 2:
            _settle_buckets(runtime, prepared, model, sizes)
    return DataParallel(runtime, model, prepared, optimizer, max_grad_norm=train.max_grad_norm, exact=train.exact)


def _settle_buckets(
    runtime: Runtime, prepared: torch.nn.Module, model: FusionModel, sizes: Mapping[str, list[int]]
) -> None:
    """Lets data-parallel training arrange its buckets on images of zeros, independent of the first batch.

    It arranges them after its first backward pass, and where an element lies in its bucket decides in which order more
    than two processes' values of it are added: a resumed run would have other bits than an uninterrupted one.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    images = {name: torch.zeros(2, 1, *size, device=runtime.device) for name, size in sizes.items()}
    present = torch.ones(2, len(images), dtype=torch.bool, device=runtime.device)
    runtime.accelerator.backward(prepared.train()(images, present).sum())
    for parameter in model.parameters():
        parameter.grad = None
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
