"""Positions of DICOM slices, and the affine of their stack.

Positions alone are believed, never file names, instance numbers or SliceThickness (DICOM PS3.3 C.7.6.2). A gantry that
was tilted moves each slice within its plane: the affine keeps that shear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vwmm.data.readers.image import LPS_TO_RAS, ImageError, check_shape
from vwmm.data.readers.uneven_slices import runs_of

_SAME = 1e-3  # of a direction's cosines, of a pixel's size (relative), and mm between slices at one place
# As far as a slice may lie from its place in an even stack: a share of the distance between slices, or what positions
# rounded to 0.1 mm are away, but never as far as a missing slice moves its neighbours (half the distance).
_UNEVEN, _UNEVEN_MM, _MOST_UNEVEN = 0.05, 0.1, 0.4
# Distances in a row that make a part of its own; a single one is a gap.
_MIN_RUN = 2
_MAX_NAMED = 3
# What FrameIncrementPointer may point at where frames are slices: slice locations, slice numbers, grid offsets.
_SLICE_VECTORS = frozenset((0x00182005, 0x00540080, 0x3004000C))


@dataclass(frozen=True)
class Plane:
    """One slice or frame, in the patient's coordinates of DICOM (LPS)."""

    position_mm: np.ndarray | None
    """(3,) of the first pixel's centre; None: unknown."""
    axes: np.ndarray | None
    """(2, 3) unit vectors, along a row and down a column; None: unknown."""
    spacing_mm: tuple[float, float] | None
    """Between columns, between rows; None: unknown."""
    thickness_mm: float | None
    """Distance to the next slice, if known."""
    slope: float | None
    """Rescale slope; None: values are as stored."""
    intercept: float
    """Rescale intercept."""
    rescale_type: str
    """The unit of rescaled values; empty: unknown."""
    real_world: tuple[float, float] | None = None
    """Slope and intercept of the RealWorldValueMapping; None: there is none."""

    @property
    def is_placed(self) -> bool:
        """Whether the plane has a place and a direction."""
        return self.position_mm is not None and self.axes is not None


def planes_of(dataset: Any) -> tuple[Plane, ...]:
    """The planes of a file's frames, from their functional groups (PS3.3 C.7.6.16) or from the file's own tags.

    Raises ImageError where they are not as many as the frames, or follow one another in time.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    check_shape((int(dataset.Columns), int(dataset.Rows), frames))
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    if groups and len(groups) != frames:
        raise ImageError(f"NumberOfFrames is {frames}, but {len(groups)} frames are described: the header is damaged")
    if groups or shared:
        return tuple(_plane([*groups[n : n + 1], *shared, dataset]) for n in range(frames))
    plane = _plane([dataset])
    if frames == 1:
        return (plane,)
    pointers = np.atleast_1d(np.array(dataset.get("FrameIncrementPointer") or [], dtype=np.int64)).tolist()
    if any(word in dataset for word in ("FrameTime", "FrameTimeVector")) or not _SLICE_VECTORS.issuperset(pointers):
        found = f"the {frames} frames are a time series or several views, no stack"
        raise ImageError(found, "dimension")
    offsets = _numbers(dataset, "GridFrameOffsetVector", frames)
    if offsets is None or plane.position_mm is None or plane.axes is None:
        return (_without_place(plane),) * frames
    normal = np.cross(*plane.axes)
    places = plane.position_mm + np.outer(offsets - offsets[0], normal)  # PS3.3 C.8.8.3.2
    return tuple(Plane(**{**vars(plane), "position_mm": place}) for place in places)


def _without_place(plane: Plane) -> Plane:
    """A frame of a file that has the position of the first frame at most."""
    return Plane(**{**vars(plane), "position_mm": None, "axes": None, "thickness_mm": None})


def _plane(sources: Sequence[Any]) -> Plane:
    """The first non-empty source: of a frame, of all frames, of the file."""
    position = _first(sources, "PlanePositionSequence", "ImagePositionPatient", 3)
    directions = _first(sources, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _first(sources, "PixelMeasuresSequence", "PixelSpacing", 2)
    if spacing is None:
        spacing = _first(sources, "PixelMeasuresSequence", "ImagerPixelSpacing", 2)
    if spacing is not None and not (spacing > 0).all():
        spacing = None
    thickness = _first(sources, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    slope = _first(sources, "PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = _first(sources, "PixelValueTransformationSequence", "RescaleIntercept", 1)
    kinds = [s.get("RescaleType") for s in _places(sources, "PixelValueTransformationSequence")]
    is_scaled = slope is not None or intercept is not None
    return Plane(
        position_mm=position,
        axes=None if directions is None else _axes(directions),
        spacing_mm=None if spacing is None else (float(spacing[1]), float(spacing[0])),
        thickness_mm=None if thickness is None or thickness[0] == 0 else abs(float(thickness[0])),
        slope=(1.0 if slope is None else float(slope[0])) if is_scaled else None,
        intercept=0.0 if intercept is None else float(intercept[0]),
        rescale_type=next((str(kind).strip().upper() for kind in kinds if kind), ""),
        real_world=_real_world(sources),
    )


def _real_world(sources: Sequence[Any]) -> tuple[float, float] | None:
    """Slope and intercept that turn stored values into a unit (PS3.3 C.7.6.16.2.11), where they are all it takes."""
    for source in sources:
        mappings = [
            (_numbers(item, "RealWorldValueSlope", 1), _numbers(item, "RealWorldValueIntercept", 1))
            for item in source.get("RealWorldValueMappingSequence") or []
        ]
        found = {
            (float(slope[0]), float(start[0])) for slope, start in mappings if slope is not None and start is not None
        }
        if len(found) == 1:
            return found.pop()
        if mappings:
            return None
    return None


def _places(sources: Sequence[Any], sequence: str) -> list[Any]:
    """Where a tag may stand: in the sequence of each source, or in the source itself."""
    return [place for source in sources for place in (*(source.get(sequence) or [])[:1], source)]


def _first(sources: Sequence[Any], sequence: str, keyword: str, count: int) -> np.ndarray | None:
    found = (_numbers(place, keyword, count) for place in _places(sources, sequence))
    return next((numbers for numbers in found if numbers is not None), None)


def _numbers(dataset: Any, keyword: str, count: int) -> np.ndarray | None:
    """(count,) float64; None where the tag is absent or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    numbers = np.array(value, dtype=np.float64).reshape(-1)
    if numbers.size == 0:
        return None
    if numbers.size != count or not np.isfinite(numbers).all():
        raise ImageError(f"{keyword} is damaged: expected {count} finite numbers")
    return numbers


