"""Nothing within a step waits for the device, or has a tensor on another one.

On torch's `meta` device tensors have a shape and no values: to read one on the host, or to mix it with one of the CPU,
raises. This rehearses the path of a GPU without one; `make gpu` does the same with `torch.cuda.set_sync_debug_mode`.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engine.training.one_step import CLASSES, MICRO_BATCHES, config_of, make_dataset
from vwmm.data.augmentation.augment import augmentation
from vwmm.engine.strategies.data_parallel import DataParallel
from vwmm.engine.training.batch_norm import RunningStatistics
from vwmm.engine.training.epoch import Epoch
from vwmm.engine.training.step_reduction import StepReduction
from vwmm.models.fusion import build_model
from vwmm.models.losses import WeightedCrossEntropy

META = torch.device("meta")


class NoBlockingCopies(TorchDispatchMode):
    """Raises where a copy from the CPU to the device waits for it: one that is asked to, or a list as an index."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name == "_to_copy" and kwargs.get("device") == META and args[0].device != META:
            assert kwargs.get("non_blocking"), "a copy to the device that waits for it"
        if name == "copy_" and args[0].device == META and args[1].device != META:
            assert kwargs.get("non_blocking") or args[2:3] == (True,), "a copy to the device that waits for it"
        if name in ("index", "index_put", "index_put_") and args[0].device == META:
            assert all(index is None or index.device == META for index in args[1]), "an index that is on the CPU"
        return func(*args, **kwargs)


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_step_runs_on_a_device_without_values(at_once: int, norm: str, tmp_path: Path) -> None:
    config = config_of(
        "train.max_grad_norm=1", "model.dropout=0.5", f"model.norm={norm}", "augment.all.noise_chance=0",
        "augment.all.affine_chance=1", "augment.all.bias_chance=1", "augment.all.gamma_chance=1",
    )  # fmt: skip
    dataset = make_dataset(tmp_path)
    runtime: Any = SimpleNamespace(
        device=META, num_processes=1, accelerator=SimpleNamespace(num_processes=1, is_main_process=True, scaler=None)
    )
    model = build_model(config.model, config.modalities, CLASSES, seed=0).to(META).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True)
    statistics = RunningStatistics(dict(model.branches.items()), runtime.accelerator, at_once=at_once)
    strategy = DataParallel(runtime, model, model, optimizer, max_grad_norm=1.0)
    loss_fn = WeightedCrossEntropy(dataset.labels, [1.0, 2.0, 0.5], label_smoothing=0.1)
    augment = augmentation(dataset, config.modalities, config.augment, seed=0, epoch=1)
    epoch = Epoch(
        dataset, [MICRO_BATCHES], present=dataset.present(), augment=augment, first_step=1, seed=0, at_once=at_once
    )
    (step,) = epoch.steps()
    reduction = StepReduction(runtime, step, 1e-3, wants_save=False)
    statistics.begin_step(step.num_images)
    with NoBlockingCopies():
        for work in step.passes:
            batch = dataset[work.cases].to(META).cast()
            images = augment(batch)
            with statistics.one_pass(work.numbers):
                logits = strategy.forward(images, work.micro_batches)
                losses = loss_fn(logits, batch.labels, batch.indices, work.micro_batches.sizes)
                reduction.add(work, losses)
                losses.sum().backward()
        grad_norm = strategy.clip_grad_norm()
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        reduction.wait(grad_norm)  # where the step means to wait, once
    strategy.update(is_finite=True)
    statistics.end_step()
    assert all(parameter.device == META for parameter in model.parameters())
