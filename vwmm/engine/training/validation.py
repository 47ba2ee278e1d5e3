"""Validation predictions, model selection, the line of an epoch."""

from typing import Any

import numpy as np
import torch

from vwmm.analysis.statistics.intervals import accuracy_interval
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.shapley import subsets
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.console import ProgressBar
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.training.predict_loop import predict_all
from vwmm.system.errors import RunError


def predict_cases(
    runtime: Runtime,
    model: torch.nn.Module,
    dataset: CaseDataset,
    classes: tuple[str, ...],
    *,
    batch_size: int,
    with_subsets: bool = False,
    title: str = "validation",
) -> Predictions:
    """The predictions table of a dataset, the same on every process.

    with_subsets: also as if only some of the images were there, for every choice of them (`statistics/shapley.py`).
    """
    share = -(-len(dataset) // runtime.num_processes)
    visible = subsets(len(dataset.modalities)) if with_subsets else []
    with ProgressBar(title, share, "case", is_main_process=runtime.is_main_process) as bar:
        logits = predict_all(runtime, model, dataset, len(classes), batch_size=batch_size, visible=visible, each=bar.to)
    return Predictions(
        cases=[case.name for case in dataset.cases],
        patients=[case.patient for case in dataset.cases],
        labels=np.array(dataset.labels, dtype=np.int64),
        logits=logits[:, -1] if visible else logits,
        present=dataset.present(),
        classes=classes,
        modalities=list(dataset.modalities),
        of_subsets=logits if visible else None,
        extra=[case.extra for case in dataset.cases],
    )


def check_finite(predictions: Predictions) -> None:
    """Raises RunError, on every rank, where the model's output for a case is NaN or infinite."""
    wrong = [
        name for name, row in zip(predictions.cases, predictions.logits, strict=True) if not np.isfinite(row).all()
    ]
    if not wrong:
        return
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    raise RunError(
        f"the model's output is not finite for {len(wrong)} of {len(predictions.cases)} validation cases "
        f"({', '.join(wrong[:5])}{more}). If these are all, the weights have grown beyond measure: a smaller train.lr, "
        "train.max_grad_norm=1 or train.mixed_precision=no may help. Else `vwmm check` looks at their images"
    )


def describe_epoch(
    record: dict[str, Any], epochs: int, predictions: Predictions, *, left: str = "", is_best: bool = False
) -> str:
    """One line for people, of at most 100 columns; the interval is over patients.

    left: the time that the run still takes. is_best: whether this epoch's checkpoint is the best so far.
    """
    correct = predictions.predicted == predictions.labels
    interval = accuracy_interval(correct, np.array(predictions.patients))
    auroc = "-" if record["auroc"] is None else f"{record['auroc']:.3f}"
    bounds = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    number = f"{record['epoch']:>{len(str(epochs))}}"
    texts = [
        f"epoch {number}/{epochs}",
        f"loss {record['train_loss']:.4f}, val {record['loss']:.4f}",
        f"accuracy {record['accuracy']:.3f}{bounds}",
        f"AUROC {auroc}",
        *([f"{left} left"] if left else []),
        *(["best"] if is_best else []),
    ]
    return "  ".join(texts)
