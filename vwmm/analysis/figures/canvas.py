"""Places pictures and text on a page by pixels, without pyplot or global state."""

import io
import warnings
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from vwmm.analysis.figures.style import INK, plain

DPI = 150
ON_BLACK = "#FFD479"  # letters over a picture, with a black rim

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


class Canvas:
    """A white page that is drawn on and becomes a PNG."""

    def __init__(self, width: int, height: int) -> None:
        """Sizes in pixels."""
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def write(
        self, x: float, y: float, text: str, *, size: float, color: str = INK, weight: str = "normal",
        across: str = "left", down: str = "top", rim: bool = False,
    ) -> None:  # fmt: skip
        """Text as it is, its point `across` and `down` at (x, y); size in points; rim: a black one, over pictures."""
        effects = [withStroke(linewidth=2, foreground="black")] if rim else None
        self.figure.text(
            x / self.width, 1 - y / self.height, text, ha=across, va=down, fontsize=size, color=color,
            fontweight=weight, path_effects=effects, parse_math=False,
        )  # fmt: skip

    def fill(self, box: Box, color: str) -> None:
        """A rectangle below everything else."""
        left, bottom, width, height = self._fractions(box)
        self.figure.add_artist(Rectangle((left, bottom), width, height, color=color, linewidth=0, zorder=0))

    def show(self, grey: np.ndarray, box: Box, limits: tuple[float, float], *, aspect: float) -> None:
        """(rows, columns) values in the middle of a box, as large as its height by width, `aspect`, allows.

        limits: the values shown black and white. Voxels that are enlarged keep their edges.
        """
        left, top, width, height = box
        shown = max(1, round(min(width, height / aspect))), max(1, round(min(height, width * aspect)))
        axes = self._axes((left + (width - shown[0]) // 2, top + (height - shown[1]) // 2, *shown))
        is_enlarged = grey.shape[1] <= shown[0] and grey.shape[0] <= shown[1]
        interpolation = "nearest" if is_enlarged else "hanning"
        axes.imshow(grey, cmap="gray", vmin=limits[0], vmax=limits[1], aspect="auto", interpolation=interpolation)

    def png(self) -> bytes:
        """The page."""
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # Any alphabet may stand in a name, and matplotlib has one font.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
            self.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    def _axes(self, box: Box) -> Axes:
        axes = self.figure.add_axes(self._fractions(box))
        axes.set_axis_off()
        return axes

    def _fractions(self, box: Box) -> Box:
        left, top, width, height = box
        return (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )


def wrapped(text: str, width: float, size: float, *, max_lines: int, weight: str = "normal") -> list[str]:
    """The text in lines of at most `width` pixels, broken at spaces, or within a word that is too wide by itself."""
    lines, rest = list[str](), plain(text, limit=1000, escape_math=False)
    while rest:
        if len(lines) == max_lines:
            lines[-1] = _cut(lines[-1], width - text_width("\u2026", size, weight), size, weight).rstrip() + "\u2026"
            break
        line = _cut(rest, width, size, weight)
        if len(line) < len(rest) and rest[len(line)] != " " and " " in line:
            line = line[: line.rindex(" ")]
        lines.append(line)
        rest = rest[len(line) :].lstrip()
    return lines


def _cut(text: str, width: float, size: float, weight: str) -> str:
    """As much of the beginning as fits, at least one character."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle], size, weight) <= width else (low, middle - 1)
    return text[:low]


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in pixels of a text of `size` points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        width, _, _ = _renderer().get_text_width_height_descent(text, FontProperties(size=size, weight=weight), False)
    return float(width)


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, DPI)
