"""Calibration slope and intercept: a logistic regression of what was so on the log odds of the predictions.

Cox 1958, "Two further applications of a model for binary regression", doi:10.1093/biomet/45.3-4.562; read as in Van
Calster et al. 2019, "Calibration: the Achilles heel of predictive analytics", doi:10.1186/s12916-019-1466-7: a slope
below 1 means that the probabilities are too far from the middle (overconfident); the intercept, with the slope held at
1, is 0 where they are right on average, and above 0 where they are too low.
"""

import math
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.statistics.intervals import LEVEL, Interval, Limits, too_few

# With fewer patients on either side these intervals cover too little (benchmarks/interval_coverage.py).
MIN_FOR_REGRESSION = 50
_MAX_STEPS = 200


@dataclass(frozen=True)
class Estimate:
    """A number that may not exist."""

    value: float | None
    limits: Limits
    """Its 95 % interval."""
    reason: str = ""
    """Why it does not exist."""


def log_odds(probabilities: np.ndarray, label: int | np.ndarray) -> np.ndarray:
    """(N,) float64: ln p(k) - ln of the sum of the others, exact where p(k) has become 1.0; infinite where that is 0.

    probabilities: (N, K) float64; label: the class, or (N,) int64, one of each case.
    """
    chosen = np.zeros(probabilities.shape, dtype=bool)
    chosen[np.arange(len(probabilities)), label] = True
    others = np.where(chosen, 0.0, probabilities).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(probabilities[chosen]) - np.log(others))


def calibration_slope(odds: np.ndarray, hits: np.ndarray, patients: np.ndarray) -> Estimate:
    """b of logit P(hit) = a + b odds. odds: (N,) float64, log odds; hits: (N,) bool; patients: (N,)."""
    if reason := _cannot_fit(odds, hits):
        return _none(reason)
    if np.ptp(odds) == 0:
        return _none("all cases have the same probability")
    with_hit, without = odds[hits], odds[~hits]
    if without.max() <= with_hit.min() or with_hit.max() <= without.min():
        return _none("the two outcomes are perfectly separated: the slope has no finite estimate")
    centre, scale = float(odds.mean()), float(odds.std())
    design = np.stack([np.ones(len(odds)), (odds - centre) / scale], axis=1)  # (N, 2)
    fitted = _fit(design, hits.astype(np.float64))
    if fitted is None:
        return _none("the regression did not converge")
    errors = _standard_errors(design, hits - _sigmoid(design @ fitted), design @ fitted, patients)
    return Estimate(float(fitted[1]) / scale, _wald(float(fitted[1]) / scale, errors[1] / scale, hits, patients))


def calibration_intercept(odds: np.ndarray, hits: np.ndarray, patients: np.ndarray) -> Estimate:
    """a of logit P(hit) = a + odds: the calibration in the large. Arguments as of `calibration_slope`."""
    if reason := _cannot_fit(odds, hits):
        return _none(reason)
    from scipy.optimize import brentq  # 0.1 s of CPU time, which a start is spared

    num_hits, reach = float(hits.sum()), float(np.abs(odds).max()) + math.log(len(odds)) + 2
    value = float(brentq(lambda a: float(_sigmoid(odds + a).sum()) - num_hits, -reach, reach, xtol=1e-13, rtol=1e-15))
    design = np.ones((len(odds), 1))
    errors = _standard_errors(design, hits - _sigmoid(odds + value), odds + value, patients)
    return Estimate(value, _wald(value, errors[0], hits, patients))


def _none(reason: str) -> Estimate:
    return Estimate(None, Limits(None), reason)


def _cannot_fit(odds: np.ndarray, hits: np.ndarray) -> str:
    if len(hits) == 0:
        return "no case"
    if hits.all() or not hits.any():
        return "all cases have the same outcome"
    return "" if np.isfinite(odds).all() else "a probability is exactly 0 or 1"


def _fit(design: np.ndarray, hits: np.ndarray) -> np.ndarray | None:
    """(2,) float64: the likeliest coefficients, by Newton's method with halved steps; the maximum is known to exist."""
    found = np.zeros(2)
    slope, likelihood = _slope(design, hits, found), _likelihood(design @ found, hits)
    for _ in range(_MAX_STEPS):
        if np.abs(slope).max() <= 1e-13 * len(hits):
            break
        expected = _sigmoid(design @ found)
        information = (design * (expected * (1 - expected))[:, None]).T @ design
        step = np.linalg.lstsq(information, slope, rcond=None)[0]
        for _ in range(60):
            tried = found + step
            slope_there, likelihood_there = _slope(design, hits, tried), _likelihood(design @ tried, hits)
            # Near the maximum the likelihood is flat to the last bit, while its slope still falls.
            if likelihood_there > likelihood or np.abs(slope_there).max() < np.abs(slope).max():
                break
            step = step / 2
        else:
            break
        found, slope, likelihood = tried, slope_there, likelihood_there
    return found if np.abs(slope).max() <= 1e-9 * len(hits) else None


def _slope(design: np.ndarray, hits: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    return np.asarray(design.T @ (hits - _sigmoid(design @ coefficients)))


def _likelihood(logits: np.ndarray, hits: np.ndarray) -> float:
    return math.fsum(hits * logits - np.logaddexp(0.0, logits))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


def _standard_errors(design: np.ndarray, residuals: np.ndarray, logits: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """(C,) float64: of each coefficient the larger of the model's own and the one over patients (a sandwich)."""
    expected = _sigmoid(logits)
    inverse = np.linalg.pinv((design * (expected * (1 - expected))[:, None]).T @ design)
    groups = np.unique(patients, return_inverse=True)[1]
    scores = np.stack([np.bincount(groups, weights=column * residuals) for column in design.T], axis=1)  # (P, C)
    number = len(scores)
    robust = inverse @ (scores.T @ scores) @ inverse * number / max(1, number - design.shape[1])
    return np.asarray(np.sqrt(np.maximum(np.diag(inverse), np.diag(robust))))


def _wald(value: float, error: float, hits: np.ndarray, patients: np.ndarray) -> Limits:
    """Student's interval, with as many degrees of freedom as the rarer outcome has patients, less one."""
    from scipy.special import stdtrit

    sizes = [np.unique(patients[chosen], return_counts=True)[1] for chosen in (hits, ~hits)]
    if any(too_few(size, MIN_FOR_REGRESSION) for size in sizes):
        return Limits(None, reason=f"fewer than {MIN_FOR_REGRESSION} patients with either outcome")
    if not math.isfinite(error) or error <= 0:
        return Limits(None, reason="its standard error is not finite")
    half = error * float(stdtrit(min(map(len, sizes)) - 1, (1 + LEVEL) / 2))
    return Limits(Interval(value - half, value + half), "Wald, over patients")
