"""Where voxels lie: orientation and slice as views, and the coordinates of a new spacing. Nothing is copied here.

The conventions are MONAI's (Orientation, Spacing); its own code is not imported, since that takes seconds.
"""

from collections.abc import Sequence

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.image import MAX_VOXELS, Image, ImageError

_UNCHANGED = 1e-3  # MONAI's AFFINE_TOL: spacings closer than this are the same
# Voxels that the axes may depend on each other by: an error of as much of the step between neighbours.
_INDEPENDENT = 1e-5


def placed(image: Image, modality: Modality) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The volume, or its slice, as the modality asks for it: a view, its affine, and the file's axis of each axis.

    The view is (H, W) or (H, W, D); the affine (4, 4) float64. Raises ImageError.
    """
    view, affine, axes = image.voxels, image.affine, tuple(range(image.voxels.ndim))
    if view.ndim == 3 and modality.orientation is not None:
        view, affine, axes = _oriented(view, affine, modality.orientation)
    check_dims(view.shape, modality)
    if modality.dims == 2 and view.ndim == 3:
        view, affine = _slice(view, affine, modality)
        axes = (0, 1)
    return view, affine, axes


def check_dims(shape: tuple[int, ...], modality: Modality) -> None:
    """Raises ImageError where an image of this shape cannot become the modality's input."""
    sizes = " x ".join(map(str, shape))
    if modality.dims == 3 and (len(shape) != 3 or min(shape) == 1):
        raise ImageError(f"expected a volume (dims: 3), found a single slice of {sizes}")
    if modality.dims == 2 and len(shape) == 3 and isinstance(modality.slice, int) and modality.slice >= max(shape):
        raise ImageError(f"slice {modality.slice} does not exist in {sizes} voxels")


def check_spacing(shape: tuple[int, ...], affine: np.ndarray, spacing_mm: Sequence[float]) -> None:
    """Raises ImageError where the respaced image would be too large."""
    found = np.linalg.norm(affine[:3, :3], axis=0)[: len(shape)]
    needed = float(np.prod(np.ceil(np.array(shape) * found / spacing_mm)))
    if needed > MAX_VOXELS:
        sizes = " x ".join(f"{length:.3g}" for length in found)
        raise ImageError(f"voxels of {sizes} mm would become {needed:.2g} at spacing_mm={list(spacing_mm)}")


def respaced_coordinates(
    shape: tuple[int, ...], affine: np.ndarray, spacing_mm: Sequence[float]
) -> list[np.ndarray] | None:
    """Where along each axis MONAI's Spacing samples an image, in voxels; None where the axes depend on each other.

    They do where the affine has shear, which Spacing removes.
    """
    dims = len(shape)
    source, target = np.eye(dims + 1), np.eye(dims + 1)
    source[:dims, :dims], source[:dims, dims] = affine[:dims, :dims], affine[:dims, 3]
    axes = source[:dims, :dims]
    found = np.sqrt(np.sum(axes * axes, axis=0))
    wanted = np.where(np.abs(found - spacing_mm) <= _UNCHANGED, found, spacing_mm)
    try:
        scaling = np.linalg.cholesky(axes.T @ axes).T  # upper triangular: spacing and shear (monai zoom_affine)
        target[:dims, :dims] = axes @ np.linalg.inv(scaling) @ np.diag(np.sign(np.diag(scaling)) * wanted)
        lengths, target[:dims, dims] = _shape_and_offset(shape, source, target)
        step = np.linalg.solve(source, target)
    except np.linalg.LinAlgError:
        return None
    if np.array_equal(lengths, shape) and any(
        np.allclose(a, b, atol=_UNCHANGED) for a, b in ((source, target), (step, np.eye(dims + 1)))
    ):
        return [np.arange(length, dtype=np.float64) for length in shape]
    others = (step[:dims, :dims] * (1 - np.eye(dims))) * (lengths - 1)  # what the other axes add, from end to end
    if np.abs(others).sum(axis=1).max() / 2 > _INDEPENDENT:
        return None
    middle = step[:dims, dims] + others.sum(axis=1) / 2
    return [
        np.clip(step[axis, axis] * np.arange(lengths[axis]) + middle[axis], 0, shape[axis] - 1) for axis in range(dims)
    ]


def _oriented(view: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    from nibabel import orientations

    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(codes))
    axes = tuple(int(axis) for axis in np.argsort(turn[:, 0]))
    flips = tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in turn[:, 1] == -1)
    return view[flips].transpose(axes), affine @ orientations.inv_ornt_aff(turn, view.shape), axes


def _slice(view: np.ndarray, affine: np.ndarray, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
    """The chosen slice of a volume, or the plane of a file with one slice; its affine has the lengths in the plane."""
    # A sagittal or coronal slice has its single voxel on another axis than the last, once it is turned.
    axis = next((axis for axis in (2, 1, 0) if view.shape[axis] == 1), 2)
    length = view.shape[axis]
    index = length // 2 if modality.slice == "middle" or length == 1 else modality.slice
    if index >= length:
        raise ImageError(f"slice {index} does not exist: {length} slices along the last axis")
    plane = np.moveaxis(view, axis, 0)[index]
    if plane.min() == plane.max():
        raise ImageError(f"slice {index} of {length} is empty; choose another one by modalities.NAME.slice")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return plane, np.diag([*np.delete(lengths, axis), 1.0, 1.0])


def _shape_and_offset(shape: tuple[int, ...], source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the respaced image, from affines (n + 1, n + 1) of which the second is without offset: MONAI's
    `compute_shape_offset`, with its tolerances, which decide between a corner and the centre that stay in place."""
    dims = len(shape)
    corners = np.asarray(np.meshgrid(*[(0.0, length - 1.0) for length in shape], indexing="ij")).reshape(dims, -1)
    corners = np.concatenate((corners, np.ones_like(corners[:1])))
    there = (np.linalg.solve(target, source) @ corners)[:-1]
    lengths = np.round(np.ptp(there, axis=1) + 1.0).astype(int)
    for number in range(corners.shape[1]):
        if np.allclose(np.min(there - there[:, number : number + 1], 1), 0.0, rtol=_UNCHANGED):
            return lengths, (source @ corners)[:-1, number]
    centre = source[:-1, :-1] @ (np.array(shape) / 2.0) + source[:-1, -1]
    return lengths, centre - target[:-1, :-1] @ (lengths / 2.0)
