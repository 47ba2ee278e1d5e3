"""Claim: vwmm's training loop costs no more than a bare loop of torch around the same model.

Both sides train the same thin tri-modal model on the same images in memory, one thread, in turns; the ratio is that of
the medians. The bare loop has what any loop needs: batch, forward, loss, backward, step; no progress, no log, no keyed
dropout, no running statistics of its own.

    python benchmarks/training_loop.py [--rounds 15]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vwmm.config.loading import load_config
from vwmm.data.cache.entry import write_entry
from vwmm.data.cache.store import Entry, Store
from vwmm.data.cohort.cases import Case
from vwmm.data.loading.dataset import CaseDataset
from vwmm.data.loading.sampling import plan_epoch
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.strategies.data_parallel import DataParallel
from vwmm.engine.training.batch_norm import RunningStatistics
from vwmm.engine.training.epoch import Epoch
from vwmm.engine.training.learner import Learner
from vwmm.engine.training.train_loop import train_one_epoch
from vwmm.models.fusion import build_model
from vwmm.models.losses import WeightedCrossEntropy

OVERRIDES = [
    "modalities.vw_mri.size=[32,32,32]",
    "modalities.mri.size=[32,32]",
    "modalities.ct.size=[32,32]",
    "model.backbone=densenet_thin",
    "model.hidden=[64]",
    "train.batch_size=8",
    "train.micro_batch_size=4",
]
NUM_CASES = 64


def make_dataset(folder: Path, overrides: list[str], num_cases: int) -> CaseDataset:
    """Random images, as the store keeps them."""
    config, generator = load_config([], [*overrides, f"cache.dir={folder}"]), np.random.default_rng(0)
    store, cases, entries = Store(config.cache), [], {}
    for number in range(num_cases):
        for name, modality in config.modalities.items():
            recipe = store.recipe(modality)
            key = recipe.key(f"{number} {name}")
            array = generator.random((1, *modality.size), dtype=np.float32)
            write_entry(store.path(key), array, key=key, dtype=recipe.dtype)
            entries[str(number), name] = Entry("", key, store.path(key), folder, was_built=True)
        images = dict.fromkeys(config.modalities, folder)
        cases.append(Case(str(number), str(number), str(number % 3), images, line=number + 2))
    return CaseDataset(cases, config.modalities, entries, [number % 3 for number in range(num_cases)], store)


def measure(overrides: list[str], num_cases: int, rounds: int) -> None:
    """Prints cases a second of both loops and their ratio."""
    config = load_config([], overrides)
    train = config.train
    runtime = start_runtime(train)
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), overrides, num_cases)
        steps = plan_epoch(num_cases, train.batch_size, train.micro_batch_size, seed=0, epoch=1)
        model = build_model(config.model, config.modalities, 3, seed=0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        prepared, prepared_optimizer = runtime.accelerator.prepare(model, optimizer)
        learner = Learner(
            DataParallel(runtime, model, prepared, prepared_optimizer, max_grad_norm=None),
            RunningStatistics(dict(model.branches.items()), runtime.accelerator),
            WeightedCrossEntropy(dataset.labels),
            at_once=1,  # the bare loop has no micro-batches
        )

        def ours() -> None:
            epoch = Epoch(
                dataset,
                steps,
                present=dataset.present(),
                augment=lambda batch: batch.images,  # its cost has a benchmark of its own
                first_step=1,
                seed=0,
            )
            train_one_epoch(runtime, learner, epoch, set_rate=lambda step: 1e-4, after_step=lambda _: None)

        def bare() -> None:
            loss_of = torch.nn.CrossEntropyLoss()
            prepared.train()
            for micro_batches in steps:
                for cases in micro_batches:
                    batch = dataset[cases].to(runtime.device).cast()
                    loss = loss_of(prepared(batch.images, batch.present), batch.labels) * len(cases) / train.batch_size
                    runtime.accelerator.backward(loss)
                prepared_optimizer.step()
                prepared_optimizer.zero_grad()

        times = take_turns({"vwmm": ours, "bare": bare}, rounds)
    report(times, num_cases, f"{runtime.device}, precision {runtime.mixed_precision}")


def take_turns(sides: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round, the sides taking turns; the first round is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def report(times: dict[str, list[float]], num_cases: int, what: str) -> None:
    """Prints the medians and the ratio."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:5} {num_cases / seconds:8.1f} cases/s  (median of {len(times[name])}; {what})")
    print(f"ratio vwmm / bare time: {medians['vwmm'] / medians['bare']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    measure(OVERRIDES, NUM_CASES, parser.parse_args().rounds)
