"""The record that each reader returns, and what is rejected."""

import math
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vwmm.system.problems import printable

# LPS (DICOM, ITK) to RAS (NIfTI, MONAI): the first two axes point the other way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Everything else becomes float32: each dtype more is each loop compiled once more.
KEPT_DTYPES = tuple(np.dtype(kind) for kind in (np.uint8, np.int16, np.uint16, np.float32))
# Whole numbers up to here are exact in float32.
_WHOLE_FLOAT32 = 2**24
# Of the range of an image's values: the rounding that it may lose, less than half a step of twelve bits.
_MAX_LOSS = 1e-4
# Of a CT's air, which nothing in a patient is below: what is, and fills part of an image, is no data.
AIR_HU = -1024.0
# No noise of air reaches below it.
LOWEST_AIR_HU = -1200.0
# Between the value that stands for no data and the next one; noise in air is less.
_PADDING_GAP = 200.0
_PADDING_SHARE, _MAX_PADDINGS = 1e-3, 2
NO_DIRECTIONS = (
    "the file has no axis directions: taken as left, posterior, superior, as ITK does; another program may mirror it"
)
MAX_VOXELS = 2**30  # 4 GiB in float32; no medical image of one case is larger


class ImageError(ValueError):
    """An unusable image, and why: one line, safe for any names in the file or its header."""

    def __init__(self, text: str, kind: str = "unreadable") -> None:
        """kind: of `vwmm.system.problems.KINDS`."""
        super().__init__(printable(text))
        self.kind = kind


