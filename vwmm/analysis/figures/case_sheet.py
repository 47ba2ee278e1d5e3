"""Draws one case as stored, as the network sees it, and augmented.

A row per modality, the same columns in each. Volumes are shown by three middle planes, the axial one large.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.figures.canvas import ON_BLACK, Box, Canvas, wrapped
from vwmm.analysis.figures.radiological_view import planes_of
from vwmm.analysis.figures.style import QUIET

WIDTH, MARGIN = 1920, 44  # pixels, as all lengths here
GAP, WIDE_GAP, ROW_GAP = 10, 34, 46
TITLE, HEADING = 58, 88  # the sheet's title; above each row its name, its detail and the titles of the columns
BAR = 48  # below the pictures: the grey scale and its numbers
NOTE = 80  # the words in place of a missing image
LINE, PRINT = 23, 7.5  # height of a line of small print, and its size in points
MAX_CAPTION_LINES = 8
NUM_AUGMENTED = 4
NUM_SAMPLES = 1_000_000  # values from which percentiles are taken
QUIET_FILL = "#F2F4F6"
FOOTER = (
    "R, L: right and left of the patient; A, P: anterior and posterior; S, I: superior and inferior; of an oblique "
    "image the nearest of them. Images as stored have their physical proportions; what the network sees is drawn voxel "
    "by voxel, each a square. The planes of a volume go through its middle voxel. Augmented pictures may be mirrored; "
    "no side is marked in them."
)


@dataclass(frozen=True)
class Augmented:
    """An image as it is in one epoch of the training."""

    voxels: np.ndarray
    """(H, W) or (H, W, D)."""
    words: str
    """Its transforms."""


@dataclass(frozen=True)
class Row:
    """One modality of a case."""

    name: str
    """The modality."""
    before: np.ndarray | None = None
    """(X, Y) or (X, Y, Z), the values as stored; None: the image is missing."""
    spacing_mm: Sequence[float] | None = None
    """Voxel size of `before` along each axis; None: unknown."""
    unit: str = "unknown"
    """Unit of `before`."""
    orientation: str | None = None
    """Where each axis of `before` points, such as `RAS`, or `RA` of a slice; None: unknown."""
    after: np.ndarray | None = None
    """(H, W) or (H, W, D), the network's input."""
    after_spacing_mm: Sequence[float] | None = None
    """Voxel size of `after`; None: unknown."""
    after_orientation: str | None = None
    """Where each axis of `after` points; None: unknown."""
    augmented: Sequence[Augmented] = ()
    """`after`, augmented, four times at most; none: augmentation is off."""
    detail: str = ""
    """The transforms in words."""


@dataclass(frozen=True)
class _Picture:
    """One image of a row in its column, and what stands below it."""

    left: float
    width: float
    title: str
    voxels: np.ndarray
    spacing: Sequence[float]
    """Lengths of a voxel's edges as it is drawn, in any unit."""
    orientation: str | None
    limits: tuple[float, float]
    """The values shown black and white."""
    caption: list[str]
    """Lines of small print."""
    has_sides: bool = True
    """Whether the sides of the patient are marked."""

    def aspects(self) -> list[float]:
        """Height by width of each plane."""
        planes = planes_of(self.voxels.ndim, self.orientation)
        return [plane.aspect(self.voxels.shape, self.spacing) for plane in planes]


def draw_case_sheet(rows: Sequence[Row], *, title: str) -> bytes:
    """A PNG, 1920 pixels wide, with a row per modality."""
    columns = _columns()
    pictures = [_pictures(row, columns) for row in rows]
    footer = wrapped(FOOTER, WIDTH - 2 * MARGIN, PRINT, max_lines=9)
    heights = [_row_height(row) for row in pictures]
    canvas = Canvas(WIDTH, round(2 * MARGIN + TITLE + sum(heights) + ROW_GAP * len(rows) + LINE * len(footer)))
    heading = "".join(wrapped(title, WIDTH - 2 * MARGIN, 14, max_lines=1, weight="bold"))
    canvas.write(MARGIN, MARGIN, heading, size=14, weight="bold")
    top = float(MARGIN + TITLE)
    for row, shown, height in zip(rows, pictures, heights, strict=True):
        _draw_row(canvas, row, shown, columns, top)
        top += height + ROW_GAP
    _print(canvas, MARGIN, top, footer)
    return canvas.png()


