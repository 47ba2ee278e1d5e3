"""ROC and precision-recall figures, one panel per class."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vwmm.analysis.figures.precision_recall import PrecisionCurve, precision_curves
from vwmm.analysis.figures.roc_band import roc_band
from vwmm.analysis.figures.style import INK, PALETTE, QUIET, dress, new_figure, plain
from vwmm.analysis.statistics.intervals import Interval
from vwmm.analysis.statistics.metrics import class_ranks, roc_curves
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

BAND = "#C9DCEA"


def roc(
    predictions: RecordedPredictions, classes: Sequence[str], *, intervals: Sequence[Interval | None] = (),
    folds: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """ROC curves, each with its AUROC, interval and band: of class 1 for two classes, else of each against the rest.

    intervals: one per class; folds: (N,), of two classes each fold's own curve is drawn as a thin line.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    curves = [curve for curve in roc_curves(labels, probabilities) if len(classes) > 2 or curve.label == 1]
    heads = []
    for curve in curves:
        interval = intervals[curve.label] if curve.label < len(intervals) else None
        heads.append(_head(labels, curve.label, classes, f"AUROC {_valued(curve.auroc, interval)}"))
    figure, panels = _panels(heads, f"ROC (N = {len(labels)} cases)", "ROC curves")
    ranks = class_ranks(probabilities) if curves else np.zeros((0, 0))
    for curve, axes in zip(curves, panels, strict=True):
        band = roc_band(labels == curve.label, ranks[:, curve.label], predictions.patients)
        if band is not None:
            axes.fill_between([*band.false_positive_rate, 1.0], [*band.low, band.low[-1]], [*band.high, band.high[-1]],
                              step="post", color=BAND, linewidth=0)  # fmt: skip
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
        if folds is not None and len(classes) == 2:
            _draw_folds(axes, labels, probabilities, folds)
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=PALETTE[0], linewidth=1.8)
        axes.text(0.62, 0.55, "guessing", fontsize=8.5, color=INK, ha="left", va="top")
    _label(figure, panels, "1 \u2212 specificity", "sensitivity")
    return figure


def precision_recall(predictions: RecordedPredictions, classes: Sequence[str]) -> Figure:
    """Precision over sensitivity, with the area below it: of class 1 for two classes, else of each against the rest."""
    labels = predictions.labels
    curves = [
        curve
        for curve in precision_curves(labels, predictions.probabilities, predictions.patients)
        if len(classes) > 2 or curve.label == 1
    ]
    heads = [
        _head(labels, curve.label, classes, f"area {_valued(curve.average_precision, curve.limits.interval)}")
        for curve in curves
    ]  # fmt: skip
    title = f"Precision and sensitivity (N = {len(labels)} cases)"
    figure, panels = _panels(heads, title, "Precision over sensitivity")
    for curve, axes in zip(curves, panels, strict=True):
        _draw_precision(axes, curve)
    _label(figure, panels, "sensitivity", "precision")
    return figure


def _draw_precision(axes: Axes, curve: PrecisionCurve) -> None:
    axes.plot([0, 1], [curve.share, curve.share], color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
    below = curve.share > 0.5
    axes.text(0.02, curve.share + (-0.015 if below else 0.015), f"guessing: {100 * curve.share:.0f} %", fontsize=8.5,
              color=INK, va="top" if below else "bottom")  # fmt: skip
    # Precision at a threshold holds from the sensitivity of the one before it to its own.
    axes.plot([0.0, *curve.sensitivity], [curve.precision[0], *curve.precision], color=PALETTE[0], linewidth=1.8,
              drawstyle="steps-pre")  # fmt: skip


def _draw_folds(axes: Axes, labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray) -> None:
    names = np.unique(folds)
    for fold in names:
        for curve in roc_curves(labels[folds == fold], probabilities[folds == fold])[1:]:
            axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=QUIET, linewidth=0.7)
    axes.text(0.98, 0.03, f"thick: all cases; thin: each of {len(names)} folds", fontsize=8.5, color=INK, ha="right")


def _head(labels: np.ndarray, label: int, classes: Sequence[str], value: str) -> tuple[str, str, str]:
    """The lines above a panel."""
    return plain(classes[label], limit=30), f"N = {int(np.sum(labels == label))} of {len(labels)}", value


def _valued(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + (f" ({interval.low:.3f} to {interval.high:.3f})" if interval else "")


def _panels(heads: Sequence[tuple[str, str, str]], title: str, description: str) -> tuple[Figure, list[Axes]]:
    """A figure with a square panel for each head; without heads it shows "not defined"."""
    number = max(1, len(heads))
    columns = 1 if number == 1 else 2 if number <= 4 else 3 if number <= 9 else 4
    rows = math.ceil(number / columns)
    width = 4.9 if columns <= 2 else 7.8
    text = "; ".join(": ".join(head) for head in heads) or "not defined"
    figure = new_figure(width, 0.5 + rows * ((width - 0.4) / columns + 0.45), f"{description}, 95 % interval: {text}.")
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left", fontweight="bold")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel())
    for axes, head in zip(panels, heads, strict=False):
        axes.set_title("\n".join(head), loc="left")
    for axes in panels[: max(1, len(heads))]:
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
    if not heads:
        panels[0].text(0.5, 0.5, "not defined", ha="center", va="center", color=INK, fontsize=11)
        return figure, []
    for axes in panels[len(heads) :]:
        axes.remove()
    for number, axes in enumerate(panels[: len(heads)]):
        is_lowest = number + columns >= len(heads)
        axes.tick_params(labelbottom=is_lowest, labelleft=number % columns == 0)
    return figure, panels[: len(heads)]


def _label(figure: Figure, panels: Sequence[Axes], x: str, y: str) -> None:
    size = 8.5 if len(panels) <= 9 else 7.0  # four in a row are narrow
    for axes in panels:
        title = axes.get_title(loc="left")
        dress(axes, title="")
        axes.set_title(title, fontsize=size, color=INK, loc="left", fontweight="normal")
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
    if panels:
        figure.supxlabel(x, fontsize=10.5, color=INK)
        figure.supylabel(y, fontsize=10.5, color=INK)
