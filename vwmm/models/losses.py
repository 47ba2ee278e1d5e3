"""Cross-entropy over a global batch that several processes compute in parts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from vwmm.config.errors import UserError


def class_weights(setting: str | list[float] | None, labels: Sequence[int], num_classes: int) -> list[float] | None:
    """Weights of the classes: those given, or N / (K * N_class) for `balanced` (scikit-learn's formula)."""
    if setting is None:
        return None
    if isinstance(setting, list):
        if len(setting) != num_classes:
            raise UserError(f"train.class_weights has {len(setting)} numbers, but there are {num_classes} classes")
        return setting
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() == 0:
        raise UserError("train.class_weights=balanced: a class has no training case, so its weight would be infinite")
    return [float(len(labels) / (num_classes * count)) for count in counts]


def batch_weight(labels: Sequence[int], weights: Sequence[float] | None) -> float:
    """The sum of the weights of a global batch: what its summed loss is divided by."""
    return float(len(labels)) if weights is None else float(sum(weights[label] for label in labels))


def summed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, label_smoothing: float
) -> torch.Tensor:
    """The weighted sum over the cases; logits (B, K), labels (B,) int64, weights (K,) or None.

    Divided by `batch_weight` of the whole batch it is what `torch.nn.CrossEntropyLoss` gives for that batch.
    """
    return functional.cross_entropy(
        logits.float(), labels, weight=weights, label_smoothing=label_smoothing, reduction="sum"
    )