def _columns() -> list[tuple[float, float]]:
    """Left edge and width of each column: as stored, as the network sees it, augmented."""
    gaps = [WIDE_GAP, WIDE_GAP] + [GAP] * (NUM_AUGMENTED - 1)
    width = (WIDTH - 2 * MARGIN - sum(gaps)) // (NUM_AUGMENTED + 2)
    return [(MARGIN + number * width + sum(gaps[:number]), width) for number in range(NUM_AUGMENTED + 2)]


def _pictures(row: Row, columns: Sequence[tuple[float, float]]) -> list[_Picture]:
    """The pictures of a row; none where the image is missing."""
    if row.before is None or row.after is None:
        return []
    unit = "(unit unknown)" if row.unit == "unknown" else row.unit
    shown, limits = _viewer_limits(row.before), _limits(row.after)

    def caption(*texts: str) -> list[str]:
        lines = [line for text in texts for line in wrapped(text, columns[0][1], PRINT, max_lines=6)]
        return lines[:MAX_CAPTION_LINES]

    before = _Picture(
        *columns[0], "as stored", row.before, row.spacing_mm or [1.0] * row.before.ndim, row.orientation, shown,
        caption(*_facts(row.before, row.spacing_mm, row.orientation), f"values {_span(row.before)} {unit}"),
    )  # fmt: skip
    after = _Picture(
        *columns[1], "as the network sees it", row.after, [1.0] * row.after.ndim, row.after_orientation, limits,
        caption(*_facts(row.after, row.after_spacing_mm, row.after_orientation, word="about "),
                f"values {_span(row.after)}"),
    )  # fmt: skip
    assert len(row.augmented) <= NUM_AUGMENTED, f"{len(row.augmented)} augmented pictures do not fit"
    augmented = [
        _Picture(
            *column,
            f"augmented {number}",
            image.voxels,
            after.spacing,
            row.after_orientation,
            limits,
            caption(image.words, f"values {_span(image.voxels)}"),
            has_sides=False,
        )
        for number, (column, image) in enumerate(zip(columns[2:], row.augmented, strict=False), 1)
    ]
    return [before, after, *augmented]


def _row_height(pictures: Sequence[_Picture]) -> float:
    if not pictures:
        return 40 + NOTE
    return HEADING + sum(_heights(pictures)) + BAR + LINE * max(len(picture.caption) for picture in pictures)


def _heights(pictures: Sequence[_Picture]) -> tuple[float, float]:
    """Height of the large planes, and of the two small ones with the gap above them: what the tallest needs."""
    width, aspects = pictures[0].width, [picture.aspects() for picture in pictures]
    large = np.clip(max(first for first, *_ in aspects), 0.4, 1) * width
    small = [aspect for _, *others in aspects for aspect in others]
    return round(large), GAP + round(np.clip(max(small), 0.4, 1.3) * (width - GAP) / 2) if small else 0


def _draw_row(
    canvas: Canvas, row: Row, pictures: Sequence[_Picture], columns: Sequence[tuple[float, float]], top: float
) -> None:
    room = WIDTH - 2 * MARGIN
    name = "".join(wrapped(row.name, room, 11.5, max_lines=1, weight="bold"))
    canvas.write(MARGIN, top, name, size=11.5, weight="bold")
    if not pictures:
        words = "missing: this case has no such image; the network receives a mask"
        _note(canvas, (MARGIN, top + 40, room, NOTE), words)
        return
    if row.detail:
        _print(canvas, MARGIN, top + 29, wrapped(row.detail, room, PRINT, max_lines=1))
    top += HEADING
    large, small = _heights(pictures)
    for picture in pictures:
        canvas.write(picture.left, top - 26, picture.title, size=8.5, weight="bold")
        _draw_planes(canvas, picture, top, large, small)
        _print(canvas, picture.left, top + large + small + BAR, picture.caption)
    first, *others = pictures
    _draw_bar(
        canvas, [first], top + large + small, "99.9 % of the values" if first.limits != _limits(first.voxels) else ""
    )
    _draw_bar(canvas, others, top + large + small, "one grey scale for all of these" if row.augmented else "")
    if not row.augmented:
        _note(canvas, (columns[2][0], top, WIDTH - MARGIN - columns[2][0], large + small),
              "augmentation is off for this modality")  # fmt: skip


