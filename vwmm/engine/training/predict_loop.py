"""The prediction loop: logits of every case, the same bits for any number of processes."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.data.loading.sampling import evaluation_batches
from vwmm.engine.distributed.runtime import Runtime
from vwmm.system.signals import STOP


def predict_all(
    runtime: Runtime,
    model: nn.Module,
    dataset: CaseDataset,
    num_classes: int,
    *,
    batch_size: int,
    visible: Sequence[Sequence[bool]] = (),
    each: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Logits (N, K) float32 of every case, the same bits for any number of processes.

    visible: V sets of the modalities; the result is (N, V, K), for each set as if the others were missing.

    Batches are fixed in size (the last is filled up by repeating a case), so that a case's logits do not depend on
    which others it is computed with. On a CPU each batch is computed by one thread, several at a time: the number of
    threads in a convolution changes its rounding. Raises StoppedEarly on all processes where one was asked to stop.
    """
    batches = evaluation_batches(len(dataset), batch_size)
    mine = batches[runtime.rank :: runtime.num_processes]
    shape = (len(dataset), len(visible), num_classes) if visible else (len(dataset), num_classes)
    logits = torch.zeros(shape, dtype=torch.float32, device=runtime.device)
    network = model.eval()
    done = 0
    parts = _run_batches(runtime, network, dataset, mine, visible)
    for indices, part in zip(mine, parts, strict=True):
        where = torch.tensor(indices).to(runtime.device, non_blocking=True)
        logits.index_copy_(0, where, part.float().to(runtime.device))
        done += len(set(indices))
        runtime.watchdog.enter_phase("validate")
        if STOP.is_asked:
            break  # what the others have done is thrown away, too
        if each is not None:
            each(done, len(dataset) // runtime.num_processes)
    parts.close()
    runtime.stop_if_asked()
    runtime.watchdog.enter_phase("wait", waits=True)
    gathered: torch.Tensor = runtime.accelerator.reduce(logits, reduction="sum")  # each row has one owner
    return gathered.cpu().numpy()


def _run_batches(
    runtime: Runtime,
    network: nn.Module,
    dataset: CaseDataset,
    batches: Sequence[list[int]],
    visible: Sequence[Sequence[bool]],
) -> Generator[torch.Tensor, None, None]:
    def run(batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = network(batch.images, batch.present, visible=visible)
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
