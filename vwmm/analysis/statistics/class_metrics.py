"""F1, Matthews' correlation and average precision, and their 95 % intervals by patient.

Undefined is None, never 0 as in scikit-learn: a class that neither occurs nor is predicted has no F1.
"""

import math

import numpy as np

from vwmm.analysis.statistics.intervals import (
    LEVEL,
    MIN_FOR_SHARE,
    Interval,
    Limits,
    mover_mean,
    share_limits,
    solve,
    too_few,
)
from vwmm.analysis.statistics.metrics import confusion_matrix

# With 5 or 10 patients of a class Matthews' correlation covers 0.91 to 0.93, and macro F1 of three classes 0.87 to 0.91
# with 10; with fewer than 15 patients in TP, FP and FN, F1 of repeated cases covers 0.915 (interval_coverage.py).
MIN_FOR_MATTHEWS, MIN_FOR_MACRO_F1, MIN_FOR_F1 = 20, 20, 15


def f1(is_class: np.ndarray, is_called: np.ndarray) -> float | None:
    """2 TP / (2 TP + FP + FN) of one class; None where no case is of the class or given it. Both (N,) bool."""
    total = int(is_class.sum()) + int(is_called.sum())
    return 2 * int((is_class & is_called).sum()) / total if total else None


def f1_limits(is_class: np.ndarray, is_called: np.ndarray, patients: np.ndarray) -> Limits:
    """The interval of a defined F1. is_class, is_called: (N,) bool; patients: (N,).

    Of the cases that are of the class or given it, a share J = TP / (TP + FP + FN) is both, and F1 = 2 J / (1 + J)
    rises with J: the bounds are those of J (Wilson), so that the coverage is that of a share.
    """
    either = is_class | is_called
    limits = share_limits((is_class & is_called)[either], patients[either], at_least=MIN_FOR_F1)
    if limits.interval is None:
        return limits
    low, high = (2 * bound / (1 + bound) for bound in limits.interval)
    return Limits(Interval(low, high), f"{limits.method}, of TP / (TP + FP + FN)")


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float | None:
    """F1 of class 1 (two classes), or the mean of the defined ones (more). labels, predicted: (N,) int64."""
    judged = [1] if num_classes == 2 else range(num_classes)
    found = [f1(labels == label, predicted == label) for label in judged]
    defined = [value for value in found if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def macro_f1_limits(labels: np.ndarray, predicted: np.ndarray, patients: np.ndarray, num_classes: int) -> Limits:
    """The interval of a defined macro F1: of two classes `f1_limits`, of more MOVER over these."""
    if num_classes == 2:
        return f1_limits(labels == 1, predicted == 1, patients)
    if reason := _few_of_a_class(labels, patients, num_classes, MIN_FOR_MACRO_F1):
        return Limits(None, reason=reason)
    groups = np.unique(patients, return_inverse=True)[1]
    values, intervals, residuals = list[float](), list[Interval](), list[np.ndarray]()
    for label in range(num_classes):
        of_class, called = labels == label, predicted == label
        value = f1(of_class, called)
        if value is None:
            continue
        limits = f1_limits(of_class, called, patients)
        if limits.interval is None:
            return limits
        errors = (of_class | called) * ((of_class & called) - value / (2 - value))  # J is F1 / (2 - F1)
        values.append(value)
        intervals.append(limits.interval)
        residuals.append(np.bincount(groups, weights=errors))
    return Limits(mover_mean(values, intervals, residuals), "MOVER of Wilson")


def matthews(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float | None:
    """Matthews' correlation of truth and prediction, from -1 to 1; None where either has one class only.

    For K classes R_K of Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient", doi:10.1016/j.compbiolchem.2004.09.006. labels, predicted: (N,) int64.
    """
    return _matthews(confusion_matrix(labels, predicted, num_classes).astype(np.float64))[0]


def matthews_limits(labels: np.ndarray, predicted: np.ndarray, patients: np.ndarray, num_classes: int) -> Limits:
    """The interval of a defined correlation: Fisher's z with the delta method's variance over patients.

    Source: Itaya et al. 2024, "Asymptotic properties of Matthews correlation coefficient", arXiv:2405.12622, where
    the cases are independent; here their influences are summed by patient, and Student's t replaces the normal.
    """
    if reason := _few_of_a_class(labels, patients, num_classes, MIN_FOR_MATTHEWS):
        return Limits(None, reason=reason)
    matrix = confusion_matrix(labels, predicted, num_classes).astype(np.float64)
    value, gradient = _matthews(matrix)
    assert value is not None
    assert gradient is not None
    if abs(value) > 1 - 1e-9:
        return Limits(None, reason="all cases right" if value > 0 else "all cases wrong")
    from scipy.special import stdtrit  # 0.1 s of CPU time, which a start is spared

    groups = np.unique(patients, return_inverse=True)[1]
    sums = np.bincount(groups, weights=gradient[labels, predicted])  # (P,); they add up to 0: R is of degree 0
    quantile = float(stdtrit(len(sums) - 1, (1 + LEVEL) / 2))
    error = math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1)) / (1 - value**2)
    centre = math.atanh(value)
    found = Interval(math.tanh(centre - quantile * error), math.tanh(centre + quantile * error))
    return Limits(found, "Fisher's z, delta method over patients")


