"""Figures of the cohort, the confusion matrix and example cases."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vwmm.analysis.figures.style import INK, PALETTE, dress, new_figure, plain, to_svg

__all__ = ["Example", "class_counts", "confusion", "examples", "modality_presence", "to_svg"]

MAX_COMBINATIONS = 12
MAX_IMAGE_PIXELS = 256
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Example:
    """One example case, without identifiers."""

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
        ) + ".",
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


def class_counts(split_table: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Cases of each class in each split; split_table: a row per case with `label` and `split`."""
    splits = [split for split in SPLITS if (split_table["split"] == split).any()]
    counts = pd.crosstab(split_table["label"], split_table["split"])
    counts = counts.reindex(index=list(classes), columns=splits, fill_value=0)
    words = "; ".join(
        f"{plain(name, escape_math=False)}: " + ", ".join(f"{counts[s][name]} {SPLITS[s]}" for s in splits)
        for name in classes
    )
    height = 1.3 + len(classes) * (0.12 + 0.25 * max(1, len(splits)))
    figure = new_figure(5.4, height, f"Cases of each class by split: {words}.")
    axes = figure.subplots()
    thickness = 0.8 / max(1, len(splits))
    for number, split in enumerate(splits):
        places = np.arange(len(classes)) - 0.4 + (number + 0.5) * thickness
        bars = axes.barh(places, counts[split], thickness * 0.9, color=PALETTE[number])
        labels = [f"{count} {SPLITS[split]}" for count in counts[split]]
        axes.bar_label(bars, labels=labels, padding=3, fontsize=9.5, color=INK)
    total = ", ".join(f"{int(counts[split].sum())} {SPLITS[split]}" for split in splits)
    dress(axes, title=f"Classes by split (N = {len(split_table)} cases)", x=f"cases: {total}" if total else "cases")
    axes.set_yticks(np.arange(len(classes)), [_wrapped(name) for name in classes])
    axes.invert_yaxis()
    _leave_room(axes, 1.4)
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
    ) + ".")  # fmt: skip
    axes = figure.subplots()
    bars = axes.barh(np.arange(len(names)), values, 0.66, color=PALETTE[0])
    axes.bar_label(bars, padding=3, fontsize=9.5, color=INK)
    dress(axes, title=f"Modalities present (N = {len(presence)} cases)", x="cases")
    axes.set_yticks(np.arange(len(names)), [_wrapped(name, width=26, lines=3) for name in names])
    axes.invert_yaxis()
    _leave_room(axes)
    return figure


def examples(shown: Sequence[Example]) -> Figure:
    """A row per example, a column per modality, grey scale; an empty cell means that the image is missing."""
    modalities = list(dict.fromkeys(name for example in shown for name in example.images))
    headings = [f"{plain(example.title, limit=60)}\n{verdict(example)}" for example in shown]
    words = f"Images of validation cases: {'; '.join(headings)}."
    figure = new_figure(max(4.8, 1.65 * len(modalities)), 2.4 * max(1, len(shown)), words)
    rows = figure.subfigures(max(1, len(shown)), 1, squeeze=False)[:, 0]
    for example, heading, row in zip(shown, headings, rows, strict=False):
        row.suptitle(heading, fontsize=10.5, color=INK, x=0.01, ha="left")
        for axes, name in zip(row.subplots(1, len(modalities), squeeze=False)[0], modalities, strict=True):
            _show_image(axes, example.images.get(name), plain(name, limit=20))
    return figure


def verdict(example: Example) -> str:
    """The model's prediction for an example, in words."""
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


def _leave_room(axes: Axes, reach: float = 1.12) -> None:
    """Whole numbers on the axis of counts, and space for the words at the end of the longest bar."""
    axes.set_xlim(0, max(1.0, axes.dataLim.x1) * reach)
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
