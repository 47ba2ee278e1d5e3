"""Differences between models as a forest plot, and what each modality adds to every case."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vwmm.analysis.comparison.compare import PairDifference
from vwmm.analysis.figures.style import INK, PALETTE, QUIET, dress, new_figure, plain

_GOLDEN = 0.6180339887498949


def difference_plot(pairs: Sequence[PairDifference], title: str) -> Figure:
    """One line a pair, the first on top; where there is no interval, a hollow point."""
    words = "; ".join(f"{one.a} minus {one.b}: {_shown(one)}" for one in pairs)
    figure = new_figure(7.2, 1.1 + 0.36 * len(pairs), f"{title}: difference with 95 % interval. {words}")
    axes = figure.subplots()
    axes.axvline(0, color=QUIET, linewidth=1)
    for place, one in enumerate(pairs):
        height, interval = len(pairs) - 1 - place, one.found.limits.interval
        if interval is not None:
            axes.plot([interval.low, interval.high], [height, height], color=PALETTE[0], linewidth=1.6)
            for end in interval:
                axes.plot([end, end], [height - 0.12, height + 0.12], color=PALETTE[0], linewidth=1.2)
        if one.found.value is not None:
            face = PALETTE[0] if interval is not None else "white"
            axes.plot(
                [one.found.value], [height], marker="s", markersize=6, color=PALETTE[0], markerfacecolor=face,
                linestyle="none",
            )  # fmt: skip
    axes.set_yticks(range(len(pairs)), [f"{plain(one.a)} \u2212 {plain(one.b)}" for one in reversed(pairs)])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    dress(axes, title=title, x="difference (right of 0: the first model is better)")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    return figure


def shapley_plot(values: np.ndarray, modalities: Sequence[str]) -> Figure:
    """A point a case in the line of each modality, a diamond at their mean. values: (N, M), of the true class."""
    means = ", ".join(f"{name} {value:+.3f}" for name, value in zip(modalities, values.mean(axis=0), strict=True))
    words = f"What each image adds to the probability of the true class, {len(values)} cases; means: {means}"
    figure = new_figure(7.2, 1.3 + 0.6 * len(modalities), words)
    axes = figure.subplots()
    axes.axvline(0, color=QUIET, linewidth=1)
    heights = (np.arange(len(values)) * _GOLDEN % 1 - 0.5) * 0.55  # spread evenly, the same each time
    for m in range(len(modalities)):
        line = len(modalities) - 1 - m
        axes.plot(
            values[:, m], line + heights, marker="o", linestyle="none", markersize=3, alpha=0.4, color=PALETTE[0],
            markeredgewidth=0,
        )  # fmt: skip
        axes.plot([values[:, m].mean()], [line], marker="D", markersize=8, color=PALETTE[1], markeredgecolor="white")
    axes.set_yticks(range(len(modalities)), [plain(name) for name in reversed(modalities)])
    axes.set_ylim(-0.6, len(modalities) - 0.4)
    dress(
        axes, title=f"What each image adds (N = {len(values)} cases)", x="Shapley value: probability of the true class"
    )
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    return figure


def _shown(one: PairDifference) -> str:
    interval = one.found.limits.interval
    if one.found.value is None:
        return "not defined"
    return f"{one.found.value:.3f}" + (f" ({interval.low:.3f} to {interval.high:.3f})" if interval else "")
