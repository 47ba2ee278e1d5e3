"""Precision-recall curves and average precision of each class against the rest."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from vwmm.analysis.statistics.intervals import MIN_FOR_SHARE, Limits, solve, too_few
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
        area = float(average_precision_score(is_class, ranks[:, label]))
        limits = average_precision_limits(area, patients[is_class])
        # Without the last point, at sensitivity 0, which stands for no threshold.
        curves.append(
            PrecisionCurve(label, sensitivity[-2::-1], precision[-2::-1], float(is_class.mean()), area, limits)
        )
    return curves


def average_precision_limits(area: float, patients: np.ndarray) -> Limits:
    """The interval of an average precision. patients: (P,), of the cases of the class.

    That of Wilson, as if it were a share of the class's cases, counted by patients. The variance a (1 - a) / n is that
    of Boyd, Eng and Page 2013, "Area under the precision-recall curve: point estimates and confidence intervals", ECML
    PKDD, Lecture Notes in Computer Science 8190; on their logit scale the interval of 0.998 of 20 cases would reach
    down to 0.05, and 1 would have none. What it covers: docs/statistics.md.
    """
    sizes = np.unique(patients, return_counts=True)[1]
    if reason := too_few(sizes, MIN_FOR_SHARE):
        return Limits(None, reason=reason)
    number = float(sizes.sum() ** 2 / (sizes**2).sum())
    return Limits(solve(area, lambda t: t * (1 - t) / number), "Wilson, cases of the class")
