"""Decision curve: the net benefit of acting on the prediction, beside acting on everybody and on nobody.

Vickers and Elkin 2006, "Decision curve analysis", doi:10.1177/0272989X06295361: who acts from a probability t on
holds a missed case for (1 - t) / t times as bad as a needless action, so that false positives count t / (1 - t).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from vwmm.analysis.figures.rates import BAND
from vwmm.analysis.figures.style import INK, dress, line_look, new_figure, plain
from vwmm.analysis.statistics.intervals import Limits, net_benefit_limits
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

THRESHOLDS = np.arange(1, 100) / 100


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefits by threshold, in true positives a case; acting on nobody has 0."""

    thresholds: np.ndarray
    """(T,) float64, rising, between 0 and 1."""
    model: np.ndarray
    """(T,) float64: acting where the probability reaches the threshold."""
    everybody: np.ndarray
    """(T,) float64: acting in every case."""
    limits: tuple[Limits, ...] = ()
    """T 95 % intervals of `model`, each at its threshold alone."""


def decision_curve(
    is_class: np.ndarray, scores: np.ndarray, patients: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> DecisionCurve:
    """is_class: (N,) bool, N >= 1; scores: (N,) float64, its probability; patients: (N,); thresholds: (T,), rising."""
    number, weights = len(is_class), thresholds / (1 - thresholds)
    positives, negatives = np.sort(scores[is_class]), np.sort(scores[~is_class])
    hits = len(positives) - np.searchsorted(positives, thresholds, "left")
    alarms = len(negatives) - np.searchsorted(negatives, thresholds, "left")
    everybody = (len(positives) - len(negatives) * weights) / number
    limits = tuple(
        net_benefit_limits((scores >= at) & is_class, (scores >= at) & ~is_class, patients, float(weight))
        for at, weight in zip(thresholds, weights, strict=True)
    )
    return DecisionCurve(thresholds, (hits - alarms * weights) / number, everybody, limits)


def decision_plot(predictions: RecordedPredictions, classes: Sequence[str]) -> Figure:
    """The curve of class 1 of two classes."""
    is_class, name = predictions.labels == 1, plain(classes[1], limit=26)
    curve = decision_curve(is_class, predictions.probabilities[:, 1], predictions.patients)
    share = float(is_class.mean())
    shown = "; ".join(f"{curve.model[at]:.3f} at {curve.thresholds[at]:.1f}" for at in (9, 29, 49, 69))
    figure = new_figure(4.9, 5.4, f"Decision curve of {name}: net benefit of acting on the prediction {shown}.")
    axes = figure.subplots()
    spans = [one.interval for one in curve.limits]
    if spans[0] is not None:
        low, high = zip(*[span for span in spans if span is not None], strict=True)
        axes.fill_between(curve.thresholds, low, high, color=BAND, linewidth=0)
    lines = (("model", curve.model), ("act on all", curve.everybody), ("act on none", np.zeros(len(curve.thresholds))))
    for number, (label, values) in enumerate(lines):
        look = line_look(number)
        axes.plot(
            curve.thresholds, values, color=look["color"], linestyle=look["linestyle"], label=label, linewidth=1.8
        )
    dress(axes, title=f"Decision curve (N = {len(is_class)} cases)", x=f"threshold: probability of {name}",
          y="net benefit, true positives a case")  # fmt: skip
    top = max(share, 0.05)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.25 * top, 1.08 * top)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
    return figure
