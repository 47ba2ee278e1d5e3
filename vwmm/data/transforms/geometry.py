"""Orientation, slice selection and resampling grids; no voxel is copied.

The conventions are MONAI's (Orientation, Spacing); its own code is not imported, since that takes seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.readers.image import MAX_VOXELS, Image, ImageError
from vwmm.data.readers.uneven_slices import evened, middle_slice, uneven_in_words
from vwmm.data.transforms.foreground import bias_corrected, box_around, foreground
from vwmm.data.transforms.orientation import orientation_of

_UNCHANGED = 1e-3  # MONAI's AFFINE_TOL: spacings closer than this are the same
# Voxels that the axes may depend on each other by: an error of as much of the step between neighbours.
_INDEPENDENT = 1e-5
# Of an axis's length: what it may point elsewhere by rounding.
_ALIGNED = 1e-5
# Voxels that a length may be away from halfway between two whole numbers, to be at a tie: what positions with six
# digits move the end of a long stack by. There a voxel size counts with four digits.
_TIE, _SIZE_DIGITS = 0.01, 4
# Voxels that an image may be away from right angles, from end to end: less is how its file was rounded.
_IN_PLACE = 0.5


@dataclass(frozen=True)
class OrientedView:
    """The volume, or its slice, as the modality asks for it."""

    view: np.ndarray
    """(H, W) or (H, W, D): a view of the image's voxels, or their projection."""
    affine: np.ndarray
    """(4, 4) float64, voxel indices of the view to millimetres."""
    axes: tuple[int, ...]
    """The file's axis of each axis of the view."""
    box: tuple[slice, ...]
    """What of each axis of the turned image is kept."""
    slice_axis: int | None = None
    """The axis of the turned image that a slice was taken along."""
    slice_index: int | None = None
    """Which slice of the turned image; None where there was nothing to choose, and of a projection."""


def orient_and_crop(image: Image, modality: Modality) -> OrientedView:
    """Corrected, turned, cut to the foreground, a slice taken, as the modality asks for it. Raises ImageError."""
    if modality.spacing_mm is not None and not image.has_spacing:
        raise ImageError("the file has no voxel sizes, which spacing_mm needs", "no_spacing")
    image = even_or_single(with_slice_axis(image, modality), modality)
    if modality.bias_correction:
        image = bias_corrected(image, modality.foreground)
    view, affine, axes = image.voxels, image.affine, tuple(range(image.voxels.ndim))
    if view.ndim == 3 and modality.orientation is not None:
        view, affine, axes = _oriented(view, affine, modality.orientation)
    check_dims(view.shape, modality)
    box = tuple(slice(0, length) for length in view.shape)
    if modality.crop_foreground_mm is not None:
        if modality.crop_foreground_mm > 0 and not image.has_spacing:
            raise ImageError("the file has no voxel sizes: a margin in mm needs that; crop by 0", "unusable")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)[: view.ndim]
        margin = np.ceil(modality.crop_foreground_mm / lengths - 1e-6).astype(int)
        box = box_around(foreground(view, modality.foreground), margin.tolist())
        view, affine = view[box], affine @ _moved([part.start for part in box])
        if view.min() == view.max():
            raise ImageError("every voxel of the foreground's box has the same value")
    axis = index = None
    if modality.dims == 2 and view.ndim == 3:
        axis, index = _choose_slice(view, modality, image)
        length, view = view.shape[axis], view.max(axis) if index is None else np.moveaxis(view, axis, 0)[index]
        if view.min() == view.max():
            which = "the projection" if index is None else f"slice {index} of {length}"
            raise ImageError(f"{which} is empty; choose another one by modalities.NAME.slice", "unusable")
        if is_sheared(view.shape, np.delete(affine[:3, :3], axis, axis=1)):
            raise ImageError(
                "rows and columns of the slice are not at right angles; choose another orientation or dims: 3",
                "unusable",
            )
        affine = np.diag([*np.delete(np.linalg.norm(affine[:3, :3], axis=0), axis), 1.0, 1.0])
        axes = (0, 1)
        index = None if index is None or length == 1 else index + box[axis].start
    return OrientedView(view, affine, axes, box, axis, index)


def check_dims(shape: tuple[int, ...], modality: Modality) -> None:
    """Raises ImageError where an image of this shape cannot become the modality's input."""
    sizes = " x ".join(map(str, shape))
    if modality.dims == 3 and (len(shape) != 3 or min(shape) == 1):
        raise ImageError(f"expected a volume (dims: 3), found a single slice of {sizes}", "dimension")
    if modality.dims == 2 and len(shape) == 3 and isinstance(modality.slice, int) and modality.slice >= max(shape):
        raise ImageError(f"slice {modality.slice} does not exist in {sizes} voxels; choose another one", "unusable")