@dataclass(frozen=True)
class Image:
    """One image as it is stored on disk, its values in the file's unit."""

    voxels: np.ndarray
    """(X, Y) or (X, Y, Z): columns, rows, slices. One of KEPT_DTYPES; contiguous in either order."""
    affine: np.ndarray
    """(4, 4) float64, voxel indices to RAS millimetres."""
    unit: str
    """`HU` for a CT read from DICOM, `inverted` where the lowest value of that CT was white, else `unknown`."""
    has_spacing: bool = True
    """Whether the file has voxel sizes; if not, the affine's lengths replace them."""
    has_orientation: bool = True
    """Whether the file has axis directions; if not, the affine's directions replace them."""
    is_spatial: bool = True
    """Whether the format has the axes of a patient: a 2D picture or array is not turned."""
    step: float = 0.0
    """Difference between neighbouring stored values, where a program has made integers of fractions; 0: it has not."""
    slice_positions_mm: tuple[float, ...] | None = None
    """Place of each slice along the last axis, where their distance changes; None: it does not."""
    doubts: tuple[str, ...] = ()
    """Contradictions and gaps of the header, and the value used: a sentence each."""

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest voxel; NaN where there is one."""
        return float(self.voxels.min()), float(self.voxels.max())

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between voxel centres along each axis, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(length) for length in lengths[: self.voxels.ndim])


def check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without trailing singleton axes beyond the third; ImageError where it is no image's."""
    shape = tuple(int(length) for length in shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    text = " x ".join(str(length) for length in shape)
    if len(shape) not in (2, 3):
        raise ImageError(
            f"expected 2 or 3 dimensions, found {len(shape)} ({text})",
            "dimension",
        )
    if min(shape) < 1:
        raise ImageError(f"the image has no voxels ({text})", "empty")
    if np.prod([float(length) for length in shape]) > MAX_VOXELS:
        raise ImageError(f"{text} voxels are more than {MAX_VOXELS:,}: the header is probably damaged")
    return shape


def check_dtype(dtype: np.dtype) -> None:
    """ImageError for voxels that are not one real number each."""
    if dtype.fields is not None:
        raise ImageError("the voxels are colours (RGB); expected one number per voxel")
    if dtype.kind not in "biuf":
        raise ImageError(f"expected one real number per voxel, found dtype {dtype}")


def check_affine(affine: np.ndarray) -> None:
    """ImageError where voxels have no place in space. affine: in millimetres."""
    if not np.isfinite(affine).all():
        raise ImageError("the affine is not finite (NaN or infinite)", "not_finite")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # As shares of the lengths: voxels of an electron microscope have an affine like any other.
    if not (lengths > 1e-9).all() or not abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6:
        raise ImageError("the affine is singular: an axis has no direction, or no length")


def complete_affine(affine: np.ndarray, dims: int) -> np.ndarray:
    """An affine (4, 4) of `dims` axes, those that are not there at right angles to the others, 1 mm long."""
    if dims >= 3:
        return affine
    whole = affine.copy()
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = np.linalg.norm(normal)
    whole[:3, 2] = normal / length if length > 0 else (0.0, 0.0, 1.0)
    return whole


def check_voxels(image: Image) -> None:
    """ImageError for voxels that a network can learn nothing from, or that would spoil it."""
    low, high = image.bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int(image.voxels.size - np.isfinite(image.voxels).sum())
        raise ImageError(f"{count} of {image.voxels.size} voxels are not finite (NaN or infinite)", "not_finite")
    if low == high:
        raise ImageError(f"every voxel has the same value ({low:g}): this image is empty", "constant")


def without_padding(voxels: np.ndarray, unit: str) -> np.ndarray:
    """Voxels that are no data, as the lowest value of those that are: air, in a CT.

    Scanners and converters fill what lies outside a round field of view with a value below air, such as -2000 or -3024,
    and few formats declare it. It is recognised by its value: the only one or two values below air, far from
    every other value, in a thousandth of the image or more, and in most of its corners. In Hounsfield units, what is
    far below air is air in any case.
    """
    is_below = voxels < LOWEST_AIR_HU
    if not is_below.any() or is_below.all():
        return voxels
    lowest = voxels[~is_below].min()
    if is_below.mean() >= _PADDING_SHARE and _corners(is_below).mean() > 0.5:
        values = np.unique(voxels[is_below])
        if len(values) <= _MAX_PADDINGS and float(lowest) - float(values[-1]) >= _PADDING_GAP:
            return np.where(is_below, lowest, voxels)
    if unit == "HU" and (is_patient := voxels >= AIR_HU).any():
        return np.where(is_patient, voxels, voxels[is_patient].min())  # lossy compression smears padding
    return voxels


def _corners(array: np.ndarray) -> np.ndarray:
    return np.asarray(array[np.ix_(*([0, length - 1] for length in array.shape))])


def with_true_zeros(image: Image) -> Image:
    """The image with 0 as its background where a mask has left 0 there, and scaled integers keep 0 only nearly.

    The background is what most corners of the image hold; 0 is the stored value that is nearest to it.
    """
    if not image.step:
        return image
    corners = _corners(image.voxels)
    is_nearly = (np.abs(corners) <= image.step / 2) & (corners != 0)
    if is_nearly.mean() <= 0.5:
        return image
    return replace(image, voxels=np.where(np.abs(image.voxels) <= image.step / 2, 0, image.voxels))


def check_beside(path: Path, name: str) -> None:
    """ImageError unless the data file that a header names is one file in the header's own folder."""
    is_plain = (
        bool(name) and not {"%", "\0"} & {*name} and not re.match(r"(?i)LIST\b", name) and Path(name).name == name
    )
    data = path.parent / name
    if not is_plain or data.resolve().parent != path.parent.resolve():
        raise ImageError(f"its voxels are in {name[:100]!r}; expected one file in the header's own folder")
    if not os.path.isfile(data):  # without an error for a name that is too long
        raise ImageError(f"its voxels are in {name[:100]!r}, which is not there")


def as_voxels(array: np.ndarray) -> np.ndarray:
    """The array itself where a loop over voxels can take it as it is, else a copy in one of KEPT_DTYPES.

    Values too large for float32 become infinite, and are rejected later. Raises ImageError where float32 cannot
    tell values apart that the array can.
    """
    dtype = array.dtype.newbyteorder("=")
    with np.errstate(over="ignore", invalid="ignore"):
        kept = array.astype(dtype if dtype in KEPT_DTYPES else np.float32, order="K", copy=False)
        if dtype not in KEPT_DTYPES and dtype.itemsize >= 4:
            _check_kept(array)
    if not kept.flags.aligned or not (kept.flags.c_contiguous or kept.flags.f_contiguous):
        kept = kept.copy(order="C")
    return np.asarray(kept)


def _check_kept(array: np.ndarray) -> None:
    """ImageError for values so close to each other, and so far from 0, that float32 would make steps of them."""
    low, high = float(array.min()), float(array.max())
    largest = max(abs(low), abs(high))
    if not 0 < high - low < math.inf or (array.dtype.kind in "iu" and largest <= _WHOLE_FLOAT32):
        return
    if largest * 2.0**-25 > _MAX_LOSS * (high - low):
        raise ImageError(
            f"the values lie between {low:.10g} and {high:.10g}, where float32 has steps of {largest * 2.0**-24:.3g}; "
            "subtract a constant, and save the image again",
            "unusable",
        )


def in_words(error: BaseException, path: Path) -> str:
    """The telling line of a library's message, without addresses in memory and without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else error.__class__.__name__  # ITK's explanation is the last line
    text = re.sub(r"^(sitk::|ITK )?ERROR: |\w+\(0x[0-9a-f]+\): ", "", text)
    text = re.sub(r"\w+\(0x[0-9a-f]+\): | at 0x[0-9a-f]+", "", text)
    return text.replace(f"{path.parent}/", "")[:200]
