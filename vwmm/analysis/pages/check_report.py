"""The page of `vwmm check`.

One HTML file that needs no network. It names cases, so that the reader can find them, but shows nothing about a person
from a DICOM header.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from vwmm.analysis.association.confounding import Association
from vwmm.analysis.figures.style import PALETTE, dress, new_figure, plain
from vwmm.analysis.pages.markup import MAX_WHOLE, image_tag, templates, whole_words
from vwmm.analysis.pages.origin import Origin
from vwmm.system.problems import KINDS, SEVERITIES, Problem, count_severities

STATES = {"error": "errors", "warning": "warnings", "note": "clean"}
_JPEG_QUALITY = 82
_MAX_BARS = 12


@dataclass(frozen=True)
class Thumbnail:
    """One image of a contact sheet."""

    case: str
    """The case's name."""
    label: str
    """Its class."""
    picture: np.ndarray | None
    """(rows, columns) uint8; None: it could not be read."""
    severity: str
    """Of the worst finding about it: `error`, `warning`, or empty."""
    why: str
    """Its findings."""


@dataclass(frozen=True)
class Modality:
    """What is shown of one modality."""

    name: str
    num_present: int
    num_missing: int
    num_read: int
    shapes: Mapping[str, int]
    """How many images have each matrix."""
    spacings: Mapping[str, int]
    """How many images have each voxel size."""
    levels: np.ndarray
    """(N, 2) float64: the 0.5 % and the 99.5 % percentile of each image."""
    thumbnails: Sequence[Thumbnail]
    """Sorted by case."""


@dataclass(frozen=True)
class Page:
    """All that the page shows."""

    title: str
    summary: str
    findings: Sequence[Problem]
    classes: Sequence[tuple[str, Sequence[int]]]
    """Cases of each class in each part."""
    parts: Sequence[str]
    """The split's parts; only `cases` where there is no split."""
    has_split: bool
    """Whether there is one."""
    tables: Sequence[Association]
    shortcut: str
    """The score in words."""
    is_shortcut: bool
    """Whether that is a warning."""
    modalities: Sequence[Modality]
    remarks: Sequence[str]
    origin: Origin
    """When and by which command the cohort was checked."""


def render_check(page: Page) -> str:
    """The page as text; the same bits for the same cohort."""
    severity = next((severity for severity in SEVERITIES if count_severities(page.findings)[severity]), "note")
    names = {one.case for one in page.findings}
    pictured = [thumbnail.case for modality in page.modalities for thumbnail in modality.thumbnails]
    return templates().get_template("check.html.jinja").render(
        page=page,
        origin=page.origin,
        state=STATES[severity],
        counts=count_severities(page.findings),
        groups=[
            (KINDS[kind], [one for one in page.findings if one.kind == kind])
            for kind in KINDS
            if any(one.kind == kind for one in page.findings)
        ],
        tables=[(one, _shown_probability(one.corrected)) for one in page.tables],
        plots={one.name: _plots(one) for one in page.modalities},
        picture=_data_uri,
        whole_words=lambda text: whole_words(text, names),
        name_ch=min(max(map(len, pictured), default=0), MAX_WHOLE),
    )  # fmt: skip


def _shown_probability(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _plots(modality: Modality) -> list[Markup]:
    """Matrices, voxel sizes and the range of the values, each a small figure."""
    figures = [
        _bars("Matrix", modality.name, modality.shapes),
        _bars("Voxel size", modality.name, modality.spacings),
    ]
    if len(modality.levels):
        figures.append(_range_plot(modality))
    return [figure for figure in figures if figure is not None]


def _bars(title: str, name: str, counts: Mapping[str, int]) -> Markup | None:
    if not counts:
        return None
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in shown[_MAX_BARS:])
    shown = shown[:_MAX_BARS] + ([(f"{len(counts) - _MAX_BARS} others", rest)] if rest else [])
    total = sum(counts.values())
    words = "; ".join(f"{name}: {count}" for name, count in shown)
    figure = new_figure(3.9, 0.75 + 0.24 * len(shown), f"{title} of {name}, {total} images: {words}.")
    axes = figure.subplots()
    axes.barh(range(len(shown)), [count for _, count in shown], color=PALETTE[0], height=0.7)
    for row, (_, count) in enumerate(shown):
        axes.text(count, row, f" {count}", va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [plain(name, limit=28) for name, _ in shown])
    axes.set_xlim(0, 1.15 * max(count for _, count in shown))
    axes.set_xticks([])
    axes.invert_yaxis()
    dress(axes, title=f"{title} (N = {total})")
    axes.spines["bottom"].set_visible(False)
    return image_tag(figure)


def _range_plot(modality: Modality) -> Markup:
    """Each image as a point: its dark end and its bright end."""
    low, high = modality.levels[:, 0], modality.levels[:, 1]
    figure = new_figure(
        3.9, 2.5, f"Values of {modality.name}: the 0.5 % percentile is {low.min():.4g} to {low.max():.4g}, "
        f"the 99.5 % percentile {high.min():.4g} to {high.max():.4g}.",
    )  # fmt: skip
    axes = figure.subplots()
    axes.scatter(low, high, s=9, color=PALETTE[0], alpha=0.6, linewidths=0)
    axes.margins(0.08)
    dress(axes, title=f"Values (N = {len(low)})", x="0.5 % percentile", y="99.5 % percentile")
    return image_tag(figure)


def _data_uri(picture: np.ndarray) -> Markup:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return Markup("data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode())  # noqa: S704 (base64 only)


def as_json(table: Association) -> dict[str, Any]:
    """A table for programs."""
    return {
        "fact": table.name,
        "levels": list(table.levels),
        "classes": list(table.classes),
        "patients": table.counts.tolist(),
        "cramers_v": round(table.strength, 6),
        "p": table.probability,
        "p_holm": table.corrected,
        "is_suspicious": table.is_suspicious,
    }
