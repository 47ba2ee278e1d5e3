"""Transforms and augmentation described in words, for captions."""

from collections.abc import Sequence

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.augmentation.augment import AugmentationParams

INTENSITIES = {
    "min_max": "scaled to 0 … 1",
    "z_score": "scaled to mean 0, standard deviation 1",
    "z_score_foreground": "scaled to mean 0, standard deviation 1 of the foreground",
    "none": "",
}
DIRECTIONS = {"RL": "left–right", "AP": "front–back", "SI": "top–bottom"}


def describe_transforms(modality: Modality, shape: Sequence[int], slice_index: int | None = None) -> str:
    """The fixed transforms in their order; shape: of the image as stored; slice_index: the one used, of a volume."""
    is_volume = len(shape) == 3 and shape[2] > 1
    parts = []
    if slice_index is not None:
        parts.append(f"slice {slice_index} (from 0) of a volume of {_lengths(shape)} voxels")
    elif is_volume and modality.dims == 2 and modality.slice == "maximum_projection":
        parts.append(f"maximum projection of a volume of {_lengths(shape)} voxels")
    if modality.bias_correction:
        parts.append("N4 bias field divided out")
    if len(shape) == 3 and modality.orientation is not None:
        parts.append(f"turned to {modality.orientation}")
    if modality.crop_foreground_mm is not None:
        parts.append(f"cropped {modality.crop_foreground_mm:g} mm around the foreground")
    if modality.spacing_mm is not None:
        parts.append(f"resampled to {_lengths(modality.spacing_mm)} mm")
    if modality.window_hu is not None:
        parts.append("clipped to {:g} … {:g} HU".format(*modality.window_hu).replace("-", "−"))
    if modality.clip_percentiles is not None:
        parts.append("clipped to the percentiles {:g} … {:g}".format(*modality.clip_percentiles))
    if INTENSITIES[modality.intensity]:
        parts.append(INTENSITIES[modality.intensity])
    fitted = "resized" if modality.fit == "resize" else "cropped or padded"
    return ", ".join([*parts, f"{fitted} to {_lengths(modality.size)}"])


def describe_params(params: AugmentationParams, size: Sequence[int], orientation: str | None = None) -> str:
    """What the parameters do to an image of `size`; orientation: where the image's axes point, if that is known."""
    dims, linear, centre = len(size), params.matrix[:, :3], (np.array([*size, 1][:3]) - 1) / 2
    zoom = np.linalg.norm(linear, axis=0)  # of the columns: linear = rotation @ diag(flips / scale)
    flips = mirrored_axes(linear)
    cosine = (np.trace(linear / zoom * flips) - 1) / 2
    angle, shift = np.rad2deg(np.arccos(np.clip(cosine, -1, 1))), params.matrix[:, 3] - (centre - linear @ centre)
    parts = [f"mirrored {_direction(axis, orientation)}" for axis in range(dims) if flips[axis] < 0]
    if angle > 0.05:
        parts.append(f"turned by {angle:.0f}°" if angle >= 1 else f"turned by {angle:.1f}°")
    if np.abs(zoom - 1).max() > 1e-6:
        parts.append("scaled " + " ".join(f"×{1 / length:.2f}" for length in zoom[:dims]))
    if np.abs(shift).max() > 1e-6:
        parts.append(f"moved by {np.linalg.norm(shift):.1f} voxels")
    if any(not np.array_equal(axis, np.arange(len(axis))) for axis in params.coordinates):
        parts.append("coarser")
    if params.field[0].size:
        parts.append("uneven brightness")
    if params.gamma != 1:
        parts.append(f"gamma {params.gamma:.2f}")
    if (params.gain, params.shift) != (1, 0):
        sign = "+" if params.shift >= 0 else "−"
        parts.append(f"values ×{params.gain:.2f} {sign}{abs(params.shift):.3f}")
    if params.noise > 0:
        parts.append(f"noise {params.noise:.3f}")
    return ", ".join([*parts, *params.changes]) or "unchanged in this epoch"


def mirrored_axes(linear: np.ndarray) -> np.ndarray:
    """(3,) of 1 and -1: of the mirrorings that a (3, 3) matrix may contain, the one with the smallest rotation."""
    diagonal = np.diag(linear)
    flips = np.where(diagonal < 0, -1, 1)
    if flips.prod() * np.linalg.det(linear) < 0:
        flips[np.abs(diagonal).argmin()] *= -1
    return flips


def _direction(axis: int, orientation: str | None) -> str:
    if orientation is None:
        return f"along axis {axis}"
    return next(words for codes, words in DIRECTIONS.items() if orientation[axis] in codes)


def _lengths(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)