def _draw_planes(canvas: Canvas, picture: _Picture, top: float, large: float, small: float) -> None:
    left, half = picture.left, (picture.width - GAP) // 2
    boxes = [(left, top, picture.width, large)]
    boxes += [(x, top + large + GAP, half, small - GAP) for x in (left, left + picture.width - half)]
    planes = planes_of(picture.voxels.ndim, picture.orientation)
    for number, (plane, box) in enumerate(zip(planes, boxes, strict=False)):
        canvas.fill(box, "black")
        aspect = plane.aspect(picture.voxels.shape, picture.spacing)
        canvas.show(plane.cut(picture.voxels), box, picture.limits, aspect=aspect)
        canvas.write(box[0] + 6, box[1] + box[3] - 6, plane.name, size=6.5, color="white", down="bottom", rim=True)
        if plane.sides is not None and picture.has_sides:
            _mark_sides(canvas, plane.sides, box, is_small=number > 0)


def _mark_sides(canvas: Canvas, sides: Sequence[str], box: Box, *, is_small: bool) -> None:
    """The patient's sides at the edges of a picture; on a small one, which has no room, those left and above."""
    x, y, width, height = box
    places = [
        (x + 6, y + height / 2, "left", "center"),
        (x + width - 6, y + height / 2, "right", "center"),
        (x + width / 2, y + 5, "center", "top"),
        (x + width / 2, y + height - 5, "center", "bottom"),
    ]
    for number in (0, 2) if is_small else range(4):
        px, py, across, down = places[number]
        size = 7 if is_small else 8.5
        canvas.write(
            px, py, sides[number], size=size, color=ON_BLACK, weight="bold", across=across, down=down, rim=True
        )


def _draw_bar(canvas: Canvas, pictures: Sequence[_Picture], top: float, words: str) -> None:
    """A grey scale as wide as the pictures that it holds for, and the values of black and white."""
    left, right = pictures[0].left, pictures[-1].left + pictures[-1].width
    canvas.show(np.linspace(0, 1, 256)[None], (left, top + 8, right - left, 8), (0, 1), aspect=8 / (right - left))
    low, high = _numbers(pictures[0].limits)
    for x, text, across in ((left, low, "left"), ((left + right) / 2, words, "center"), (right, high, "right")):
        canvas.write(x, top + 20, text, size=7, color=QUIET, across=across)


def _note(canvas: Canvas, box: Box, words: str) -> None:
    left, top, width, height = box
    canvas.fill(box, QUIET_FILL)
    canvas.write(left + width / 2, top + height / 2, words, size=9.5, across="center", down="center")


def _print(canvas: Canvas, left: float, top: float, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        canvas.write(left, top + LINE * number, line, size=PRINT, color=QUIET)


def _facts(
    voxels: np.ndarray, spacing_mm: Sequence[float] | None, orientation: str | None, *, word: str = ""
) -> list[str]:
    """Shape, voxel size and directions of the axes, a line each."""
    size = (
        "voxel size unknown"
        if spacing_mm is None
        else word + " × ".join(f"{length:.3g}" for length in spacing_mm) + " mm"
    )
    axes = f"axes point to {', '.join(orientation)}" if orientation else "orientation unknown"
    return [" × ".join(map(str, voxels.shape)) + (" voxels" if voxels.ndim == 3 else " pixels"), size, axes]


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest finite value."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _viewer_limits(values: np.ndarray) -> tuple[float, float]:
    """The middle 99.9 % of the values, so that a few bright voxels do not darken the rest."""
    finite = values[np.isfinite(values)].ravel()
    low, high = np.percentile(finite[:: 1 + finite.size // NUM_SAMPLES], (0.05, 99.95)) if finite.size else (0, 0)
    return (float(low), float(high)) if high > low else _limits(values)


def _span(values: np.ndarray) -> str:
    return " to ".join(_numbers(_limits(values)))


def _numbers(limits: tuple[float, float]) -> tuple[str, str]:
    """Both, rounded to a thousandth of their distance or better."""
    distance = max(limits[1] - limits[0], 1e-12)
    digits = int(np.clip(2 - np.floor(np.log10(distance)), 0, 12))
    low, high = (f"{round(limit, digits):.{digits}f}" for limit in limits)
    return _plain_number(low), _plain_number(high)


def _plain_number(text: str) -> str:
    """Without trailing zeros, with a minus sign and never minus zero."""
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if float(short) == 0 else short.replace("-", "\u2212")
