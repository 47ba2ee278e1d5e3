"""Risk-coverage curve: how often the model errs in the cases that it is surest of.

El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification", JMLR 11:1605-1641. Sure: by the
log odds of the predicted class, so that probabilities which have become 1.0 keep their order.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from vwmm.analysis.figures.style import PALETTE, QUIET, dress, new_figure
from vwmm.analysis.statistics.logistic_calibration import log_odds
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number, share

_TENTHS = 10


@dataclass(frozen=True)
class Answered:
    """The cases that are answered if the others are left to a person."""

    coverage: float
    """Their share of all cases."""
    confidence: float
    """The least probability of the predicted class among them."""
    wrong: Number
    """The share of them that is wrong."""


def risk_coverage(predictions: RecordedPredictions) -> list[Answered]:
    """The surest tenth of the cases, two tenths, ..., all; cases that are equally sure stay together."""
    order, ends = _order(predictions)
    confidence = predictions.probabilities.max(axis=1)[order]
    is_wrong, found = (predictions.predicted != predictions.labels)[order], list[Answered]()
    wanted = [len(order) * tenth / _TENTHS for tenth in range(1, _TENTHS + 1)]
    for end in dict.fromkeys(int(ends[np.searchsorted(ends, number - 1e-9, "left")]) for number in wanted):
        wrong = share(is_wrong[:end], predictions.patients[order][:end])
        found.append(Answered(end / len(order), float(confidence[:end].min()), wrong))
    return found


def _order(predictions: RecordedPredictions) -> tuple[np.ndarray, np.ndarray]:
    """The cases from the surest on, and how many there are down to each level of sureness: (N,), (L,) int64."""
    odds = log_odds(predictions.probabilities, predictions.predicted)
    order = np.argsort(-odds, kind="stable")
    return order, 1 + np.append(np.flatnonzero(odds[order][1:] != odds[order][:-1]), len(order) - 1)


def risk_coverage_plot(predictions: RecordedPredictions) -> Figure:
    """The share of wrong predictions over the share of cases that are answered, with intervals at the tenths."""
    points = risk_coverage(predictions)
    shown = "; ".join(f"{one.wrong.value:.2f} of the surest {one.coverage:.0%}" for one in points)
    figure = new_figure(4.9, 5.4, f"Risk-coverage curve, share of wrong predictions: {shown}.")
    axes = figure.subplots()
    order, ends = _order(predictions)
    is_wrong = (predictions.predicted != predictions.labels)[order]
    errors = np.cumsum(is_wrong)[ends - 1] / ends
    axes.axhline(float(is_wrong.mean()), color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
    axes.plot(ends / len(order), errors, color=PALETTE[0], linewidth=1.8)
    tops = [float(errors.max(initial=0.0))]
    for one in points:
        if one.wrong.limits.interval is not None and one.wrong.value is not None:
            low, high = one.wrong.limits.interval
            tops.append(high)
            axes.vlines(one.coverage, low, high, color=PALETTE[0], linewidth=1.2)
            axes.plot([one.coverage], [one.wrong.value], color=PALETTE[0], marker="o", markersize=4)
    dress(axes, title=f"Risk and coverage (N = {len(order)} cases)", x="share of cases answered, the surest first",
          y="share of them that is wrong")  # fmt: skip
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(0.1, 1.05 * max(tops)))
    return figure