def _axes(directions: np.ndarray) -> np.ndarray | None:
    """(2, 3) unit vectors; None for zeros, which some programs write where nothing is known."""
    axes = directions.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if not lengths.any():
        return None
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise ImageError("ImageOrientationPatient is damaged: rows and columns are not at right angles")
    return axes / lengths[:, None]


@dataclass(frozen=True)
class Stack:
    """Planes as one volume."""

    order: np.ndarray
    """(N,): which plane is which slice."""
    affine: np.ndarray
    """(4, 4), in RAS millimetres; where slices are uneven, with their mean distance."""
    positions_mm: tuple[float, ...] | None
    """Place of each slice along the normal, from the first, where their distance changes; None: it does not."""


def stack(planes: Sequence[Plane], names: Sequence[str], *, has_order: bool = False) -> Stack:
    """The planes, sorted along their normal.

    names: what each plane is called in a message. has_order: whether planes that are sorted against their normal stay
    as they are, as SimpleITK leaves the frames of one file. Planes without a place are not sorted, and SimpleITK's
    values stand in for it. Raises ImageError where the planes are no stack.
    """
    if len(planes) == 1 or not any(plane.is_placed for plane in planes):
        return Stack(np.arange(len(planes)), _unstacked(planes[0]), None)
    positions, axes = _agreeing(planes, names)
    normal = np.cross(*axes)
    order = np.argsort(positions @ normal, kind="stable")
    is_even = _is_even(positions[order], positions[order] @ normal, [names[n] for n in order])
    if has_order and np.array_equal(order[::-1], np.arange(len(order))):
        order = order[::-1]
    places = positions[order]
    step = (places[-1] - places[0]) / (len(places) - 1)
    heights = np.abs((places - places[0]) @ normal)
    return Stack(
        order, _affine(planes[0], axes, step, places[0]), None if is_even else tuple(float(h) for h in heights)
    )


def _unstacked(plane: Plane) -> np.ndarray:
    axes = np.eye(3)[:2] if plane.axes is None else plane.axes
    origin = np.zeros(3) if plane.position_mm is None else plane.position_mm
    return _affine(plane, axes, np.cross(*axes) * (plane.thickness_mm or 1.0), origin)