def is_sheared(shape: tuple[int, ...], axes: np.ndarray) -> bool:
    """Whether the axes, columns of (3, N), are so far from right angles that voxels are out of place by half a voxel.

    shape: voxels along each axis. Out of place is one end of an axis seen from its other end, and of the two axes of an
    angle the one that is less so: it can be turned to make the angle right.
    """
    lengths = np.linalg.norm(axes, axis=0)
    cosines = axes.T @ axes / np.outer(lengths, lengths) * (1 - np.eye(len(shape)))
    extents_mm = lengths * (np.array(shape) - 1)
    out_of_place = np.abs(cosines) * extents_mm / lengths[:, None]  # (N, N), voxels
    return bool(np.minimum(out_of_place, out_of_place.T).max() > _IN_PLACE)


def upright_spacing(axes: np.ndarray) -> list[float]:
    """Spacing in mm of a grid at right angles instead of the axes, columns of (3, N): their shear is taken out."""
    scaling = np.linalg.cholesky(axes.T @ axes).T
    return [float(length) for length in np.diag(scaling)]


def steady_affine(affine: np.ndarray, shape: tuple[int, ...], spacing_mm: Sequence[float]) -> np.ndarray:
    """The affine (4, 4) by which a new spacing is laid out: as it is, unless its last digits would decide.

    MONAI's Spacing lays its grid from a corner that it recognises to 1e-8, else from the centre, and rounds its length.
    The digits of an oblique affine, which formats keep differently, must not choose between two grids: where they do,
    the affine's rotation is taken out first.
    """
    upright = _without_rotation(affine, shape, spacing_mm)
    try:
        (lengths, _, is_cornered), (wanted, _, should_be) = (
            _grid(shape, one, spacing_mm)[:3] for one in (affine, upright)
        )
    except np.linalg.LinAlgError:
        return affine
    return affine if np.array_equal(lengths, wanted) and is_cornered == should_be else upright


