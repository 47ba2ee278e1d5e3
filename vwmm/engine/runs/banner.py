"""The summary at the start of a run."""

from collections import Counter

import torch

from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.config.split_record import SplitRecord
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.training.pass_size import micro_batches_at_once
from vwmm.engine.training.trainer import Datasets


def describe_run(
    runtime: Runtime,
    config: Config,
    datasets: Datasets,
    split: SplitRecord,
    model: torch.nn.Module,
    run: RunFolder,
) -> str:
    """The banner: what really runs, on what."""
    facts = runtime.describe()
    train = config.train
    processes = "1 process" if runtime.num_processes == 1 else f"{runtime.num_processes} processes"
    backend = f", {facts['backend']}" if facts["backend"] else ""
    engine = f"{runtime.strategy}; " if runtime.num_processes > 1 else ""
    images = [f"{name} {'x'.join(map(str, m.size))}" for name, m in config.modalities.items()]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    at_once = micro_batches_at_once(train, config.modalities, runtime.device)
    missing = _missing(datasets.train) + _missing(datasets.val)
    gaps = ", ".join(f"{name} {missing[name]}" for name in config.modalities if missing[name]) or "none"
    return "\n".join(
        [
            f"run {run.path}",
            f"  processes  {processes} on {', '.join(dict.fromkeys(facts['devices']))}{backend}; "
            f"{engine}precision {'float32' if runtime.mixed_precision == 'no' else runtime.mixed_precision}",
            f"  cohort     {split.counts()}; classes {', '.join(datasets.classes)}",
            f"  split      {split.words()}",
            f"  images     {', '.join(images)}; missing: {gaps}",
            f"  model      {config.model.backbone} per modality, {parameters / 1e6:.2f} M parameters",
            f"  training   {train.epochs} epochs, batch {train.batch_size} in micro-batches of "
            f"{train.micro_batch_size}, {at_once * train.micro_batch_size} cases a pass, "
            f"{train.optimizer} at {train.lr:g}",
        ]
    )


def _missing(dataset: CaseDataset) -> Counter[str]:
    present = dataset.present()
    absent = len(dataset) - present.sum(axis=0)
    return Counter(dict(zip(dataset.modalities, absent.tolist(), strict=True)))
