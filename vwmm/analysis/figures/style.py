"""The style of all figures, and their conversion to SVG."""

import io
import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Told apart by the three common kinds of colour blindness (after Wong 2011, doi:10.1038/nmeth.1618, and Tol 2021), and
# each at a contrast of 3:1 or more against white (WCAG 2.2, 1.4.11).
PALETTE = ("#0072B2", "#D55E00", "#117733", "#AA4499", "#332288", "#7A6A00")
# Lines are told apart on a grey print, too: by their dashes and their markers, without colour.
LINE_STYLES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 1.2)), (0, (10, 2)), (0, (6, 2, 1, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#1F2328"
QUIET = "#6E7781"
# Generic families only: the page may not load a font, and any reader has these.
FONT_FAMILY = "system-ui, 'Segoe UI', Arial, sans-serif"

# Marks that turn the direction of the text that follows them, in this name and beyond.
_DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def new_figure(width_in: float, height_in: float, description: str) -> Figure:
    """An empty figure; `description` is its alternative text, a sentence that says what it shows. Sizes in inches."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.set_label(plain(description, limit=600, escape_math=False))
    return figure


def dress(axes: Axes, *, title: str, x: str = "", y: str = "") -> None:
    """Title, axis labels and the quiet frame that all figures share."""
    axes.set_title(title, fontsize=11, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(x, fontsize=10.5, color=INK)
    axes.set_ylabel(y, fontsize=10.5, color=INK)
    axes.tick_params(labelsize=10, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)


class LineLook(TypedDict):
    """How a line is drawn."""

    color: str
    linestyle: Any
    marker: str


def line_look(number: int) -> LineLook:
    """Colour, dashes and marker of a figure's line; of the first 36 no two have the same dashes and marker."""
    turn = number // len(MARKERS)
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": LINE_STYLES[(number + turn) % len(LINE_STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def label_ends(axes: Axes, *, size: float = 9.0) -> None:
    """The label of each line beside its right end, moved up or down where two would meet; a thin line leads there.

    Limits and titles of the axes are set before. size: of the letters, in points.
    """
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    ends = [(float(x[-1]), float(y[-1])) for x, y in (np.asarray(line.get_data()) for line in lines)]
    low, high = axes.get_ylim()
    heights = [(y - low) / (high - low) for _, y in ends]
    figure = axes.get_figure(root=True)
    assert figure is not None
    gap = 1.35 * size / 72 / (0.72 * float(figure.get_size_inches()[1]) / len(figure.axes))
    for line, end, height in zip(lines, ends, spread(heights, gap), strict=True):
        axes.annotate(
            str(line.get_label()), end, (1.04, height), textcoords="axes fraction", fontsize=size, color=INK,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.7},
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights from 0 to 1, at least `gap` apart and near where they were; too many of them reach below 0."""
    order = sorted(range(len(heights)), key=lambda index: -heights[index])
    placed, limit = dict[int, float](), 1.0
    for index in order:
        placed[index] = min(limit, max(heights[index], 0.0))
        limit = placed[index] - gap
    lowest = 0.0
    for index in reversed(order):
        placed[index] = max(placed[index], lowest)
        lowest = placed[index] + gap
    excess = max(0.0, max(placed.values(), default=0.0) - 1.0)
    return [placed[index] - excess for index in range(len(heights))]


def plain(text: str, *, limit: int = 32, escape_math: bool = True) -> str:
    """A name from the user's data that is safe to draw: one line, no control characters, no formula, not too long."""
    kept = "".join(" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text if c not in _DIRECTION_MARKS)
    kept = " ".join(kept.split()) or "(empty)"
    kept = kept if len(kept) <= limit else kept[: limit - 1].rstrip() + "\u2026"
    return kept.replace("$", r"\$") if escape_math else kept


def to_svg(figure: Figure) -> str:
    """The figure as the text of an SVG file: the same bits each time, text as text, in fonts that every reader has."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vwmm"}), warnings.catch_warnings():
        # Any alphabet may stand in a class name; the reader's browser draws it, not matplotlib's one font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return re.sub(r"font-family: [^;\"]*", f"font-family: {FONT_FAMILY}", buffer.getvalue())
