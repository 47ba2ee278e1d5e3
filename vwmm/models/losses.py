"""Cross-entropy of a global batch that several ranks compute in parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from vwmm.system.errors import UserError


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


def pattern_weights(setting: str | None, present: np.ndarray) -> np.ndarray | None:
    """(N,) float32 weights of cases by their row of `present` (N, M): N / (P * N_pattern), as for classes, or None."""
    if setting is None:
        return None
    _, pattern, counts = np.unique(present, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(len(present) / (len(counts) * counts[pattern.reshape(-1)]), dtype=np.float32)


def batch_weight(labels: Sequence[int], weights: Sequence[float] | None, of_cases: np.ndarray | None = None) -> float:
    """The sum of the weights of a global batch: what its summed loss is divided by.

    weights: of the classes. of_cases: of each of the batch's cases, with which those of the classes are multiplied.
    """
    if of_cases is None:
        return float(len(labels)) if weights is None else float(sum(weights[label] for label in labels))
    of_labels = [1.0 if weights is None else weights[label] for label in labels]
    return float(sum(a * float(b) for a, b in zip(of_labels, of_cases, strict=True)))


def summed_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
    label_smoothing: float,
    of_cases: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weighted sum over the cases; logits (B, K), labels (B,) int64, weights (K,) or None, of_cases (B,) or None.

    Divided by `batch_weight` of the whole batch it is what `torch.nn.CrossEntropyLoss` gives for that batch.
    """
    how = "sum" if of_cases is None else "none"
    found = functional.cross_entropy(
        logits.float(), labels, weight=weights, label_smoothing=label_smoothing, reduction=how
    )
    return found if of_cases is None else (found * of_cases).sum()


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """Cross-entropy summed over each micro-batch; the training loop divides it by `total_weight`."""

    labels: Sequence[int]
    """(N,) classes of all training cases."""
    class_weights: list[float] | None = None
    """(K,) weights of the classes."""
    case_weights: np.ndarray | None = None
    """(N,) float32 weights of the cases."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""

    def total_weight(self, cases: Sequence[int]) -> float:
        """The sum of the weights of a batch, given by the indices of its cases."""
        of_cases = None if self.case_weights is None else self.case_weights[list(cases)]
        return batch_weight([self.labels[index] for index in cases], self.class_weights, of_cases)

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor, sizes: Sequence[int]
    ) -> torch.Tensor:
        """(G,) weighted sums over micro-batches of so many cases, a single zero if there is none.

        logits (B, K), labels (B,) int64, indices (B,) int64 on the CPU.
        """
        parts = (tensor.split(list(sizes) or [0]) for tensor in (logits, labels, indices))
        return torch.stack([self._sum(*part) for part in zip(*parts, strict=True)])

    def _sum(self, logits: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        device = logits.device
        weights = None if self.class_weights is None else torch.tensor(self.class_weights).to(device, non_blocking=True)
        of_cases = None
        if self.case_weights is not None:
            of_cases = torch.from_numpy(self.case_weights[indices.numpy()]).to(device, non_blocking=True)
        return summed_cross_entropy(logits, labels, weights, self.label_smoothing, of_cases)
