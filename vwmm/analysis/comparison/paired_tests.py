"""Differences between two models on the same cases: intervals and tests, by patient.

Positive differences mean that the first model is better. The models are taken as they are: how much another training of
the same recipe would differ is not in these intervals. Size of the tests and coverage of the intervals are simulated in
`benchmarks/paired_tests.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.statistics.auroc_intervals import area_residuals, macro_auroc_limits
from vwmm.analysis.statistics.bootstrap import studentized_resamples
from vwmm.analysis.statistics.intervals import (
    LEVEL,
    MIN_FOR_MEAN,
    MIN_FOR_SHARE,
    MIN_OF_CLASS,
    Interval,
    Limits,
    balanced_accuracy_limits,
    correlations,
    share_limits,
    too_few,
)
from vwmm.analysis.statistics.metrics import accuracy, balanced_accuracy, class_ranks, macro_auroc

NUM_EXCHANGES = 9999
# With 5 of a class the interval of a difference between balanced accuracies of 0.9 and 0.7 covers 0.89.
MIN_FOR_BALANCED = 10
_CHUNK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Difference:
    """A metric of one model minus that of another, on the same cases."""

    value: float | None
    """None where the metric is not defined for one of them."""
    limits: Limits
    """Its 95 % interval."""
    p: float | None
    """Two-sided, of no difference; None where it cannot be tested."""
    test: str = ""
    """How p was computed; without p, why there is none."""
    error: float | None = None
    """Standard error of the value, over patients; None where it is not known."""


Compare = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Difference]
"""From labels (N,) int64, the probabilities of both models (N, K) float64, and patients (N,)."""


def auroc_difference(labels: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> Difference:
    """Of AUROCs, for three or more classes of their one-vs-rest mean.

    The variance is that of DeLong et al. 1988 (doi:10.2307/2531595), its components added up by patient (Obuchowski
    1997, doi:10.2307/2533958), within each class; p is Student's with the degrees of freedom of Welch and
    Satterthwaite: the normal distribution rejects twice as often as it should with 5 patients of a class. The interval
    is the wider one, on each side, of Student's and of MOVER (Zou and Donner 2008) from the intervals of both AUROCs,
    which has a width even where both models are always right.
    """
    of_a, of_b = macro_auroc(labels, a), macro_auroc(labels, b)
    if of_a is None or of_b is None:
        return _undefined("the AUROC is not defined: a class without cases")
    groups = np.unique(patients, return_inverse=True)[1]
    strata = _strata(labels, groups)
    if (few := _fewest_patients(labels, groups)) < MIN_OF_CLASS:
        return _undefined(f"fewer than {MIN_OF_CLASS} patients of a class ({few})", of_a - of_b)
    ranks = class_ranks(a), class_ranks(b)
    residuals = [area_residuals(labels, one, groups) for one in ranks]
    limits = [macro_auroc_limits(labels, one, patients) for one in ranks]
    value = of_a - of_b
    variance, freedom = _variance_within(residuals[0] - residuals[1], strata)
    found = _by_mover(value, (of_a, of_b), limits, residuals)
    error = float(np.sqrt(variance))
    if error < 1e-12:  # both rank all cases alike
        return Difference(value, found, 1.0 if abs(value) < 1e-12 else None, "DeLong, Student's t", None)
    from scipy.special import stdtr  # 0.1 s of CPU time, which a start is spared

    p = float(2 * stdtr(freedom, -abs(value) / error))
    return Difference(value, _at_least_student(found, value, error, freedom), p, "DeLong, Student's t", error)


def accuracy_difference(labels: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> Difference:
    """Of accuracies: exact McNemar; with several cases a patient, the exchange test below. The interval is MOVER's."""
    hits = [scores.argmax(axis=1) == labels for scores in (a, b)]
    groups = np.unique(patients, return_inverse=True)[1]
    if reason := too_few(np.bincount(groups), MIN_FOR_SHARE):
        return _undefined(reason, accuracy(labels, a) - accuracy(labels, b))
    values = accuracy(labels, a), accuracy(labels, b)
    terms = [_sums(groups, (hit - value) / len(labels)) for hit, value in zip(hits, values, strict=True)]
    limits = [share_limits(hit, patients) for hit in hits]
    found = _by_mover(values[0] - values[1], values, limits, terms)
    changes = _sums(groups, (hits[0].astype(float) - hits[1]) / len(labels))
    error = _error_of_sum(changes)
    found = _at_least_student(found, values[0] - values[1], error, len(changes) - 1)
    found = found if changes.any() else _of_equal_answers([len(changes)])
    if len(changes) == len(labels):
        from scipy.stats import binomtest

        better, worse = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
        p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
        return Difference(values[0] - values[1], found, p, "exact McNemar", error)
    return Difference(values[0] - values[1], found, exchange_p(changes), "exchange within patients", error)


