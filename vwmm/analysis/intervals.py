"""Confidence intervals that take the patient, not the case, as the unit.

A patient's cases resemble each other, so resampling cases would give intervals that are too narrow. Where each patient
has one case, a share has Wilson's interval; everything else is a bootstrap that draws patients with all their cases.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

# Beyond this share of resamples without a value, what is left no longer stands for the cohort.
MAX_UNDEFINED = 0.1
# Numbers held at once while resampling: 4 million float64 are 32 MB.
CHUNK_NUMBERS = 4_000_000

Statistic = Callable[[np.ndarray], np.ndarray]
"""From how often each case was drawn, (R, N) float64, to the value of each resample, (R,) float64; NaN: undefined."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def accuracy_interval(correct: np.ndarray, patients: np.ndarray, *, level: float = 0.95) -> Interval | None:
    """The interval of a share of cases; None where there are no cases or no interval can be had.

    correct: (N,) bool; patients: (N,) any identifiers. With one case per patient it is Wilson's score interval (Wilson
    1927, doi:10.1080/01621459.1927.10502953), else a bootstrap over patients. Where every case is right, or every case
    wrong, all resamples agree and the bootstrap has no width: then it is Wilson's over the number of patients, as if
    the cases of a patient were one.
    """
    num_patients = len(np.unique(patients))
    if num_patients == 0:
        return None
    if num_patients == len(correct):
        return _wilson(int(np.sum(correct)), num_patients, level)
    if np.all(correct) or not np.any(correct):
        return _wilson(num_patients if np.all(correct) else 0, num_patients, level)
    return bootstrap_interval(mean_of(np.asarray(correct, dtype=np.float64)), patients, level=level)


def bootstrap_interval(
    statistic: Statistic, patients: np.ndarray, *, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """Percentile interval of a cluster bootstrap: patients are drawn with replacement, with all their cases.

    patients: (N,) any identifiers. Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Statist. Soc. B
    69(3):369-390, doi:10.1111/j.1467-9868.2007.00593.x. None where more than `MAX_UNDEFINED` of the resamples have no
    value, or where all have the same one: a width of zero would claim a certainty that few cases cannot give.
    """
    clusters, cluster_of_case = np.unique(patients, return_inverse=True)
    if len(clusters) < 2:
        return None
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_NUMBERS // len(patients))
    parts = []
    for start in range(0, num_resamples, chunk):
        drawn = _draw(generator, min(chunk, num_resamples - start), len(clusters))  # (R, P)
        parts.append(statistic(drawn[:, cluster_of_case]))  # (R, N) -> (R,)
    values = np.concatenate(parts)
    defined = values[np.isfinite(values)]
    if len(defined) < (1 - MAX_UNDEFINED) * num_resamples or np.ptp(defined) < 1e-12:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_of(values: np.ndarray) -> Statistic:
    """The mean of one value per case; values: (N,) float64."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def balanced_accuracy_of(labels: np.ndarray, predicted: np.ndarray) -> Statistic:
    """Mean recall of the classes that occur in `labels`; undefined in a resample that lacks one of them.

    labels, predicted: (N,) int64.
    """
    is_class = np.equal.outer(labels, np.unique(labels)).astype(np.float64)  # (N, C)
    is_right = is_class * (predicted == labels)[:, None]

    def statistic(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that says undefined
            return np.mean(weights @ is_right / (weights @ is_class), axis=1)

    return statistic


def auroc_of(is_positive: np.ndarray, scores: np.ndarray) -> Statistic:
    """Area under the ROC curve, from ranks; undefined in a resample without a positive or a negative case.

    is_positive: (N,) bool; scores: (N,) float64, finite. The area is the share of (positive, negative) pairs in which
    the positive has the higher score, ties counting one half (Hanley and McNeil 1982,
    doi:10.1148/radiology.143.1.7063747). The scores are sorted once, for all resamples: scikit-learn, called for each
    one, takes 3.6 s instead of 0.02 s (2000 resamples of 120 cases).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # the first case of each group of ties
    positive_sorted = is_positive[order].astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        positives = np.add.reduceat(drawn * positive_sorted, starts, axis=1)  # (R, groups)
        negatives = np.add.reduceat(drawn * (1 - positive_sorted), starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives
        pairs_won = (positives * (below + negatives / 2)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.divide(pairs_won, positives.sum(axis=1) * negatives.sum(axis=1))

    return statistic


def macro_auroc_of(labels: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """As `metrics.macro_auroc`: that of class 1 for two classes, else the mean one-vs-rest area.

    labels: (N,) int64; probabilities: (N, K) float64, finite.
    """
    num_classes = probabilities.shape[1]
    judged = [1] if num_classes == 2 else range(num_classes)
    areas = [auroc_of(labels == label, probabilities[:, label]) for label in judged]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def _draw(generator: np.random.Generator, num_resamples: int, num_clusters: int) -> np.ndarray:
    """How often each of `num_clusters` was drawn in each resample: (R, P) float64, rows adding up to P."""
    draws = generator.integers(num_clusters, size=(num_resamples, num_clusters))
    draws += np.arange(num_resamples)[:, None] * num_clusters
    counts = np.bincount(draws.ravel(), minlength=num_resamples * num_clusters)
    return counts.reshape(num_resamples, num_clusters).astype(np.float64)


def _wilson(num_right: int, num_cases: int, level: float) -> Interval:
    low, high = binomtest(num_right, num_cases).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(low), float(high))
