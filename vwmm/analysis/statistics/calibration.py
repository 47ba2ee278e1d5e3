"""Calibration: does a predicted probability of 70 % mean 70 % of such cases?

Of two classes the probability of the second one is judged; of more, that of the class that was predicted, against how
often it was right (Guo et al. 2017, arXiv:1706.04599). Nothing is recalibrated here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.statistics.intervals import MIN_FOR_SHARE, Limits, excess_limits, share_limits
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

MAX_GROUPS = 10
MIN_CASES = 10
"""Minimum size of a group: with fewer cases its interval is too wide to be useful."""
MIN_REPEATED = 15
"""Patients of a group, some of them with several cases there, for an interval: with 10 it covers 0.92."""


@dataclass(frozen=True)
class Group:
    """Cases that were given about the same probability."""

    predicted: float
    """Mean probability."""
    observed: float
    """Observed share of the cases."""
    limits: Limits
    """Of `observed`, 95 %, over patients."""
    num_cases: int


@dataclass(frozen=True)
class Calibration:
    """Predicted probabilities against observed shares."""

    of_what: str
    """The class of the probabilities: its name, or `the predicted class`."""
    groups: tuple[Group, ...]
    """By rising probability, about equally many cases in each; empty with fewer than two groups' cases."""
    excess: float
    """Mean probability minus the observed share; above 0: the probabilities are too high."""
    excess_limits: Limits
    """95 %, over patients."""
    num_cases: int


def calibration_of(predictions: RecordedPredictions, classes: Sequence[str]) -> Calibration:
    """The calibration of at least one prediction."""
    judged = predictions.predicted if len(classes) > 2 else 1
    scores = predictions.probabilities[np.arange(len(predictions.labels)), judged]
    hits = predictions.labels == judged
    return Calibration(
        of_what=classes[1] if len(classes) == 2 else "the predicted class",
        groups=_groups(scores, hits, predictions.patients),
        excess=float(np.mean(scores - hits)),
        excess_limits=excess_limits(scores, hits, predictions.patients),
        num_cases=len(scores),
    )


def debiased_ece(scores: np.ndarray, hits: np.ndarray) -> float | None:
    """The expected calibration error, 0 to 1, less most of what chance adds; None with fewer than 20 cases.

    scores: (N,) float64; hits: (N,) bool. Over the groups of the calibration plot, the mean of |mean probability -
    observed share|, weighted by their cases, minus its bias: the expected absolute value of a normal variable with the
    difference as mean and the share's standard error (a folded normal), less the difference. Source: the Gaussian
    correction of Kumar, Liang and Ma 2019, "Verified uncertainty calibration", arXiv:1909.10155, in closed form.
    Of a calibrated model with 200 cases the plain one is 0.07 on average, this one 0.04.
    """
    if len(scores) < 2 * MIN_CASES:
        return None
    group_of, terms = group_numbers(scores), list[float]()
    for one in np.unique(group_of):
        inside = group_of == one
        share, number = float(hits[inside].mean()), int(inside.sum())
        distance = abs(float(scores[inside].mean()) - share)
        error = math.sqrt(share * (1 - share) / number)
        terms.append(number / len(scores) * (2 * distance - _mean_folded(distance, error)))
    return max(0.0, math.fsum(terms))


def _mean_folded(mean: float, deviation: float) -> float:
    """E |X| of a normal X (Leone, Nelson and Nottingham 1961, doi:10.1080/00401706.1961.10489974)."""
    if deviation == 0:
        return abs(mean)
    ratio = mean / deviation
    density = deviation * math.sqrt(2 / math.pi) * math.exp(-ratio * ratio / 2)
    return density + mean * math.erf(ratio / math.sqrt(2))


def brier_scores(predictions: RecordedPredictions) -> np.ndarray:
    """(N,) float64: half the squared distance of the probabilities from what was so, 0 to 1; their mean is the score.

    Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, halved, so that for two classes it is the squared
    error of one probability, as is usual.
    """
    is_class = np.eye(predictions.probabilities.shape[1])[predictions.labels]  # (N, K)
    return np.asarray(((predictions.probabilities - is_class) ** 2).sum(axis=1) / 2)


def _groups(scores: np.ndarray, hits: np.ndarray, patients: np.ndarray) -> tuple[Group, ...]:
    """Cases with one probability stay together, so that the order of the cases changes nothing."""
    if len(scores) < 2 * MIN_CASES:
        return ()
    group_of, groups = group_numbers(scores), list[Group]()
    for one in np.unique(group_of):
        inside = group_of == one
        groups.append(
            Group(
                predicted=float(scores[inside].mean()),
                observed=float(hits[inside].mean()),
                limits=group_limits(hits[inside], patients[inside]),
                num_cases=int(inside.sum()),
            )
        )
    return tuple(groups)


def group_limits(hits: np.ndarray, patients: np.ndarray) -> Limits:
    """The interval of the observed share of a group. hits: (N,) bool; patients: (N,)."""
    is_repeated = len(np.unique(patients)) < len(patients)
    return share_limits(hits, patients, at_least=MIN_REPEATED if is_repeated else MIN_FOR_SHARE)


def group_numbers(scores: np.ndarray) -> np.ndarray:
    """The group of each case, (N,) int64: by rising probability, `MIN_CASES` or more in each.

    A group ends with the first probability by which the next tenth (or so) of the cases is reached.
    """
    number = min(MAX_GROUPS, len(scores) // MIN_CASES)
    value_of, counts = np.unique(scores, return_inverse=True, return_counts=True)[1:]
    group_of_value, group, inside, until, parts_done = np.zeros(len(counts), dtype=np.int64), 0, 0, 0, 0
    for value, count in enumerate(counts.tolist()):
        group_of_value[value], inside, until = group, inside + count, until + count
        if inside >= MIN_CASES and until * number >= (parts_done + 1) * len(scores):
            group, inside, parts_done = group + 1, 0, until * number // len(scores)
    if 0 < inside < MIN_CASES:  # what is left over joins the last group
        group_of_value[group_of_value == group] = group - 1
    return np.asarray(group_of_value[value_of])
