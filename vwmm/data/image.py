"""What every reader gives, and what it refuses."""

import math
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vwmm.config.errors import printable

# LPS (DICOM, ITK) to RAS (NIfTI, MONAI): the first two axes point the other way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Everything else becomes float32: each dtype more is each loop compiled once more.
KEPT_DTYPES = tuple(np.dtype(kind) for kind in (np.uint8, np.int16, np.uint16, np.float32))
MAX_VOXELS = 2**30  # 4 GiB in float32; no medical image of one case is larger


class ImageError(ValueError):
    """An image that cannot be used, and why: one line, whatever names a file or its header has."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


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
    """Whether the file says how large its voxels are; if not, the affine's lengths stand in for them."""
    has_orientation: bool = True
    """Whether the file can say where the axes point; if not, the affine's directions stand in for them."""

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
            f"expected 2 or 3 dimensions, found {len(shape)} ({text}); a time series needs one image chosen"
        )
    if min(shape) < 1:
        raise ImageError(f"the image has no voxels ({text})")
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
    """ImageError where voxels have no place in space."""
    if not np.isfinite(affine).all():
        raise ImageError("the affine is not finite (NaN or infinite)")
    if not abs(np.linalg.det(affine[:3, :3])) > 1e-12:
        raise ImageError("the affine is singular: an axis has no direction, or no length")


def check_voxels(image: Image) -> None:
    """ImageError for voxels that a network can learn nothing from, or that would spoil it."""
    low, high = image.bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int(image.voxels.size - np.isfinite(image.voxels).sum())
        raise ImageError(f"{count} of {image.voxels.size} voxels are not finite (NaN or infinite)")
    if low == high:
        raise ImageError(f"every voxel has the same value ({low:g}): this image is empty")


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

    Whatever is too large for float32 becomes infinite, and is refused later.
    """
    dtype = array.dtype.newbyteorder("=")
    with np.errstate(over="ignore", invalid="ignore"):
        kept = array.astype(dtype if dtype in KEPT_DTYPES else np.float32, order="K", copy=False)
    if not kept.flags.aligned or not (kept.flags.c_contiguous or kept.flags.f_contiguous):
        kept = kept.copy(order="C")
    return np.asarray(kept)


def in_words(error: BaseException, path: Path) -> str:
    """The telling line of a library's message, without addresses in memory and without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else error.__class__.__name__  # ITK's explanation is the last line
    text = re.sub(r"^(sitk::|ITK )?ERROR: |\w+\(0x[0-9a-f]+\): ", "", text)
    text = re.sub(r"\w+\(0x[0-9a-f]+\): | at 0x[0-9a-f]+", "", text)
    return text.replace(f"{path.parent}/", "")[:200]