def _without_rotation(affine: np.ndarray, shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """How the voxels lie to each other, and no longer in the patient: what is nearly a right angle is one, and voxel
    sizes at which the grid's length is a tie are rounded."""
    dims = len(shape)
    axes = affine[:dims, :dims]
    lengths = np.linalg.norm(axes, axis=0)
    cells = (np.asarray(shape) - 1) * lengths / np.asarray(spacing_mm)
    is_tie = np.abs(cells % 1 - 0.5) < _TIE
    steady = np.where(is_tie, [float(f"{length:.{_SIZE_DIGITS}g}") for length in lengths], lengths)
    aligned = np.where(np.abs(axes) > _ALIGNED * lengths, axes, 0)
    found = np.eye(4)
    if (np.count_nonzero(aligned, axis=0) == 1).all():
        found[:dims, :dims] = aligned / np.abs(aligned).sum(axis=0) * steady
        found[:dims, 3] = affine[:dims, 3]
        return found
    upper = np.linalg.cholesky(axes.T @ axes).T
    shear = np.where(np.abs(upper) > _ALIGNED * lengths, upper, 0) - np.diag(np.diag(upper))
    is_upright = not shear.any()
    found[:dims, :dims] = np.diag(steady if is_upright else np.diag(upper)) + shear
    return found


def check_spacing(shape: tuple[int, ...], affine: np.ndarray, spacing_mm: Sequence[float]) -> None:
    """Raises ImageError where the respaced image would be too large."""
    found = np.linalg.norm(affine[:3, :3], axis=0)[: len(shape)]
    needed = float(np.prod(np.ceil(np.array(shape) * found / spacing_mm)))
    if needed > MAX_VOXELS:
        sizes = " x ".join(f"{length:.3g}" for length in found)
        raise ImageError(f"voxels of {sizes} mm would become {needed:.2g} at spacing_mm={list(spacing_mm)}", "unusable")


def respaced_coordinates(
    shape: tuple[int, ...], affine: np.ndarray, spacing_mm: Sequence[float]
) -> list[np.ndarray] | None:
    """Where along each axis MONAI's Spacing samples an image, in voxels; None where the axes depend on each other.

    They do where the affine has shear, which Spacing removes.
    """
    dims = len(shape)
    try:
        lengths, (source, target), _ = _grid(shape, affine, spacing_mm)
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


def with_slice_axis(image: Image, modality: Modality) -> Image:
    """A 2D image of a patient as a volume of one slice, where it is to be turned: a slice lies in space as well."""
    if image.voxels.ndim != 2 or not image.is_spatial or modality.orientation is None:
        return image
    return replace(image, voxels=image.voxels[..., None])


def _oriented(view: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    from nibabel import orientations

    turn = orientations.ornt_transform(orientation_of(affine), orientations.axcodes2ornt(codes))
    axes = tuple(int(axis) for axis in np.argsort(turn[:, 0]))
    flips = tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in turn[:, 1] == -1)
    return view[flips].transpose(axes), affine @ orientations.inv_ornt_aff(turn, view.shape), axes


def even_or_single(image: Image, modality: Modality) -> Image:
    """The image as it is where its slices are even, or where one of them is taken; else resampled to be even.

    Raises ImageError if the distance is unknown.
    """
    if image.slice_positions_mm is None:
        return image
    if modality.uses_one_slice and _is_cut_between_slices(image, modality):
        return image
    if modality.spacing_mm is None:
        found = uneven_in_words(image.slice_positions_mm)
        if modality.dims == 2:
            raise ImageError(
                f"{found}: rows would not be even; choose another orientation, or export the series again", "unusable"
            )
        raise ImageError(f"{found}: no even stack; set spacing_mm, or use one slice (dims: 2)", "unusable")
    return evened(image)


def _is_cut_between_slices(image: Image, modality: Modality) -> bool:
    """Whether a slice of the turned volume is one of the file's own slices."""
    if modality.orientation is None:
        return True
    return _oriented(image.voxels, image.affine, modality.orientation)[2][2] == 2


def _middle_of(image: Image, view: np.ndarray, axis: int) -> int:
    """The index in the view of the slice halfway between the ends."""
    assert image.slice_positions_mm is not None
    index = middle_slice(image.slice_positions_mm)
    before, after = view.strides[axis], image.voxels.strides[2]
    return index if before == after else view.shape[axis] - 1 - index


def _moved(start: Sequence[int]) -> np.ndarray:
    """(4, 4): from the indices of a box to those of the whole."""
    move = np.eye(4)
    move[: len(start), 3] = start
    return move


def _choose_slice(view: np.ndarray, modality: Modality, image: Image) -> tuple[int, int | None]:
    """The axis that a slice of a volume is taken along, and its index in the view; None: the maximum of all."""
    # A sagittal or coronal slice has its single voxel on another axis than the last, once it is turned.
    axis = next((axis for axis in (2, 1, 0) if view.shape[axis] == 1), 2)
    length = view.shape[axis]
    if modality.slice == "middle" or length == 1:
        return axis, length // 2 if image.slice_positions_mm is None else _middle_of(image, view, axis)
    if modality.slice == "maximum_projection":
        return axis, None
    if modality.slice == "largest_foreground":
        others = tuple(other for other in range(3) if other != axis)
        return axis, int(foreground(view, modality.foreground).sum(axis=others).argmax())
    if modality.slice >= length:
        raise ImageError(
            f"slice {modality.slice} does not exist: {length} slices along the last axis; choose another one",
            "unusable",
        )
    return axis, modality.slice


def _grid(
    shape: tuple[int, ...], affine: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], bool]:
    """Of the respaced image: its shape, affines (n + 1, n + 1) of the image and of it, and whether a corner stays.

    MONAI's `zoom_affine` and `compute_shape_offset`, with the tolerances that decide between a corner and the centre.
    """
    dims = len(shape)
    source, target = np.eye(dims + 1), np.eye(dims + 1)
    source[:dims, :dims], source[:dims, dims] = affine[:dims, :dims], affine[:dims, 3]
    axes = source[:dims, :dims]
    found = np.sqrt(np.sum(axes * axes, axis=0))
    wanted = np.where(np.abs(found - spacing_mm) <= _UNCHANGED, found, spacing_mm)
    scaling = np.linalg.cholesky(axes.T @ axes).T  # upper triangular: spacing and shear
    target[:dims, :dims] = axes @ np.linalg.inv(scaling) @ np.diag(np.sign(np.diag(scaling)) * wanted)
    corners = np.asarray(np.meshgrid(*[(0.0, length - 1.0) for length in shape], indexing="ij")).reshape(dims, -1)
    corners = np.concatenate((corners, np.ones_like(corners[:1])))
    there = (np.linalg.solve(target, source) @ corners)[:-1]
    lengths = np.round(np.ptp(there, axis=1) + 1.0).astype(int)
    for number in range(corners.shape[1]):
        if np.allclose(np.min(there - there[:, number : number + 1], 1), 0.0, rtol=_UNCHANGED):
            target[:dims, dims] = (source @ corners)[:-1, number]
            return lengths, (source, target), True
    centre = source[:-1, :-1] @ (np.array(shape) / 2.0) + source[:-1, -1]
    target[:dims, dims] = centre - target[:-1, :-1] @ (lengths / 2.0)
    return lengths, (source, target), False