def _few_of_a_class(labels: np.ndarray, patients: np.ndarray, num_classes: int, at_least: int) -> str:
    """Why a class has too few patients, or nothing."""
    for label in range(num_classes):
        if too_few(np.unique(patients[labels == label], return_counts=True)[1], at_least):
            return f"fewer than {at_least} patients of a class, counted by their cases"
    return ""


def _matthews(matrix: np.ndarray) -> tuple[float | None, np.ndarray | None]:
    """The correlation of a confusion matrix (K, K) and its derivative by each cell."""
    total, right = float(matrix.sum()), float(np.trace(matrix))
    true, called = matrix.sum(axis=1), matrix.sum(axis=0)
    of_true, of_called = total**2 - float(true @ true), total**2 - float(called @ called)
    if of_true <= 0 or of_called <= 0:
        return None, None
    scale = math.sqrt(of_true * of_called)
    value = (right * total - float(true @ called)) / scale
    top = np.eye(len(matrix)) * total + right - (called[:, None] + true[None, :])
    bottom = (total - true)[:, None] / of_true + (total - called)[None, :] / of_called
    return max(-1.0, min(1.0, value)), top / scale - value * bottom


def average_precision(is_class: np.ndarray, ranks: np.ndarray) -> float | None:
    """The area below the steps of precision over sensitivity; None where no case is of the class.

    is_class: (N,) bool; ranks: (N,) int64, the higher the likelier; equal ranks are one threshold.
    """
    number = int(is_class.sum())
    if number == 0:
        return None
    order = np.argsort(ranks, kind="stable")[::-1]
    ends = np.append(np.flatnonzero(np.diff(ranks[order])), len(ranks) - 1)
    found = np.cumsum(is_class[order])[ends]
    return math.fsum(np.diff(found, prepend=0) / number * found / (ends + 1))


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


def macro_average_precision(labels: np.ndarray, ranks: np.ndarray) -> float | None:
    """That of class 1 (two classes) or the mean over the classes (more); None where a class has no case.

    labels: (N,) int64; ranks: (N, K), as of `metrics.class_ranks`.
    """
    judged = [1] if ranks.shape[1] == 2 else range(ranks.shape[1])
    found = [average_precision(labels == label, ranks[:, label]) for label in judged]
    defined = [value for value in found if value is not None]
    return math.fsum(defined) / len(defined) if len(defined) == len(found) else None


def macro_average_precision_limits(labels: np.ndarray, ranks: np.ndarray, patients: np.ndarray) -> Limits:
    """The interval of a defined macro average precision: of more than two classes the mean of the classes' bounds.

    So wide is MOVER's where all classes err together; how much they really do is not known of an average precision.
    """
    judged = [1] if ranks.shape[1] == 2 else range(ranks.shape[1])
    found = list[Interval]()
    for label in judged:
        area = average_precision(labels == label, ranks[:, label])
        assert area is not None
        limits = average_precision_limits(area, patients[labels == label])
        if limits.interval is None:
            return limits
        found.append(limits.interval)
    low, high = (math.fsum(bounds) / len(found) for bounds in zip(*found, strict=True))
    return Limits(Interval(low, high), "Wilson, cases of the class" + ("; mean of the bounds" * (len(found) > 1)))
