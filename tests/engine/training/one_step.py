"""One optimizer step, computed by vwmm's training loop and by plain torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vwmm.config.loading import load_config
from vwmm.config.schema import Config
from vwmm.data.cache.entry import write_entry
from vwmm.data.cache.store import Entry, Store
from vwmm.data.cohort.cases import Case
from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.training.epoch import Epoch
from vwmm.engine.training.learner import build_learner
from vwmm.engine.training.step_reduction import StepResult
from vwmm.engine.training.train_loop import train_one_epoch
from vwmm.models.fusion import FusionModel, build_model

SETTINGS = [
    "modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "modalities.ct.size=[32,32]",
    "model.backbone=densenet_thin", "model.hidden=[8]", "model.dropout=0",
    "train.optimizer=sgd", "train.momentum=0", "train.lr=0.5",
]  # fmt: skip
CLASSES = 3
# The third micro-batch is ragged, and the second one has no CT at all.
MICRO_BATCHES = [[3, 0], [1, 4], [2, 5, 6]]
MISSING = {(0, "mri"), (1, "ct"), (4, "ct"), (6, "vw_mri")}
CLASS_WEIGHTS = [1.0, 2.0, 0.5]


@dataclass(frozen=True)
class Outcome:
    """What a step came to."""

    loss: float
    grad_norm: float
    state: dict[str, torch.Tensor]
    """Weights and running statistics after it."""


def config_of(*overrides: str) -> Config:
    """The configuration of the tests, with some keys changed."""
    return load_config([], [*SETTINGS, f"train.class_weights={CLASS_WEIGHTS}", *overrides])


def make_dataset(folder: Path, *, missing: bool = True) -> CaseDataset:
    """Seven cases with random images, as the cache keeps them."""
    config = config_of(f"cache.dir={folder}")
    generator, store = np.random.default_rng(0), Store(config.cache)
    cases, entries = [], {}
    for number in range(7):
        has = [name for name in config.modalities if not (missing and (number, name) in MISSING)]
        for name in config.modalities:
            array = generator.random((1, *config.modalities[name].size), dtype=np.float32)
            if name in has:
                recipe = store.recipe(config.modalities[name])
                key = recipe.key(f"{number} {name}")
                write_entry(store.path(key), array, key=key, dtype=recipe.dtype)
                entries[str(number), name] = Entry("", key, store.path(key), folder, was_built=True)
        images = {name: folder if name in has else None for name in config.modalities}
        cases.append(Case(str(number), str(number), str(number % CLASSES), images, line=number + 2))
    return CaseDataset(cases, config.modalities, entries, [number % CLASSES for number in range(7)], store)


def by_vwmm(
    runtime: Runtime,
    config: Config,
    dataset: CaseDataset,
    plan: Sequence[list[list[int]]],
    dtype: torch.dtype = torch.float32,
) -> Outcome:
    """By the training loop; called by all ranks."""
    model = build_model(config.model, config.modalities, CLASSES, seed=0).to(dtype)
    learner = build_learner(runtime, model, config.train, config.modalities, dataset, CLASSES)
    results: list[StepResult] = []
    learner.strategy.set_lr(config.train.lr)

    def augment(batch: Batch) -> dict[str, torch.Tensor]:
        return {name: image.to(dtype) for name, image in batch.images.items()}

    epoch = Epoch(
        dataset, plan, present=dataset.present(), augment=augment, first_step=1, seed=0,
        rank=runtime.rank, num_processes=runtime.num_processes, dummies=learner.strategy.dummies,
        at_once=learner.at_once,
    )  # fmt: skip
    train_one_epoch(runtime, learner, epoch, set_rate=lambda step: config.train.lr, after_step=results.append)
    learner.batch_norm.all_reduce()
    learner.strategy.gather_full_weights()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Outcome(results[-1].loss, results[-1].grad_norm, state)


def by_torch(
    config: Config,
    dataset: CaseDataset,
    plan: Sequence[list[list[int]]],
    *,
    bf16: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Outcome:
    """By a loop as a textbook has it."""
    model = build_model(config.model, config.modalities, CLASSES, seed=0).to(dtype).train()
    weights = torch.tensor(config.train.class_weights)
    kind: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.train.optimizer]
    optimizer = kind(model.parameters(), lr=config.train.lr)
    for micro_batches in plan:
        labels = torch.tensor(dataset.labels)
        total = weights[labels[[index for cases in micro_batches for index in cases]]].sum()
        losses = []
        for cases in micro_batches:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logits = logits_by_torch(model, dataset, cases, dtype).float()
            loss = functional.cross_entropy(
                logits, labels[cases], weight=weights, reduction="sum", label_smoothing=config.train.label_smoothing
            )
            loss = loss / total
            loss.backward()
            losses.append(loss.item())
        limit = config.train.max_grad_norm or float("inf")
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item()
        optimizer.step()
        optimizer.zero_grad()
    return Outcome(sum(losses), grad_norm, model.state_dict())


def logits_by_torch(model: FusionModel, dataset: CaseDataset, cases: list[int], dtype: torch.dtype) -> torch.Tensor:
    """(B, K): each branch sees the images that are there; a learned vector stands for a missing one."""
    features = []
    for name in model.names:
        images = {row: dataset.image(index, name) for row, index in enumerate(cases)}
        found = {row: torch.from_numpy(image.copy()).to(dtype) for row, image in images.items() if image is not None}
        rows = [model.missing[name]] * len(cases)
        if found:
            computed = model.branches[name](torch.stack(list(found.values()))).to(dtype)
            for row, vector in zip(found, computed, strict=True):
                rows[row] = vector
        features.append(torch.stack(rows))
    hidden = torch.cat(features, dim=1)  # (B, M * F)
    layers: Any = model.head.layers
    for layer in layers:
        hidden = torch.relu(functional.linear(hidden, layer.weight, layer.bias))
    out: Any = model.head.out
    return functional.linear(hidden, out.weight, out.bias)


def with_strategy(runtime: Runtime, **choice: Any) -> Runtime:
    """The same processes, with another strategy."""
    return replace(runtime, strategy=replace(runtime.strategy, **choice))
