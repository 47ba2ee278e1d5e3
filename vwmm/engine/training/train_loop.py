"""The training step and the prediction loop."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.data.loading.sampling import evaluation_batches, slots_of
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.strategies.data_parallel import Engine
from vwmm.engine.training.batch_norm import RunningStatistics
from vwmm.models.losses import batch_weight, summed_cross_entropy
from vwmm.system.signals import STOP

NO_SLOT = -1
_DROPOUT = 2  # keeps dropout's draws apart from others that use the same seed


@dataclass(frozen=True)
class Learner:
    """What is trained, and with what."""

    engine: Engine
    """Keeps the weights and changes them."""
    statistics: RunningStatistics
    """Batch norm's running statistics."""
    weights: list[float] | None
    """Weights of the classes."""
    case_weights: np.ndarray | None
    """(N,) weights of the cases trained on."""
    label_smoothing: float
    """Share of each label that is spread over all classes."""
    seed: int
    """Key of dropout."""
    exact: bool = False
    """Whether the sum of the gradients is independent of the process: then one without a slot needs no empty one."""


@dataclass(frozen=True)
class StepResult:
    """What all processes know of a step."""

    step: int
    """Its number, from 1."""
    slots: list[list[int]]
    """Its cases."""
    rate: float
    """Its learning rate."""
    losses: list[float]
    """Of each slot: its part of the step's loss."""
    grad_norm: float
    """L2 norm of the gradient, before it is cut to `max_grad_norm`."""
    is_good: bool
    """Whether loss and gradient are finite numbers; if not, nothing was changed."""
    should_stop: bool
    """Whether any process was asked to stop."""
    should_save: bool
    """Whether the main process finds that it is time for a checkpoint."""

    @property
    def loss(self) -> float:
        """The mean loss of its cases, added up in the order of the slots."""
        return sum(self.losses)

    def values(self) -> dict[str, Any]:
        """Its values for metrics.jsonl, without non-finite ones."""
        return {
            "loss": self.loss if self.is_good else None,
            "grad_norm": self.grad_norm if math.isfinite(self.grad_norm) else None,
        }

    @property
    def num_cases(self) -> int:
        """How many cases it has."""
        return sum(map(len, self.slots))


class Agreement:
    """The losses of a step's slots and the requests of any process, summed over the processes while they compute."""

    def __init__(self, runtime: Runtime, num_slots: int, *, wants_save: bool) -> None:
        self._shared = torch.zeros(num_slots + 2, device=runtime.device)
        self.losses = self._shared[:num_slots]
        """(S,) of each slot of this process its part of the step's loss; zero for the others'."""
        self._is_shared = runtime.num_processes > 1
        self._wants_save = wants_save
        self._work: dist.Work | None = None

    def begin(self) -> None:
        """All of this process's losses are known; STOP is asked now, by all of them at the same point of the step."""
        if STOP.is_asked:
            self._shared[-2] = 1
        if self._wants_save:
            self._shared[-1] = 1
        if self._is_shared:
            self._work = dist.all_reduce(self._shared, async_op=True)

    def end(self) -> torch.Tensor:
        """(S + 2,) the sum: each loss, how many were asked to stop, how many want a checkpoint."""
        if self._work is not None:
            self._work.wait()
        return self._shared


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
    after_step: Callable[[StepResult], None],
    is_time_to_save: Callable[[], bool] = lambda: False,
    num_workers: int = 1,
) -> None:
    """One pass over the training cases, or a part of one; each process keeps its part of batch norm's statistics.

    steps: the epoch's plan (see data/loading/sampling.py). present: (N, M) bool, which images of each case are used in
    the epoch. augment: gives a batch's images, changed at random. first_step: number of the first update. set_rate:
    sets and returns a step's learning rate. after_step: receives the result of each step; may raise StoppedEarly.
    """
    mine = [slots_of(len(slots), process=runtime.process, num_processes=runtime.num_processes) for slots in steps]
    wanted = [slots[number] for slots, numbers in zip(steps, mine, strict=True) for number in numbers]
    batches = load_batches(dataset, wanted, runtime.device, num_threads=num_workers)
    watch, engine = runtime.watch, learner.engine
    engine.train()
    try:
        for step, (slots, numbers) in enumerate(zip(steps, mine, strict=True), first_step):
            rate = set_rate(step)
            agreement = Agreement(runtime, len(slots), wants_save=is_time_to_save())
            _compute(runtime, learner, dataset, batches, step, slots, numbers, present, augment, agreement)
            watch.at("reduce", step=step, waits=True)
            engine.finish(len(slots))
            result = _agree(runtime, engine, step, slots, rate, agreement)
            watch.at("update", step=step)
            engine.update(is_good=result.is_good)
            if result.is_good:
                learner.statistics.end_step()
            else:
                learner.statistics.go_back()
            watch.at("step", step=step)
            after_step(result)
    finally:
        batches.close()


