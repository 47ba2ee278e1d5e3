"""Temperature scaling: one number that makes all probabilities more or less extreme.

Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599. The order of the classes stays.
"""

import math

import numpy as np

MIN_CASES = 20
_BOUNDS = (1e-4, 1e4)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float | None, str]:
    """The likeliest temperature, or None and why there is none. labels: (N,) int64; probabilities: (N, K) float64.

    Of the inverse temperature b the log loss is convex; its derivative is the mean of E z - z(true class), z being the
    logits and E the mean over the scaled probabilities.
    """
    if len(labels) < MIN_CASES:
        return None, f"fewer than {MIN_CASES} validation cases"
    logits = log_probabilities(probabilities)
    rows = np.arange(len(labels))
    if (logits[rows, labels] >= logits.max(axis=1)).all():
        return None, "every validation case is right: the likeliest temperature is 0"

    def slope(log_inverse: float) -> float:
        expected = (scaled(logits, math.exp(-log_inverse)) * logits).sum(axis=1)
        return float((expected - logits[rows, labels]).mean())

    from scipy.optimize import brentq  # 0.1 s of CPU time, which a start is spared

    low, high = (-math.log(bound) for bound in reversed(_BOUNDS))
    if slope(low) >= 0:
        return None, "on the validation cases the probabilities are no better than guessing"
    if slope(high) <= 0:
        return None, "the likeliest temperature is below 0.0001"
    return math.exp(-float(brentq(slope, low, high, xtol=1e-13, rtol=1e-14))), ""


def rescale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(N, K) float64: the probabilities at another temperature; above 1 they are less extreme."""
    return scaled(log_probabilities(probabilities), temperature)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """(N, K) float64: logits up to a constant in each row; a probability of 0 counts as the least of float64."""
    return np.asarray(np.log(np.maximum(probabilities, math.ulp(0.0))))


def scaled(logits: np.ndarray, temperature: float) -> np.ndarray:
    """(N, K) float64: softmax of logits divided by a temperature."""
    shifted = (logits - logits.max(axis=1, keepdims=True)) / temperature
    parts = np.exp(shifted)
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))
