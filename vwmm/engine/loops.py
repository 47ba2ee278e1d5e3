"""The two loops: one epoch of training, and predictions for a list of cases."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from vwmm.data.batches import load_batches
from vwmm.data.dataset import Batch, CaseDataset
from vwmm.data.order import evaluation_batches, slots_of
from vwmm.engine.batch_norm import RunningStatistics
from vwmm.engine.runtime import Runtime
from vwmm.models.losses import batch_weight, summed_cross_entropy

NO_SLOT = -1
_DROPOUT = 2  # keeps dropout's draws apart from others that use the same seed


@dataclass(frozen=True)
class Learner:
    """What is trained, and with what."""

    model: nn.Module
    """As prepared by Accelerate."""
    optimizer: torch.optim.Optimizer
    """As prepared by Accelerate."""
    statistics: RunningStatistics
    """Batch norm's running statistics."""
    weights: list[float] | None
    """Weights of the classes."""
    label_smoothing: float
    """Share of each label that is spread over all classes."""
    max_grad_norm: float | None
    """Bound of the gradients' norm."""
    seed: int
    """Key of dropout."""


def train_one_epoch(
    runtime: Runtime,
    learner: Learner,
    dataset: CaseDataset,
    steps: Sequence[list[list[int]]],
    *,
    present: np.ndarray,
    augment: Callable[[Batch], dict[str, torch.Tensor]],
    first_step: int,
    set_rate: Callable[[int], float],
    after_step: Callable[[int, torch.Tensor, float, int], None],
    num_workers: int = 1,
) -> None:
    """One pass over the training cases.

    steps: the epoch's plan (see data/order.py). present: (N, M) bool, which images of each case are used in this epoch.
    augment: gives a batch's images, changed at random. first_step: number of the first update. set_rate: sets and
    returns a step's learning rate. after_step: told the step, this process's part of its loss (on the device), the rate
    and the number of cases.
    """
    mine = [slots_of(len(slots), process=runtime.process, num_processes=runtime.num_processes) for slots in steps]
    wanted = [slots[number] for slots, numbers in zip(steps, mine, strict=True) for number in numbers]
    batches = load_batches(dataset, wanted, runtime.device, num_threads=num_workers)
    learner.model.train()
    learner.statistics.begin()
    for step, (slots, numbers) in enumerate(zip(steps, mine, strict=True), first_step):
        rate = set_rate(step)
        labels = [dataset.labels[index] for slot in slots for index in slot]
        divisor = batch_weight(labels, learner.weights)
        loss = torch.zeros((), device=runtime.device)
        waiting = list(range(len(slots)))
        # With fewer slots than processes (a ragged last batch) an empty one takes part in the reduction.
        for number in numbers or [NO_SLOT]:
            while number != NO_SLOT and (other := waiting.pop(0)) != number:
                learner.statistics.pass_over(_has_images(present, slots[other]))
            batch = _empty(dataset, runtime.device) if number == NO_SLOT else next(batches)
            batch = replace(batch, images=augment(batch))
            is_last = number == (numbers or [NO_SLOT])[-1]
            key = _key(learner.seed, step, max(number, 0))
            loss += _accumulate(runtime, learner, batch, present, divisor, key, synchronize=is_last)
        for other in waiting:
            learner.statistics.pass_over(_has_images(present, slots[other]))
        if learner.max_grad_norm is not None:
            runtime.accelerator.clip_grad_norm_(learner.model.parameters(), learner.max_grad_norm)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        after_step(step, loss, rate, len(labels))
    learner.statistics.bring_together()


def _accumulate(
    runtime: Runtime,
    learner: Learner,
    batch: Batch,
    present: np.ndarray,
    divisor: float,
    key: int,
    *,
    synchronize: bool,
) -> torch.Tensor:
    """Forward and backward of one slot; returns its part of the step's loss. Gradients are summed over the processes
    with the last slot of each only."""
    mask = torch.from_numpy(present[batch.indices.numpy()]).to(runtime.device, non_blocking=True)
    weights = None if learner.weights is None else torch.tensor(learner.weights, device=runtime.device)
    with nullcontext() if synchronize else runtime.accelerator.no_sync(learner.model):
        logits = learner.model(batch.images, mask, dropout_seed=key)
        loss = summed_cross_entropy(logits, batch.labels, weights, learner.label_smoothing) / divisor
        runtime.accelerator.backward(loss)
    return loss.detach()


def predict_all(
    runtime: Runtime,
    model: nn.Module,
    dataset: CaseDataset,
    num_classes: int,
    *,
    batch_size: int,
    each: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Logits (N, K) float32 of every case, the same bits for any number of processes.

    Batches are fixed in size (the last is filled up by repeating a case), so that a case's logits do not depend on
    which others it is computed with. On a CPU each batch is computed by one thread, several at a time: the number of
    threads in a convolution changes its rounding.
    """
    batches = evaluation_batches(len(dataset), batch_size)
    mine = batches[runtime.process :: runtime.num_processes]
    logits = torch.zeros((len(dataset), num_classes), dtype=torch.float32, device=runtime.device)
    network = runtime.accelerator.unwrap_model(model)
    network.eval()
    done = 0
    for indices, part in zip(mine, _run_batches(runtime, network, dataset, mine), strict=True):
        logits[indices] = part.float().to(runtime.device)
        done += len(set(indices))
        if each is not None:
            each(done, len(dataset) // runtime.num_processes)
    gathered: torch.Tensor = runtime.accelerator.reduce(logits, reduction="sum")  # each row has one owner
    return gathered.cpu().numpy()


def _run_batches(
    runtime: Runtime, network: nn.Module, dataset: CaseDataset, batches: Sequence[list[int]]
) -> Iterator[torch.Tensor]:
    def run(batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = network(batch.images, batch.present)
        return logits

    if runtime.device.type != "cpu":
        yield from map(run, load_batches(dataset, batches, runtime.device))
        return
    num_threads = torch.get_num_threads()
    # Accelerate's autocast context is one object for all calls: not for several threads.
    workers = runtime.num_cores if runtime.mixed_precision == "no" else 1
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(lambda indices: run(dataset[indices].cast()), batches)
    finally:
        torch.set_num_threads(num_threads)


def _has_images(present: np.ndarray, slot: list[int]) -> list[bool]:
    """For each branch, whether the slot has any image for it."""
    flags: list[bool] = np.any(present[slot], axis=0).tolist()
    return flags


def _empty(dataset: CaseDataset, device: torch.device) -> Batch:
    return dataset.empty(0).to(device).cast()


def _key(seed: int, step: int, slot: int) -> int:
    """A 64-bit seed for dropout, from what identifies the slot."""
    return int(np.random.SeedSequence((_DROPOUT, seed, step, slot)).generate_state(1, np.uint64)[0] >> 1)
