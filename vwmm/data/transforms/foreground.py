"""Foreground mask, crop around the patient, and N4 bias correction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vwmm.data.readers.image import Image, ImageError
from vwmm.data.transforms.orientation import orientation_of

# The field is smooth: it is estimated on every fourth voxel of an axis, but on no fewer than this many.
_SHRINK, _MIN_LENGTH = 4, 16
# Voxel sizes are rounded to 1/1024 mm for N4: a field of view over a power of 2, as most are, is a multiple of it or
# far from halfway between two.
_SIZES_PER_MM = 1024
# Of the largest value: how far below 0 rounding may leave it.
_ROUNDED = 1e-6


def foreground(voxels: np.ndarray, kind: str | float) -> np.ndarray:
    """(*shape) bool. kind: `otsu`, `nonzero`, or the number that values are above. Raises ImageError if there is none.

    Otsu's threshold separates two groups of values with the least variance within them (Otsu, IEEE TSMC 1979).
    """
    threshold = otsu_threshold(voxels) if kind == "otsu" else kind
    mask = voxels != 0 if threshold == "nonzero" else voxels > threshold
    if not mask.any():
        raise ImageError(f"no voxel is foreground (modalities.NAME.foreground={kind})")
    return np.asarray(mask)


def otsu_threshold(voxels: np.ndarray) -> float:
    """Between background and foreground, from a histogram of 256 bins."""
    import SimpleITK as sitk  # noqa: N813  # its own name in its documentation

    # Few voxels of an axis are one bin each; the order of the axes changes no count.
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(256)
    otsu.Execute(sitk.GetImageFromArray(np.ascontiguousarray(voxels.reshape(1, -1), dtype=np.float32)))
    return float(otsu.GetThreshold())


def box_around(mask: np.ndarray, margin: Sequence[int]) -> tuple[slice, ...]:
    """The smallest box that holds the mask, and `margin` voxels more to each side of each axis, within the image."""
    box = []
    for axis, more in enumerate(margin):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(found[0]) - more), min(mask.shape[axis], int(found[-1]) + 1 + more)))
    return tuple(box)


def bias_corrected(image: Image, kind: str | float) -> Image:
    """The image without the smooth field that N4 finds in its foreground (Tustison et al., IEEE TMI 2010).

    N4 lays its grid from the first voxel on, and is sensitive to the last digit of a voxel's size: so it sees every
    image turned to RAS, its voxel size rounded, however a file stores them.
    """
    if image.bounds[0] < -max(image.step / 2, _ROUNDED * image.bounds[1]):
        raise ImageError("bias_correction: values below 0 are no MRI magnitudes, which it is for")
    volume = image.voxels[..., None] if image.voxels.ndim == 2 else image.voxels
    turn = orientation_of(image.affine) if image.is_spatial else np.array([[0, 1], [1, 1], [2, 1]])
    order = turn[:, 0].argsort()
    flips = tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in turn[:, 1] == -1)
    turned = np.ascontiguousarray(volume[flips].transpose(order), dtype=np.float32).clip(0)
    if image.step:  # the stored integers: each format rounds their multiples in its own way
        turned = np.rint(turned / np.float32(image.step))
    stored = np.linalg.norm(image.affine[:3, :3], axis=0)[order]
    spacing_mm = [round(mm * _SIZES_PER_MM) / _SIZES_PER_MM or float(mm) for mm in stored.tolist()]
    mask = foreground(turned, kind)
    field = _log_field(turned, mask, spacing_mm).transpose(order.argsort())[flips].reshape(image.voxels.shape)
    voxels = np.ascontiguousarray(image.voxels / np.exp(field), dtype=np.float32)
    return replace(image, voxels=voxels)


def _log_field(voxels: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """(*shape) float32: the logarithm of the field."""
    import SimpleITK as sitk  # noqa: N813

    whole, inside = _itk(voxels, spacing_mm), _itk(mask.astype(np.uint8), spacing_mm)
    shrink = [max(1, min(_SHRINK, length // _MIN_LENGTH)) for length in whole.GetSize()]
    n4: Any = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # another number adds up in another order
    try:
        n4.Execute(sitk.Shrink(whole, shrink), sitk.Shrink(inside, shrink))
        field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).T
    except RuntimeError as error:
        raise ImageError("bias_correction: N4 finds no field: is the foreground empty on a coarse grid?") from error
    return np.asarray(field.astype(np.float32).reshape(voxels.shape))


def _itk(voxels: np.ndarray, spacing_mm: Sequence[float]) -> Any:
    import SimpleITK as sitk  # noqa: N813

    # Along an axis of one voxel there is no field.
    found = sitk.GetImageFromArray(np.ascontiguousarray(voxels.squeeze().T))
    found.SetSpacing([mm for mm, length in zip(spacing_mm, voxels.shape, strict=True) if length > 1])
    return found
