"""Learning curves: scores over epochs, each line named at its end."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vwmm.analysis.figures.style import INK, LineLook, dress, label_ends, line_look, new_figure, plain
from vwmm.analysis.run_record import History
from vwmm.analysis.statistics.metrics import METRICS

MAX_POINTS = 500
_NUM_MARKERS = 8
_BY_STEP = "#A8B3BD"


def learning_curves(history: History, *, panels: Sequence[str] = ("loss", "scores")) -> Figure:
    """Loss and validation scores over epochs, one above the other, or one of them; the best epoch is marked."""
    validation = history.validation
    words = f"Learning curves of {' and '.join(panels)} {_describe(history)}"
    figure = new_figure(5.4, 0.4 + 2.9 * len(panels), words)
    cases = validation["cases"].dropna()
    count = f" (validation N = {int(cases.iloc[-1])} cases)" if len(cases) else ""
    for panel, axes in zip(panels, figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], strict=True):
        if panel == "loss":
            _draw_losses(axes, history)
            dress(axes, title=f"Loss{count}", x="epoch", y="mean loss per case")
        else:
            for number, (column, metric) in enumerate(METRICS.items()):
                _line(axes, validation, column, metric.name, number)
            dress(axes, title=f"Scores{count}", x="epoch", y="score")
            axes.set_ylim(-0.02, 1.02)
        last = max([1.0, *validation["epoch"].dropna(), *history.train["epochs_done"].dropna()])
        _finish(axes, history, last, name_best_at="top" if panel == "loss" else "bottom")
    return figure


def modality_curves(history: History) -> Figure:
    """Of each modality by itself and of all together, a validation score over epochs: AUROC, else accuracy."""
    has_auroc = history.validation["auroc"].notna().any()
    score, title = ("auroc", "AUROC") if has_auroc else ("accuracy", "Accuracy")
    figure = new_figure(5.4, 3.3, f"{title} of each modality by itself {_describe(history)}")
    axes = figure.subplots()
    _line(axes, history.validation, score, "all together", 0)
    for number, (name, table) in enumerate(history.unimodal.items(), 1):
        cases = table["cases"].dropna()
        count = f" (N = {int(cases.iloc[-1])})" if len(cases) else ""
        _line(axes, table, score, plain(name, limit=24) + count, number)
    dress(axes, title=f"{title} of each modality by itself", x="epoch", y=title)
    axes.set_ylim(-0.02, 1.02)
    _finish(axes, history, max([1.0, *history.validation["epoch"].dropna()]), name_best_at="bottom")
    return figure


def thin(x: np.ndarray, y: np.ndarray, max_points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `max_points` of a curve, each the mean of consecutive points; x, y: (N,) float64."""
    if len(x) <= max_points:
        return x, y
    starts = np.linspace(0, len(x), max_points, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes


def _describe(history: History) -> str:
    epochs = history.validation["epoch"].dropna()
    best = f"; the best is epoch {history.best_epoch}" if history.best_epoch is not None else ""
    return f"over {len(epochs)} epochs{best}."


def _draw_losses(axes: Axes, history: History) -> None:
    steps = history.train.dropna(subset=["epochs_done", "loss"])
    if len(steps):
        x, y = thin(steps["epochs_done"].to_numpy(), steps["loss"].to_numpy())
        axes.plot(x, y, color=_BY_STEP, linewidth=1, label="training, by step")
    _line(axes, history.validation, "train_loss", "training, by epoch", 0)
    _line(axes, history.validation, "loss", "validation", 1)


def _line(axes: Axes, table: pd.DataFrame, column: str, label: str, number: int) -> None:
    points = table.dropna(subset=["epoch", column])
    if len(points):
        look: LineLook = line_look(number)
        every = (number % 3, -(-len(points) // _NUM_MARKERS)) if len(points) > _NUM_MARKERS else None
        axes.plot(points["epoch"], points[column], label=label, linewidth=1.8, markersize=4.5, markevery=every, **look)


def _finish(axes: Axes, history: History, last: float, *, name_best_at: Literal["top", "bottom"]) -> None:
    """The best epoch, the axis of epochs, and the names at the ends of the lines.

    name_best_at: losses end low and scores end high, so that the name of the best epoch stands at the other end.
    """
    axes.set_xlim(0, last * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#E3E7EB", linewidth=0.8)
    label_ends(axes)
    best = history.best_epoch
    if best is not None:
        is_late = best > 0.6 * last
        axes.axvline(best, color=INK, linewidth=1, linestyle=":")
        height = 0.99 if name_best_at == "top" else 0.03
        axes.annotate(f"best: epoch {best}", (best, height), (-4 if is_late else 4, 0), fontsize=9, color=INK,
                      va=name_best_at, ha="right" if is_late else "left", xycoords=axes.get_xaxis_transform(),
                      textcoords="offset points")  # fmt: skip