def _affine(plane: Plane, axes: np.ndarray, step: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Of voxels (column, row, slice), as in PS3.3 C.7.6.2.1.1."""
    between_columns, between_rows = plane.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([axes[0] * between_columns, axes[1] * between_rows, step, origin])
    return LPS_TO_RAS @ affine


def _agreeing(planes: Sequence[Plane], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) and the axes (2, 3) that all have."""
    if odd := [name for plane, name in zip(planes, names, strict=True) if not plane.is_placed]:
        raise ImageError(f"{_named(odd)}: no ImagePositionPatient or ImageOrientationPatient, so its place is unknown")
    directions = np.stack([plane.axes.ravel() for plane in planes if plane.axes is not None])
    if odd := odd_ones(directions, names, _SAME):
        raise ImageError(
            f"{_named(odd)}: another orientation than the other slices (a localizer?)",
            "mixed_series",
        )
    sizes = np.log([plane.spacing_mm or (1.0, 1.0) for plane in planes])
    if odd := odd_ones(sizes, names, _SAME):
        raise ImageError(
            f"{_named(odd)}: another PixelSpacing than the other slices; one series has one", "mixed_series"
        )
    positions = np.stack([plane.position_mm for plane in planes if plane.position_mm is not None])
    return positions, directions[0].reshape(2, 3)


def odd_ones(rows: np.ndarray, names: Sequence[str], tolerance: float) -> list[str]:
    """Names of the rows that differ from most others; of equally many, from the first."""
    if np.ptp(rows, axis=0).max() <= tolerance:
        return []
    is_near = [np.abs(rows - row).max(axis=1) <= tolerance for row in rows]
    most = max(is_near, key=lambda near: int(near.sum()))
    return [name for name, near in zip(names, most, strict=True) if not near]


def _is_even(places: np.ndarray, heights: np.ndarray, names: Sequence[str]) -> bool:
    """Whether the sorted planes are as far from each other; not so where their distance changes from part to part.

    Raises ImageError where a plane is missing, there twice, or not in line.
    """
    steps = np.diff(heights)
    typical = float(np.median(steps))
    if (twice := np.flatnonzero(steps < max(_SAME, 0.01 * typical))).size:
        counts = np.diff([-1, *np.flatnonzero(steps >= _SAME), len(steps)])
        if counts.min() == counts.max():
            what = f"every place has {counts[0]} slices: a time series or several echoes"
            raise ImageError(f"{names[0]} and {names[1]} lie at the same place, and {what}", "dimension")
        first = int(twice[0])
        raise ImageError(
            f"{names[first]} and {names[first + 1]} lie at the same place: a slice is there twice; remove one",
            "unusable",
        )
    tolerance = max(_UNEVEN * typical, min(_UNEVEN_MM, _MOST_UNEVEN * typical))
    even = places[0] + np.outer(np.arange(len(places)), (places[-1] - places[0]) / (len(places) - 1))
    if np.linalg.norm(places - even, axis=1).max() <= tolerance:
        return True
    share = (heights - heights[0]) / (heights[-1] - heights[0])
    in_line = places[0] + np.outer(share, places[-1] - places[0])
    is_in_line = np.linalg.norm(places - in_line, axis=1).max() <= tolerance
    runs = runs_of(heights.tolist())
    if is_in_line and min(count for count, _ in runs) >= _MIN_RUN and not _has_gap([step for _, step in runs]):
        return False
    widest = int(np.argmax(steps))
    if steps[widest] > 1.5 * typical:
        raise ImageError(
            f"slices are missing between {names[widest]} and {names[widest + 1]}: {steps[widest]:.3g} mm apart, "
            f"most are {typical:.3g}; export the series again",
            "unusable",
        )
    raise ImageError(
        f"the slices are {steps.min():.4g} to {steps.max():.4g} mm apart, or not in one line: no even stack; "
        "export the series again, or resample it",
        "unusable",
    )


def _has_gap(distances: Sequence[float]) -> bool:
    """Whether one of the distances in their order is a multiple of a smaller one before and behind it: lost slices."""
    for before, distance, behind in zip(distances, distances[1:], distances[2:], strict=False):
        smaller = max(before, behind)
        if smaller < distance and abs(distance / smaller - round(distance / smaller)) <= _UNEVEN:
            return True
    return False


def _named(names: Sequence[str]) -> str:
    text = ", ".join(names[:_MAX_NAMED])
    return text if len(names) <= _MAX_NAMED else f"{text} and {len(names) - _MAX_NAMED} more"
