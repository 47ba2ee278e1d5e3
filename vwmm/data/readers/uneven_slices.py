"""Resamples volumes with changing slice distance.

A slice of them is a slice as any other. As a volume they are resampled to the smallest distance, by linear
interpolation between neighbouring slices.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vwmm.data.readers.image import Image, check_shape

# Distances that differ by less are one, in mm and as a share: how headers round.
SAME_MM, SAME_SHARE = 0.1, 0.05


def runs_of(positions_mm: Sequence[float]) -> list[tuple[int, float]]:
    """(how many distances, distance in mm) of each part in which it is the same. positions_mm: in their order."""
    runs: list[tuple[int, float]] = []
    for step in np.diff(positions_mm).tolist():
        if runs and abs(step - runs[-1][1]) <= max(SAME_MM, SAME_SHARE * runs[-1][1]):
            runs[-1] = runs[-1][0] + 1, runs[-1][1]
        else:
            runs.append((1, step))
    return runs


def uneven_in_words(positions_mm: Sequence[float]) -> str:
    """`8 slices 2.5 mm apart, then 12 slices 5 mm apart`."""
    runs = runs_of(positions_mm)  # of one slice more than distances
    counts = [count + (number == len(runs) - 1) for number, (count, _) in enumerate(runs)]
    return ", then ".join(f"{count} slices {step:.4g} mm apart" for count, (_, step) in zip(counts, runs, strict=True))


def middle_slice(positions_mm: Sequence[float]) -> int:
    """The slice that the middle of the volume lies in; each slice reaches halfway to its neighbours."""
    places = np.asarray(positions_mm)
    borders = (places[1:] + places[:-1]) / 2
    start, end = 2 * places[0] - borders[0], 2 * places[-1] - borders[-1]
    return int(np.searchsorted(borders, (start + end) / 2, side="right"))


def evened(image: Image) -> Image:
    """The image with slices as far apart as the two nearest are."""
    assert image.slice_positions_mm is not None
    places = np.asarray(image.slice_positions_mm)
    step = float(np.diff(places).min())
    count = int(np.floor((places[-1] - places[0]) / step + 1e-6)) + 1
    check_shape((*image.voxels.shape[:2], count))
    wanted = np.minimum(places[0] + step * np.arange(count), places[-1])
    below = np.searchsorted(places, wanted, side="right").clip(1, len(places) - 1) - 1
    share = ((wanted - places[below]) / (places[below + 1] - places[below])).astype(np.float32)
    voxels = np.asfortranarray(image.voxels, dtype=np.float32)
    voxels = voxels[..., below] * (1 - share) + voxels[..., below + 1] * share
    affine = image.affine.copy()
    affine[:3, 2] *= step / np.linalg.norm(affine[:3, 2])
    return replace(image, voxels=np.asfortranarray(voxels), affine=affine, slice_positions_mm=None)
