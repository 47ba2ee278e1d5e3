"""The figures of the report. Each function returns a matplotlib Figure and touches no global state (no pyplot)."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vwmm.analysis.intervals import Interval
from vwmm.analysis.metrics import roc_curves
from vwmm.analysis.records import History
from vwmm.analysis.svg import INK, LINE_STYLES, PALETTE, QUIET, dress, new_figure, plain, to_svg

__all__ = [
    "Example", "class_counts", "confusion", "examples", "learning_curves", "modality_curves", "modality_presence",
    "roc", "to_svg",
]  # fmt: skip

MAX_POINTS = 500
MAX_COMBINATIONS = 12
MAX_IMAGE_PIXELS = 256
SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Example:
    """One case to look at, without anything that says whose it is."""

    title: str
    """Heading, such as `Example 1`; never an identifier."""
    images: Mapping[str, np.ndarray | None]
    """(rows, columns) float in 0..1 by modality; None: missing."""
    label: str
    """The true class."""
    predicted: str
    """The class with the highest probability."""
    probability: float
    """Probability of the predicted class."""


def learning_curves(history: History, *, panels: Sequence[str] = ("loss", "scores")) -> Figure:
    """Loss and validation scores over epochs, one above the other, or one of them; the best epoch is marked."""
    validation = history.validation
    figure = new_figure(5.4, 0.4 + 2.9 * len(panels), f"{' and '.join(panels).capitalize()}: {_describe(history)}")
    cases = validation["cases"].dropna()
    count = f" (validation N = {int(cases.iloc[-1])} cases)" if len(cases) else ""
    for panel, axes in zip(panels, figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], strict=True):
        if panel == "loss":
            _draw_losses(axes, history)
            dress(axes, title=f"Loss{count}", x="epoch", y="mean loss per case")
        else:
            for number, (column, name) in enumerate(SCORES.items()):
                _line(axes, validation, column, name, number)
            dress(axes, title=f"Scores{count}", x="epoch", y="score")
            axes.set_ylim(-0.02, 1.02)
        if history.best_epoch is not None:
            axes.axvline(history.best_epoch, color=INK, linewidth=1, linestyle="--",
                         label=f"best: epoch {history.best_epoch}")  # fmt: skip
        axes.set_xlim(0, max([1.0, *validation["epoch"].dropna(), *history.train["epochs_done"].dropna()]) * 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#E3E7EB", linewidth=0.8)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9.5, frameon=False, labelcolor=INK)
    return figure


def modality_curves(history: History) -> Figure:
    """Of each modality by itself and of all together, a validation score over epochs: AUROC, else accuracy."""
    has_auroc = history.validation["auroc"].notna().any()
    score, title = ("auroc", "AUROC") if has_auroc else ("accuracy", "Accuracy")
    figure = new_figure(5.4, 3.3, f"{title} of each modality by itself: {_describe(history)}")
    axes = figure.subplots()
    _line(axes, history.validation, score, "all together", 0)
    for number, (name, table) in enumerate(history.alone.items(), 1):
        cases = table["cases"].dropna()
        count = f" (N = {int(cases.iloc[-1])})" if len(cases) else ""
        _line(axes, table, score, plain(name, limit=24) + count, number)
    dress(axes, title=f"{title} of each modality by itself", x="epoch", y=title)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, max([1.0, *history.validation["epoch"].dropna()]) * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#E3E7EB", linewidth=0.8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=9.5, frameon=False, labelcolor=INK)
    return figure


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts and row percentages; matrix: (K, K) int, true classes in rows."""
    num_classes = len(classes)
    is_small = num_classes <= 8
    names = [_wrapped(name) if is_small else plain(name, limit=22) for name in classes]
    rows = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    right = int(np.trace(matrix))
    cell_in, count_size = (0.75, 12.0) if is_small else (0.52, 10.0)
    figure = new_figure(
        2.2 + cell_in * max(num_classes, 3), 1.4 + 0.85 * cell_in * max(num_classes, 3),
        f"Confusion matrix of {matrix.sum()} cases, {right} of them on the diagonal. " + "; ".join(
            f"{plain(name, escape_math=False)}: {matrix[i, i]} of {rows[i, 0]} right" for i, name in enumerate(classes)
        ),
    )  # fmt: skip
    axes = figure.subplots()
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1.25, edgecolors="white", linewidth=2)
    for row, column in np.ndindex(matrix.shape):
        percent = f"{100 * shares[row, column]:.0f} %" if rows[row, 0] else "\u2013"
        colour, weight = ("white" if shares[row, column] > 0.8 else INK), ("bold" if row == column else "normal")
        axes.text(column + 0.5, row + 0.38, str(matrix[row, column]), ha="center", va="center", color=colour,
                  fontsize=count_size, fontweight=weight)  # fmt: skip
        axes.text(column + 0.5, row + 0.72, percent, ha="center", va="center", color=colour,
                  fontsize=count_size - 2.5)  # fmt: skip
    dress(axes, title=f"Confusion matrix (N = {matrix.sum()} cases)", x="predicted class", y="true class")
    slanted = num_classes > 4 or any(len(line) > 11 for name in names for line in name.splitlines())
    axes.set_xticks(np.arange(num_classes) + 0.5, names, rotation=35 if slanted else 0, ha="right" if slanted else
                    "center", rotation_mode="anchor" if slanted else "default")  # fmt: skip
    axes.set_yticks(
        np.arange(num_classes) + 0.5,
        [f"{n}{chr(10) if is_small else ', '}N = {rows[i, 0]}" for i, n in enumerate(names)],
    )
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def roc(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *,
    intervals: Sequence[Interval | None] = (), folds: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """ROC curves with AUROC and interval in the legend: of class 1 for two classes, else of each against the rest.

    labels: (N,) int64; probabilities: (N, K) float64; intervals: one per class, for the legend; folds:
    (N,), of two classes each fold's own curve is drawn as a thin line.
    """
    curves = [curve for curve in roc_curves(labels, probabilities) if len(classes) > 2 or curve.label == 1]
    entries = []
    for curve in curves:
        interval = intervals[curve.label] if curve.label < len(intervals) else None
        span = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
        count = int(np.sum(labels == curve.label))
        entries.append(f"{plain(classes[curve.label], limit=26)}, N = {count}: {curve.auroc:.3f}{span}")
    figure = new_figure(4.9, 5.4 + 0.26 * len(curves), "ROC curves; area under the curve: " + "; ".join(entries))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
    names = np.unique(folds) if folds is not None and len(classes) == 2 else np.array([])
    for number, fold in enumerate(names):
        for curve in roc_curves(labels[folds == fold], probabilities[folds == fold])[1:]:
            axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=QUIET, linewidth=0.7, alpha=0.7,
                      label=f"each of {len(names)} folds" if number == 0 else None)  # fmt: skip
    for curve, entry in zip(curves, entries, strict=True):
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, label=entry, linewidth=1.8,
                  **_look(curve.label))  # fmt: skip
    dress(axes, title=f"ROC (N = {len(labels)} cases)", x="1 \u2212 specificity", y="sensitivity")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    if curves:
        figure.legend(loc="outside lower center", fontsize=9.5, frameon=False, labelcolor=INK,
                      title="AUROC (95 % interval)", title_fontsize=9.5)  # fmt: skip
    else:
        axes.text(0.5, 0.5, "not defined", ha="center", va="center", color=INK, fontsize=11)
    return figure