def _compute(
    runtime: Runtime,
    learner: Learner,
    dataset: CaseDataset,
    batches: Iterator[Batch],
    step: int,
    slots: list[list[int]],
    numbers: list[int],
    present: np.ndarray,
    augment: Callable[[Batch], dict[str, torch.Tensor]],
    agreement: Agreement,
) -> None:
    """Forward and backward of this process's slots of a step; its losses are agreed on while the last one computes."""
    watch, statistics, engine = runtime.watch, learner.statistics, learner.engine
    cases = [index for slot in slots for index in slot]
    of_cases = None if learner.case_weights is None else learner.case_weights[cases]
    divisor = batch_weight([dataset.labels[index] for index in cases], learner.weights, of_cases)
    statistics.begin_step([_num_images(present, slot) for slot in slots])
    # With fewer slots than processes (a ragged last batch) an empty one takes part in the reduction.
    own = numbers or ([] if learner.exact else [NO_SLOT])
    waiting = list(range(len(slots)))
    for number in own:
        while number != NO_SLOT and (other := waiting.pop(0)) != number:
            statistics.pass_over(other)
        watch.at("read", step=step)
        batch = _empty(dataset, runtime.device) if number == NO_SLOT else next(batches)
        batch = replace(batch, images=augment(batch))
        is_last = number == own[-1]
        if number != NO_SLOT:
            statistics.begin_slot()
        with engine.slot(is_last=is_last):
            loss = _forward(learner, batch, present, divisor, _key(learner.seed, step, max(number, 0)), runtime.device)
            if watch.at("forward", step=step):
                loss = loss * torch.nan
            if number != NO_SLOT:
                agreement.losses[number] = loss.detach()
            if is_last:
                agreement.begin()
            if watch.at("backward", step=step, waits=is_last and runtime.num_processes > 1):
                loss = loss * torch.nan
            engine.backward(loss)
        if number != NO_SLOT:
            statistics.end_slot(number)
            engine.end_slot()
    for other in waiting:
        statistics.pass_over(other)
    if not own:
        agreement.begin()


def _forward(
    learner: Learner, batch: Batch, present: np.ndarray, divisor: float, key: int, device: torch.device
) -> torch.Tensor:
    """A slot's part of the step's loss."""
    mask = torch.from_numpy(present[batch.indices.numpy()]).to(device, non_blocking=True)
    weights = None if learner.weights is None else torch.tensor(learner.weights, device=device)
    of_cases = None
    if learner.case_weights is not None:
        of_cases = torch.from_numpy(learner.case_weights[batch.indices.numpy()]).to(device, non_blocking=True)
    logits = learner.engine.forward(batch.images, mask, key)
    return summed_cross_entropy(logits, batch.labels, weights, learner.label_smoothing, of_cases) / divisor


def _agree(
    runtime: Runtime, engine: Engine, step: int, slots: list[list[int]], rate: float, agreement: Agreement
) -> StepResult:
    """What all processes know of a step before anything is changed: the one synchronisation."""
    norm = engine.grad_norm()
    *parts, num_stop, num_save, grad_norm = torch.cat([agreement.end(), norm[None]]).tolist()
    # A scaled gradient that overflows is fp16's daily business, which its scaler sees to.
    is_finite = runtime.accelerator.scaler is not None or math.isfinite(grad_norm)
    return StepResult(
        step=step,
        slots=slots,
        rate=rate,
        losses=parts,
        grad_norm=grad_norm,
        is_good=is_finite and all(map(math.isfinite, parts)),
        should_stop=num_stop > 0,
        should_save=num_save > 0,
    )


def predict_all(
    runtime: Runtime,
    model: nn.Module,
    dataset: CaseDataset,
    num_classes: int,
    *,
    batch_size: int,
    each_alone: bool = False,
    each: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Logits (N, K) float32 of every case, the same bits for any number of processes.

    each_alone: (N, 1 + M, K), beside those of all modalities those of each alone.

    Batches are fixed in size (the last is filled up by repeating a case), so that a case's logits do not depend on
    which others it is computed with. On a CPU each batch is computed by one thread, several at a time: the number of
    threads in a convolution changes its rounding. Raises StoppedEarly on all processes where one was asked to stop.
    """
    batches = evaluation_batches(len(dataset), batch_size)
    mine = batches[runtime.process :: runtime.num_processes]
    shape = (len(dataset), 1 + len(dataset.modalities), num_classes) if each_alone else (len(dataset), num_classes)
    logits = torch.zeros(shape, dtype=torch.float32, device=runtime.device)
    network = model.eval()
    done = 0
    parts = _run_batches(runtime, network, dataset, mine, each_alone=each_alone)
    for indices, part in zip(mine, parts, strict=True):
        logits[indices] = part.float().to(runtime.device)
        done += len(set(indices))
        runtime.watch.at("validate")
        if STOP.is_asked:
            break  # what the others have done is thrown away, too
        if each is not None:
            each(done, len(dataset) // runtime.num_processes)
    parts.close()
    runtime.stop_if_asked()
    runtime.watch.at("wait", waits=True)
    gathered: torch.Tensor = runtime.accelerator.reduce(logits, reduction="sum")  # each row has one owner
    return gathered.cpu().numpy()


def _run_batches(
    runtime: Runtime, network: nn.Module, dataset: CaseDataset, batches: Sequence[list[int]], *, each_alone: bool
) -> Generator[torch.Tensor, None, None]:
    def run(batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = network(batch.images, batch.present, each_alone=each_alone)
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


def _num_images(present: np.ndarray, slot: list[int]) -> list[int]:
    """For each branch, how many images the slot has for it."""
    numbers: list[int] = present[slot].sum(axis=0).tolist()
    return numbers


def _empty(dataset: CaseDataset, device: torch.device) -> Batch:
    return dataset.empty(0).to(device).cast()


def _key(seed: int, step: int, slot: int) -> int:
    """A 64-bit seed for dropout, from what identifies the slot."""
    return int(np.random.SeedSequence((_DROPOUT, seed, step, slot)).generate_state(1, np.uint64)[0] >> 1)
