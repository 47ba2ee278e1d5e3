"""95 % intervals of proportions and their means, by patient.

A patient's cases resemble each other, so counting cases would give intervals that are too narrow. What each interval
covers is simulated in `benchmarks/interval_coverage.py`; where it would not hold its 95 %, there is none, and a reason
instead (docs/statistics.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
Z = 1.959963984540054  # scipy.special.ndtri((1 + LEVEL) / 2), whose import each training would pay for
# With fewer patients an interval does not keep 95 % coverage at all true values (benchmarks/interval_coverage.py).
MIN_FOR_SHARE, MIN_OF_CLASS, MIN_FOR_MEAN, MIN_FOR_EXCESS = 10, 5, 20, 100


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Limits:
    """The interval of a number, or why there is none."""

    interval: Interval | None
    method: str = ""
    """How the interval was computed; empty without one."""
    reason: str = ""
    """Why there is no interval; empty with one."""


@dataclass(frozen=True)
class ShareEstimate:
    """A share of cases, over patients."""

    value: float
    """0 to 1."""
    limits: Limits
    """Its interval."""
    variance: float
    """Of the estimate, over patients."""
    residuals: np.ndarray
    """(P,) float64: what each patient adds to the estimate's error; where nothing varies, how many cases it has."""


def share_limits(hits: np.ndarray, patients: np.ndarray, *, at_least: int = MIN_FOR_SHARE) -> Limits:
    """The interval of a share of cases. hits: (N,) bool; patients: (N,) any identifiers."""
    if len(hits) == 0:
        return Limits(None, reason="no case")
    groups = np.unique(patients, return_inverse=True)[1]
    return _share(np.asarray(hits, dtype=np.float64), groups, int(groups.max()) + 1, at_least).limits


def accuracy_interval(correct: np.ndarray, patients: np.ndarray) -> Interval | None:
    """As `share_limits`, for those who only show the interval."""
    return share_limits(correct, patients).interval


def balanced_accuracy_limits(labels: np.ndarray, predicted: np.ndarray, patients: np.ndarray) -> Limits:
    """Mean sensitivity of the classes that occur in `labels`, by MOVER over their Wilson intervals.

    labels, predicted: (N,) int64; patients: (N,). The bound that is nearer to 0 or 1 is never inside that of Wilson's
    interval with the effective number of cases, which is value (1 - value) / variance: of two classes of 10 cases MOVER
    alone covers 0.90 to 0.95.
    """
    if len(labels) == 0:
        return Limits(None, reason="no case")
    groups = np.unique(patients, return_inverse=True)[1]
    num_groups, hits = int(groups.max()) + 1, (predicted == labels).astype(np.float64)
    present = np.unique(labels)
    at_least = MIN_OF_CLASS if len(present) > 1 else MIN_FOR_SHARE
    shares = [_share(hits[labels == k], groups[labels == k], num_groups, at_least) for k in present]
    known = [share.limits.interval for share in shares if share.limits.interval is not None]
    if len(known) < len(shares):
        return Limits(None, reason=f"fewer than {at_least} patients of a class, counted by their cases")
    values, residuals = [share.value for share in shares], [share.residuals for share in shares]
    found, value = mover_mean(values, known, residuals), float(np.mean(values))
    errors = np.sqrt([share.variance for share in shares]) / len(shares)
    variance = float(errors @ correlations(residuals) @ errors)
    if 0 < value < 1 and variance > 0:
        low, high = solve(value, lambda t: t * (1 - t) * variance / (value * (1 - value)))
        wider = (found.low, max(found.high, high)) if value >= 0.5 else (min(found.low, low), found.high)
        found = Interval(*wider)
    return Limits(found, "MOVER of Wilson")


def excess_limits(probabilities: np.ndarray, hits: np.ndarray, patients: np.ndarray) -> Limits:
    """Mean probability minus the observed share, by MOVER: of Student's interval and of the share's.

    probabilities: (N,) float64; hits: (N,) bool; patients: (N,). Zou and Donner 2008 for a difference of two estimates
    that go together.
    """
    from scipy.special import stdtrit  # as above

    groups = np.unique(patients, return_inverse=True)[1]
    num_groups, num_cases = int(groups.max()) + 1, len(hits)
    if reason := too_few(np.bincount(groups), MIN_FOR_EXCESS):
        return Limits(None, reason=reason)
    share = _share(hits.astype(np.float64), groups, num_groups, MIN_FOR_EXCESS)
    assert share.limits.interval is not None
    mean = float(probabilities.mean())
    residuals = np.bincount(groups, weights=probabilities - mean) / num_cases
    quantile = float(stdtrit(num_groups - 1, (1 + LEVEL) / 2))
    half = quantile * np.sqrt(num_groups / (num_groups - 1) * float(residuals @ residuals))
    low, high = share.limits.interval
    r = float(correlations([residuals, share.residuals])[0, 1])

    def reach(of_share: float) -> float:
        of_share *= quantile / Z  # both as sure as Student's
        return float(np.sqrt(max(0.0, half**2 + of_share**2 - 2 * r * half * of_share)))

    excess = mean - share.value
    found = Interval(excess - reach(high - share.value), excess + reach(share.value - low))
    return Limits(found, "MOVER of Student and Wilson")


