"""DICOM objects that are no scanner images: maps, segmentations, doses.

Their scale is in tags of their own (PS3.3 A.51, A.75, A.18.3): without it, slices or
patients would be compared by numbers of different units.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vwmm.data.readers.dicom.planes import Plane
from vwmm.data.readers.image import ImageError

_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


def with_meaning(dataset: Any, kind: str, planes: tuple[Plane, ...]) -> tuple[Plane, ...]:
    """The planes with the slope and intercept that their kind of object keeps elsewhere. kind: SOPClassUID.

    Raises ImageError for an object that is several images in one.
    """
    if kind in _SEGMENTATIONS:
        return _of_segmentation(dataset, planes)
    if kind == _PARAMETRIC_MAP:
        if any(plane.real_world is None for plane in planes):
            raise ImageError(
                "a parametric map without one linear RealWorldValueMapping for each frame; convert it", "unusable"
            )
        return tuple(_scaled(plane, *plane.real_world) for plane in planes if plane.real_world is not None)
    if kind == _DOSE:
        scaling = float(dataset.get("DoseGridScaling") or 0)
        if scaling <= 0:
            raise ImageError("a dose without DoseGridScaling: its values have no unit")
        return tuple(_scaled(plane, scaling, 0.0) for plane in planes)
    check_one_scale(planes)
    return planes


def check_one_scale(planes: Sequence[Plane]) -> None:
    """ImageError where slices have different scales of which some are not known, or only in a RealWorldValueMapping."""
    num_scaled = sum(plane.slope is not None for plane in planes)
    if 0 < num_scaled < len(planes):
        raise ImageError(
            f"{num_scaled} of {len(planes)} slices have a rescale (RescaleSlope), the others none: their contrast "
            "would be wrong; export the series again",
            "unusable",
        )
    if num_scaled == 0 and len({plane.real_world for plane in planes}) > 1:
        raise ImageError(
            "the slices have no rescale, and real-world values with different slopes, or some have none: their "
            "contrast would be wrong; export them with RescaleSlope, or convert them",
            "unusable",
        )


def _of_segmentation(dataset: Any, planes: tuple[Plane, ...]) -> tuple[Plane, ...]:
    count = len(dataset.get("SegmentSequence") or [])
    if count > 1:
        raise ImageError(
            f"a segmentation of {count} segments, which are images of their own; export one of them", "unusable"
        )
    if str(dataset.get("SegmentationType") or "").upper() != "FRACTIONAL":
        return planes
    highest = float(dataset.get("MaximumFractionalValue") or 0)
    if highest <= 0:
        raise ImageError("a fractional segmentation without MaximumFractionalValue: its values have no meaning")
    return tuple(_scaled(plane, 1 / highest, 0.0) for plane in planes)


def _scaled(plane: Plane, slope: float, intercept: float) -> Plane:
    return replace(plane, slope=slope, intercept=intercept, rescale_type="US")
