"""Claim: what makes a run impossible to lose costs at most 2 % of a step at the default settings.

One side is vwmm's training as a run does it: every step agreed on before anything is changed, gradients and losses
looked at, places noted for the watch, metrics written, stops and checkpoints asked for. The other is a bare loop over
the same micro-batches with the same augmentation and dropout. Both train the same thin model in turns, on one process
and on two; the ratio is that of the medians. Then: how long training waits for a checkpoint, and for a step's snapshot.

    python benchmarks/resume.py [--rounds 9] [--full]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import training_loop
from benchmarks.training_loop import make_dataset, take_turns
from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.data.augmentation.augment import augmentation
from vwmm.data.loading.sampling import plan_epoch
from vwmm.engine.checkpoints.state import copy_state
from vwmm.engine.distributed.runtime import Runtime, start_runtime
from vwmm.engine.training.epoch import Epoch
from vwmm.engine.training.trainer import Datasets, Trainer

ROOT = Path(__file__).resolve().parents[1]
OVERRIDES = [*training_loop.OVERRIDES, "model.dropout=0.2", "train.micro_batch_size=2", "train.epochs=1000"]
NUM_CASES = 160
# The default model and images: a step of 4 cases takes seconds on a CPU.
FULL = ["train.batch_size=4", "train.micro_batch_size=2", "train.epochs=1000"]
NUM_FULL_CASES = 8


def make_trainer(folder: Path, runtime: Runtime, overrides: list[str], num_cases: int) -> Trainer:
    """A run in a folder of its own, about to begin."""
    config = load_config([], [*overrides, f"run.dir={folder}"])
    shared = folder / f"cache-{runtime.rank}"
    dataset = make_dataset(shared, overrides, num_cases)
    run = RunFolder(folder / "run")
    run.path.mkdir(exist_ok=True)
    trainer = Trainer(runtime, config, Datasets(dataset, dataset, ("0", "1", "2")), run)
    trainer.checkpointing.resume(None)
    return trainer


def train_bare(trainer: Trainer, number: int) -> None:
    """What any loop needs: batch, augmentation, forward, loss, backward, step."""
    runtime, learner, train = trainer.runtime, trainer.learner, trainer.config.train
    dataset = trainer.datasets.train
    plan = plan_epoch(len(dataset), train.batch_size, train.micro_batch_size, seed=0, epoch=number)
    augment = augmentation(dataset, trainer.config.modalities, trainer.config.augment, seed=0, epoch=number)
    epoch = Epoch(
        dataset, plan, present=dataset.present(), augment=augment, first_step=1, seed=0, rank=runtime.rank,
        num_processes=runtime.num_processes, at_once=learner.at_once,
    )  # fmt: skip
    strategy = learner.strategy
    strategy.train()
    with epoch.batches(runtime.device) as read:
        for step in epoch.steps():
            num_cases = len(step.cases)
            for work in step.passes:
                batch, sizes = read(work), work.micro_batches.sizes
                with strategy.one_pass(is_last=work.is_last):
                    logits = strategy.forward(batch.images, work.micro_batches)
                    strategy.backward(learner.loss(logits, batch.labels, batch.indices, sizes).sum() / num_cases)
            strategy.update(is_finite=True)


def measure(rounds: int, overrides: list[str], num_cases: int) -> None:
    """Both sides in turns, and the time for a checkpoint, on the processes that there are."""
    runtime = start_runtime(load_config([], overrides).train)
    runtime.watchdog.start()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(runtime.broadcast_from_main(lambda: own))
        trainer, epoch = make_trainer(folder, runtime, overrides, num_cases), 0

        def guarded() -> None:
            nonlocal epoch
            epoch += 1
            trainer.progress.step = (epoch - 1) * trainer.steps_per_epoch
            trainer.train_steps(epoch, trainer._after_step)

        times = take_turns({"guarded": guarded, "bare": lambda: train_bare(trainer, epoch)}, rounds)
        if runtime.is_main_process:
            medians = {name: statistics.median(values) / trainer.steps_per_epoch for name, values in times.items()}
            pairs = [a / b for a, b in zip(times["guarded"], times["bare"], strict=True)]
            print(
                f"{runtime.num_processes} process(es): {medians['guarded'] * 1e3:.2f} ms a step, bare "
                f"{medians['bare'] * 1e3:.2f} ms; ratio of the medians {medians['guarded'] / medians['bare']:.4f}, "
                f"median of the ratios {statistics.median(pairs):.4f} (n = {rounds})"
            )
        if runtime.num_processes == 1:
            measure_saving(trainer)
        runtime.wait()
        runtime.watchdog.leave()


def measure_saving(trainer: Trainer) -> None:
    """How long training waits for the copy, for the whole writing if it waited for it, and for a snapshot."""
    saver = trainer.checkpointing._saver
    assert saver is not None
    found: dict[str, list[float]] = {"copy": [], "written": [], "snapshot": []}
    saver.snapshot = Path("/dev/shm") / f"vwmm-benchmark-{os.getpid()}" / "state"  # noqa: S108
    for _ in range(15):
        start = time.perf_counter()
        trainer.checkpointing._save()
        found["copy"].append(time.perf_counter() - start)
        saver.wait()
        found["written"].append(time.perf_counter() - start)
        start = time.perf_counter()
        trainer.checkpointing._keep_in_memory()
        found["snapshot"].append(time.perf_counter() - start)
    saver._forget_snapshot()
    size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(trainer))
    ms = {name: statistics.median(values) * 1e3 for name, values in found.items()}
    print(
        f"a checkpoint of {size / 1e6:.1f} MB: training waits {ms['copy']:.1f} ms, it is on the disk after "
        f"{ms['written']:.1f} ms; a snapshot of a step takes {ms['snapshot']:.1f} ms"
    )


def _tensors(trainer: Trainer) -> list[torch.Tensor]:
    state = copy_state(trainer.model, trainer.progress, {}, optimizer=trainer.learner.strategy.state())
    return [*state.weights.values(), *(state.optimizer or {}).values()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--full", action="store_true", help="the default model and images, on one process: minutes")
    given = parser.parse_args()
    rounds = given.rounds
    if given.full:
        measure(rounds, FULL, NUM_FULL_CASES)
        return
    measure(rounds, OVERRIDES, NUM_CASES)
    if "WORLD_SIZE" not in os.environ:
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
        file = str(ROOT / "launch" / "cpu_two_processes.yaml")
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        script = [str(Path(__file__).resolve()), "--rounds", str(rounds)]
        subprocess.run([*command, file, *script], env=environment, check=True)


if __name__ == "__main__":
    main()