def class_counts(split_table: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Cases of each class in each split; split_table: a row per case with `label` and `split`."""
    splits = [split for split in SPLITS if (split_table["split"] == split).any()]
    counts = pd.crosstab(split_table["label"], split_table["split"])
    counts = counts.reindex(index=list(classes), columns=splits, fill_value=0)
    figure = new_figure(5.4, 1.3 + len(classes) * (0.12 + 0.25 * max(1, len(splits))), "Cases: " + "; ".join(
        f"{plain(name, escape_math=False)}: " + ", ".join(f"{counts[s][name]} {SPLITS[s]}" for s in splits)
        for name in classes
    ))  # fmt: skip
    axes = figure.subplots()
    thickness = 0.8 / max(1, len(splits))
    for number, split in enumerate(splits):
        places = np.arange(len(classes)) - 0.4 + (number + 0.5) * thickness
        total = int(counts[split].sum())
        bars = axes.barh(places, counts[split], thickness * 0.9, color=PALETTE[number],
                         label=f"{SPLITS[split]} (N = {total})")  # fmt: skip
        axes.bar_label(bars, padding=3, fontsize=9.5, color=INK)
    dress(axes, title=f"Classes by split (N = {len(split_table)} cases)", x="cases")
    axes.set_yticks(np.arange(len(classes)), [_wrapped(name) for name in classes])
    axes.invert_yaxis()
    _leave_room(axes)
    if splits:
        figure.legend(loc="outside lower center", ncols=len(splits), fontsize=9.5, frameon=False, labelcolor=INK)
    return figure


def modality_presence(presence: pd.DataFrame) -> Figure:
    """How many cases have which combination of modalities; presence: a row per case, a bool column per modality."""
    counts = combinations(presence)
    shown = counts[:MAX_COMBINATIONS]
    names = [combination_name(list(presence.columns), flags) for flags, _ in shown]
    values = [count for _, count in shown]
    if len(counts) > len(shown):
        names.append(f"{len(counts) - len(shown)} other combinations")
        values.append(sum(count for _, count in counts[len(shown) :]))
    figure = new_figure(5.4, 1.1 + 0.36 * max(2, len(names)), "Cases by the modalities they have: " + "; ".join(
        f"{name}: {value}" for name, value in zip(names, values, strict=True)
    ))  # fmt: skip
    axes = figure.subplots()
    bars = axes.barh(np.arange(len(names)), values, 0.66, color=PALETTE[0])
    axes.bar_label(bars, padding=3, fontsize=9.5, color=INK)
    dress(axes, title=f"Modalities present (N = {len(presence)} cases)", x="cases")
    axes.set_yticks(np.arange(len(names)), [_wrapped(name, width=26, lines=3) for name in names])
    axes.invert_yaxis()
    _leave_room(axes)
    return figure


def examples(shown: Sequence[Example]) -> Figure:
    """A row per example, a column per modality, grey scale; an empty cell says that the image is missing."""
    modalities = list(dict.fromkeys(name for example in shown for name in example.images))
    headings = [f"{plain(example.title, limit=60)}\n{verdict(example)}" for example in shown]
    figure = new_figure(max(4.8, 1.65 * len(modalities)), 2.4 * max(1, len(shown)), "; ".join(headings))
    rows = figure.subfigures(max(1, len(shown)), 1, squeeze=False)[:, 0]
    for example, heading, row in zip(shown, headings, rows, strict=False):
        row.suptitle(heading, fontsize=10.5, color=INK, x=0.01, ha="left")
        for axes, name in zip(row.subplots(1, len(modalities), squeeze=False)[0], modalities, strict=True):
            _show_image(axes, example.images.get(name), plain(name, limit=20))
    return figure


def verdict(example: Example) -> str:
    """What the model said of an example, in words."""
    outcome = "right" if example.label == example.predicted else "wrong"
    predicted = f"{plain(example.predicted, limit=24)} ({100 * example.probability:.0f} %)"
    return f"true class {plain(example.label, limit=24)}\n{outcome}: predicted {predicted}"


def combinations(presence: pd.DataFrame) -> list[tuple[tuple[bool, ...], int]]:
    """Each combination of present modalities with its number of cases, the most frequent first."""
    counted = Counter(tuple(map(bool, row)) for row in presence.to_numpy())
    return sorted(counted.items(), key=lambda pair: (-pair[1], [not flag for flag in pair[0]]))


def combination_name(modalities: Sequence[str], flags: Sequence[bool]) -> str:
    """`vw_mri + ct`, `all 3`, `none`; of more than three modalities the shorter `all but pet`."""
    present, absent = ([n for n, flag in zip(modalities, flags, strict=True) if flag is kind] for kind in (True, False))
    if not absent and len(present) > 1:
        return f"all {len(present)}"
    if len(modalities) > 3 and len(absent) < len(present):
        return "all but " + " + ".join(absent)
    return " + ".join(present) or "none"


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
    return f"learning curves over {len(epochs)} epochs{best}"


def _draw_losses(axes: Axes, history: History) -> None:
    steps = history.train.dropna(subset=["epochs_done", "loss"])
    if len(steps):
        x, y = thin(steps["epochs_done"].to_numpy(), steps["loss"].to_numpy())
        axes.plot(x, y, color="#A8B3BD", linewidth=1, label="training, by step")
    _line(axes, history.validation, "train_loss", "training, by epoch", 0)
    _line(axes, history.validation, "loss", "validation", 1)


def _line(axes: Axes, table: pd.DataFrame, column: str, label: str, number: int) -> None:
    points = table.dropna(subset=["epoch", column])
    if len(points):
        marker = "o" if len(points) <= 40 else ""
        axes.plot(points["epoch"], points[column], label=label, linewidth=1.8, marker=marker, markersize=3.2,
                  **_look(number))  # fmt: skip


def _look(number: int) -> dict[str, Any]:
    style = LINE_STYLES[number // len(PALETTE) % len(LINE_STYLES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style}


def _leave_room(axes: Axes) -> None:
    """Whole numbers on the axis of counts, and space for the number at the end of the longest bar."""
    axes.set_xlim(0, max(1.0, axes.dataLim.x1) * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _wrapped(name: str, width: int = 18, lines: int = 2) -> str:
    one_line = plain(name, limit=width * lines, escape_math=False)
    return textwrap.fill(one_line, width, max_lines=lines, placeholder="\u2026").replace("$", r"\$")


def _show_image(axes: Axes, image: np.ndarray | None, name: str) -> None:
    axes.set_title(name, fontsize=10, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    if image is None:
        axes.set_facecolor("#F2F4F6")
        axes.set_box_aspect(1)
        axes.text(0.5, 0.5, "missing", ha="center", va="center", color=INK, fontsize=10.5, transform=axes.transAxes)
        return
    assert image.ndim == 2, f"expected an image of shape (rows, columns), got {image.shape}"
    step = -(-max(image.shape) // MAX_IMAGE_PIXELS)
    grey = np.clip(np.nan_to_num(image[::step, ::step].astype(np.float64)), 0, 1)
    axes.imshow(grey, cmap=colormaps["gray"], vmin=0, vmax=1, interpolation="none")
