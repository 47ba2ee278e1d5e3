"""Precision-recall curves and average precision of each class against the rest."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve

from vwmm.analysis.statistics.class_metrics import average_precision, average_precision_limits
from vwmm.analysis.statistics.intervals import Limits
from vwmm.analysis.statistics.metrics import class_ranks


@dataclass(frozen=True)
class PrecisionCurve:
    """The curve of one class against the rest."""

    label: int
    """Index of the class."""
    sensitivity: np.ndarray
    """(T,) float64, rising."""
    precision: np.ndarray
    """(T,) float64: at that sensitivity and until the one before it."""
    share: float
    """Of the cases that are of the class: the precision of guessing."""
    average_precision: float
    """The area below the steps."""
    limits: Limits
    """Its 95 % interval."""


def precision_curves(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> list[PrecisionCurve]:
    """One curve a class; a class that no case or every case has is left out.

    labels: (N,) int64; probabilities: (N, K) float64; patients: (N,). None where a probability is not finite.
    """
    curves = list[PrecisionCurve]()
    if not np.isfinite(probabilities).all():
        return curves
    ranks = class_ranks(probabilities)
    for label in range(probabilities.shape[1]):
        is_class = labels == label
        if not is_class.any() or is_class.all():
            continue
        precision, sensitivity, _ = precision_recall_curve(is_class, ranks[:, label], drop_intermediate=True)
        area = average_precision(is_class, ranks[:, label])
        assert area is not None
        limits = average_precision_limits(area, patients[is_class])
        # Without the last point, at sensitivity 0, which stands for no threshold.
        curves.append(
            PrecisionCurve(label, sensitivity[-2::-1], precision[-2::-1], float(is_class.mean()), area, limits)
        )
    return curves