def net_benefit_limits(hits: np.ndarray, alarms: np.ndarray, patients: np.ndarray, weight: float) -> Limits:
    """The share of hits minus `weight` times the share of alarms, by MOVER over both shares' intervals.

    hits, alarms: (N,) bool, true and false positives; patients: (N,). Zou and Donner 2008, as in `excess_limits`.
    """
    groups = np.unique(patients, return_inverse=True)[1]
    number = int(groups.max()) + 1
    one, other = (_share(each.astype(np.float64), groups, number, MIN_FOR_SHARE) for each in (hits, alarms))
    if one.limits.interval is None or other.limits.interval is None:
        return Limits(None, reason=one.limits.reason)
    r = float(correlations([one.residuals, other.residuals])[0, 1]) if hits.any() and alarms.any() else 0.0

    def reach(of_hits: float, of_alarms: float) -> float:
        return float(np.sqrt(max(0.0, of_hits**2 + of_alarms**2 - 2 * r * of_hits * of_alarms)))

    value = one.value - weight * other.value
    below = reach(one.value - one.limits.interval.low, weight * (other.limits.interval.high - other.value))
    above = reach(one.limits.interval.high - one.value, weight * (other.value - other.limits.interval.low))
    return Limits(Interval(value - below, value + above), "MOVER of Wilson")


def mover_mean(values: list[float], intervals: list[Interval], residuals: list[np.ndarray]) -> Interval:
    """The interval of the mean of K estimates from their own: the method of variance estimates recovery.

    residuals: of each estimate (P,), from which follows how much they go together. Source: Zou and Donner 2008,
    "Construction of confidence limits about effect measures: a general approach", Stat. Med. 27(10):1693-1702,
    doi:10.1002/sim.3095.
    """
    together = correlations(residuals)
    centre = np.array(values)
    below, above = centre - [found.low for found in intervals], np.array([found.high for found in intervals]) - centre
    reach = [float(np.sqrt(max(0.0, side @ together @ side))) / len(values) for side in (below, above)]
    return Interval(max(0.0, float(centre.mean()) - reach[0]), min(1.0, float(centre.mean()) + reach[1]))


def correlations(residuals: list[np.ndarray]) -> np.ndarray:
    """(K, K) float64: of estimates, from what each patient adds to each; 1 where one of them does not vary."""
    table = np.stack(residuals)  # (K, P)
    lengths = np.sqrt((table**2).sum(axis=1))
    products = np.outer(lengths, lengths)
    together = np.divide(table @ table.T, products, out=np.ones_like(products), where=products > 1e-18)
    np.fill_diagonal(together, 1.0)
    return together


def too_few(sizes: np.ndarray, at_least: int) -> str:
    """Why there are too few patients, or nothing. sizes: (P,) int64, cases of each patient; 0: none.

    Patients are counted by their cases, (sum n)^2 / sum n^2 (Kish 1965, "Survey sampling"), so that one patient with
    most of the cases is not taken for many patients.
    """
    if np.count_nonzero(sizes) < at_least:
        return f"fewer than {at_least} patients"
    if sizes.sum() ** 2 / (sizes**2).sum() < at_least - 1e-9:
        return f"fewer than {at_least} patients, counted by their cases"
    return ""


def solve(estimate: float, variance: Callable[[float], float]) -> Interval:
    """The values that are not rejected: those t with (estimate - t)^2 <= z^2 variance(t), for an estimate in 0..1."""

    def excess(value: float) -> float:
        return (estimate - value) ** 2 - Z**2 * variance(value)

    # At 0 and 1 the variance is 0 as well: an estimate there is no root that is looked for.
    from scipy.optimize import brentq  # 0.1 s of CPU time, which a start is spared

    low = 0.0 if estimate <= 0 else float(brentq(excess, 0.0, min(estimate, 1 - 1e-9)))
    high = 1.0 if estimate >= 1 else float(brentq(excess, max(estimate, 1e-9), 1.0))
    return Interval(low, high)


def _share(hits: np.ndarray, groups: np.ndarray, num_groups: int, at_least: int) -> ShareEstimate:
    """A share and its score interval with an effective number of cases: at the bound t that is sought,

        n_eff(t) = n / D(t),  D(t) = sum over patients (x - t n)^2 / sum over cases (x - t)^2, at least 1

    With one case a patient D = 1, and it is Wilson's (1927, doi:10.1080/01621459.1927.10502953); where all are right or
    all wrong it is Wilson's over the patients, counted by their cases. hits: (N,) float64; groups: (N,) int64. Source
    of D: the design effect of Rao and Scott 1992, "A simple method for the analysis of clustered binary data",
    Biometrics 48:577-585, doi:10.2307/2532311, with residuals from the hypothesis, as a score test takes them.
    """
    num_cases, value = len(hits), float(hits.mean())
    sizes = np.bincount(groups, minlength=num_groups)  # (P,)
    right = np.bincount(groups, weights=hits, minlength=num_groups)  # (P,)
    residuals = (right - value * sizes) / num_cases
    of_value = float(residuals @ residuals)
    if not residuals.any():  # nothing varies: as if the cases of a patient were one
        residuals = sizes / num_cases
    if reason := too_few(sizes, at_least):
        return ShareEstimate(value, Limits(None, reason=reason), of_value, residuals)
    squares, products, total = float(right @ right), float(right @ sizes), float(sizes @ sizes)

    def variance(t: float) -> float:
        of_cases = num_cases * (value * (1 - 2 * t) + t * t)
        of_patients = squares - 2 * t * products + t * t * total
        design_effect = max(1.0, of_patients / of_cases) if of_cases > 1e-12 else total / num_cases
        return t * (1 - t) * design_effect / num_cases

    is_repeated = int(sizes.max()) > 1
    method = "Wilson, effective number of cases" if is_repeated else "Wilson"
    return ShareEstimate(value, Limits(solve(value, variance), method), of_value, residuals)