def balanced_accuracy_difference(labels: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> Difference:
    """Of mean sensitivities: the exchange test; the interval is MOVER's."""
    predicted = [scores.argmax(axis=1) for scores in (a, b)]
    values = balanced_accuracy(labels, a), balanced_accuracy(labels, b)
    groups = np.unique(patients, return_inverse=True)[1]
    limits = [balanced_accuracy_limits(labels, one, patients) for one in predicted]
    if _fewest_patients(labels, groups) < MIN_FOR_BALANCED:
        return _undefined(f"fewer than {MIN_FOR_BALANCED} patients of a class", values[0] - values[1])
    if reason := next((one.reason for one in limits if one.interval is None), ""):
        return _undefined(reason, values[0] - values[1])
    counts = np.bincount(labels)
    weights = 1 / counts[labels] / np.count_nonzero(counts)  # (N,)
    hits = [(one == labels).astype(float) for one in predicted]
    shares = [np.bincount(labels, weights=hit) / np.maximum(counts, 1) for hit in hits]
    terms = [_sums(groups, weights * (hit - share[labels])) for hit, share in zip(hits, shares, strict=True)]
    found = _by_mover(values[0] - values[1], values, limits, terms)
    changes = _sums(groups, weights * (hits[0] - hits[1]))
    variance, freedom = _variance_within(terms[0] - terms[1], _strata(labels, groups))
    error = float(np.sqrt(variance))
    found = _at_least_student(found, values[0] - values[1], error, freedom)
    if not changes.any():
        found = _of_equal_answers([len(np.unique(groups[labels == label])) for label in np.unique(labels)])
    return Difference(values[0] - values[1], found, exchange_p(changes), "exchange within patients", error)


def brier_difference(labels: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> Difference:
    """Of Brier scores, over all classes, the second minus the first: less is better. Bootstrap-t and Student's t
    over patients, the safer of both: with few patients whose values are far from normal the first is too narrow."""
    truth = np.eye(a.shape[1])[labels]
    values = (((b - truth) ** 2).sum(axis=1) - ((a - truth) ** 2).sum(axis=1)) / 2  # (N,), from -1 to 1
    groups = np.unique(patients, return_inverse=True)[1]
    sizes, value = np.bincount(groups).astype(np.float64), float(values.mean())
    if reason := too_few(sizes, MIN_FOR_MEAN):
        return _undefined(reason, value)
    sums = _sums(groups, values - value)
    error = float(np.sqrt(sums @ sums)) / len(values)
    if error < 1e-12:
        return Difference(value, Limits(None, reason="all cases differ by the same value"), None, "not tested")
    ratios = studentized_resamples(sums, sizes)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = Limits(Interval(value - float(high) * error, value - float(low) * error), "bootstrap-t")
    beyond = np.count_nonzero(ratios >= value / error), np.count_nonzero(ratios <= value / error)
    from scipy.special import stdtr

    p = max(2 * (1 + min(beyond)) / (len(ratios) + 1), float(2 * stdtr(len(sizes) - 1, -abs(value) / error)))
    limits = _at_least_student(found, value, error, len(sizes) - 1)
    return Difference(value, limits, min(1.0, p), "bootstrap-t and Student's t, the larger p", error)


def exchange_p(changes: np.ndarray, *, seed: int = 0) -> float:
    """Two-sided p of a sum of differences, each with either sign: if the models do not differ, they may be exchanged.

    changes: (P,) float64, what each patient adds to the difference. Fisher's randomisation test for pairs, with 9,999
    drawn exchanges; the observed one counts as well (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
    """
    changes = changes[np.abs(changes) > 1e-12]
    if abs(changes.sum()) < 1e-12:
        return 1.0
    generator, observed, reached = np.random.default_rng(seed), abs(changes.sum()), 0
    chunk = max(1, _CHUNK_NUMBERS // len(changes))
    for start in range(0, NUM_EXCHANGES, chunk):
        signs = generator.integers(2, size=(min(chunk, NUM_EXCHANGES - start), len(changes)), dtype=np.int8) * 2.0 - 1
        reached += int(np.count_nonzero(np.abs(signs @ changes) >= observed * (1 - 1e-9)))
    return (1 + reached) / (1 + NUM_EXCHANGES)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjusted for the number of tests (Holm 1979, https://www.jstor.org/stable/4615733); None is no test."""
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    adjusted, highest = list[float | None]([None] * len(values)), 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        adjusted[place] = highest
    return adjusted


def _undefined(reason: str, value: float | None = None) -> Difference:
    return Difference(value, Limits(None, reason=reason), None, reason)


def _sums(groups: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """(P,) float64: the terms (N,) of each patient, added up."""
    return np.bincount(groups, weights=terms)


def _fewest_patients(labels: np.ndarray, groups: np.ndarray) -> int:
    """Of the classes that occur, the least number of patients with a case of it."""
    return min(len(np.unique(groups[labels == label])) for label in np.unique(labels))


def _strata(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(P,) int64: the class of each patient; one more for those who have cases of several."""
    lowest, highest = np.full(groups.max() + 1, labels.max() + 1), np.full(groups.max() + 1, -1)
    np.minimum.at(lowest, groups, labels)
    np.maximum.at(highest, groups, labels)
    return np.where(lowest == highest, lowest, labels.max() + 1)


def _variance_within(terms: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Of a sum of independent terms (P,), from their spread within each stratum, and its degrees of freedom."""
    parts = [terms[strata == one] for one in np.unique(strata)]
    variances = np.array([len(part) * part.var(ddof=1) if len(part) > 1 else float(part @ part) for part in parts])
    freedoms = np.array([max(1, len(part) - 1) for part in parts])
    total = float(variances.sum())
    return total, total**2 / max(float((variances**2 / freedoms).sum()), 1e-300)


def _error_of_sum(changes: np.ndarray) -> float:
    """Standard error of the sum of changes (P,), from their spread around their mean."""
    return float(np.sqrt(len(changes) * changes.var(ddof=1)))


def _of_equal_answers(numbers: Sequence[int]) -> Limits:
    """The interval where no patient's answers differ in being right, by class: up to the exact limit of 0 in n."""
    half = float(np.mean([1 - ((1 - LEVEL) / 2) ** (1 / number) for number in numbers]))
    return Limits(Interval(-half, half), "exact limit of no difference in n patients")


def _at_least_student(limits: Limits, value: float, error: float, freedom: float) -> Limits:
    """The interval, on each side no narrower than Student's."""
    if limits.interval is None:
        return limits
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    low, high = min(limits.interval.low, value - half), max(limits.interval.high, value + half)
    return Limits(Interval(max(-1.0, low), min(1.0, high)), f"{limits.method} and Student's t, the wider")


def _by_mover(
    value: float, values: Sequence[float], limits: Sequence[Limits], residuals: Sequence[np.ndarray]
) -> Limits:
    """The interval of a difference from both intervals and how much the estimates go together."""
    (first, second) = (one.interval for one in limits)
    if first is None or second is None:
        return Limits(None, reason=next(one.reason for one in limits if one.interval is None))
    r = float(correlations(list(residuals))[0, 1])

    def reach(of_first: float, of_second: float) -> float:
        return float(np.sqrt(max(0.0, of_first**2 + of_second**2 - 2 * r * of_first * of_second)))

    low = value - reach(values[0] - first.low, second.high - values[1])
    high = value + reach(first.high - values[0], values[1] - second.low)
    return Limits(Interval(max(-1.0, low), min(1.0, high)), "MOVER")


# By the name of the metric in comparison.json, the most important first.
DIFFERENCES: dict[str, Compare] = {
    "auroc": auroc_difference,
    "accuracy": accuracy_difference,
    "balanced_accuracy": balanced_accuracy_difference,
    "brier": brier_difference,
}
