"""MetaImage (.mha, .mhd).

The header is text, a key and a value a line, and ends with the name of the file that has the voxels
(https://itk.org/Wiki/ITK/MetaIO/Documentation). Only LOCAL or a file beside the header is read.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vwmm.data.readers.bounded import check_ratio, check_truncated, read_packed, read_part
from vwmm.data.readers.image import (
    LPS_TO_RAS,
    NO_DIRECTIONS,
    Image,
    ImageError,
    as_voxels,
    check_affine,
    check_beside,
    check_shape,
    complete_affine,
)
from vwmm.data.readers.units import millimetres

SUFFIXES = (".mha", ".mhd")
MAX_HEADER_BYTES = 2**16
ELEMENT_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
# The first that is there counts.
_MATRICES, _SPACINGS = ("TransformMatrix", "Rotation", "Orientation"), ("ElementSpacing", "ElementSize")
_NOT_META = "this is not a MetaImage file: it needs a line `ElementDataFile = ...`"


def read_metaimage(path: Path) -> Image:
    """The image, its values as ElementToIntensityFunction gives them."""
    header, start = _read_header(path)
    shape, dtype = _shape(header), _dtype(header)
    file, start, needed = _place(path, header, start)
    if _flag(header, "CompressedData"):
        content = read_packed(file, start, needed)
    else:
        content = read_part(file, start, needed)
        check_truncated(len(content), needed)
    voxels = np.frombuffer(content, dtype, needed // dtype.itemsize).reshape(shape, order="F")
    slope, offset = _intensity(header)
    is_scaled = (slope, offset) != (1.0, 0.0)
    factor = millimetres(header.get("DistanceUnits", ""))
    doubts = [] if factor else [f"DistanceUnits is {header['DistanceUnits'][:40]!r}, which is no length"]
    if not (has_axes := any(key in header for key in _MATRICES)):
        doubts.append(NO_DIRECTIONS)
    return Image(
        as_voxels(voxels * slope + offset if is_scaled else voxels),
        _affine(header, len(shape)),
        "unknown",
        has_spacing=factor is not None and any(key in header for key in _SPACINGS),
        has_orientation=has_axes,
        step=abs(slope) if is_scaled and dtype.kind in "iu" else 0.0,
        doubts=tuple(doubts),
    )


def metaimage_shape(path: Path) -> tuple[int, ...]:
    """The shape, from the header; too few bytes for it are found."""
    header, start = _read_header(path)
    shape = _shape(header)
    file, start, needed = _place(path, header, start)
    size = file.stat().st_size - start
    if _flag(header, "CompressedData"):
        check_ratio(size, needed)
    else:
        check_truncated(size, needed)
    check_affine(_affine(header, len(shape)))
    return shape


def data_file(path: Path) -> Path | None:
    """The file beside a header that has the voxels; None where they are in the header's own file."""
    name = _read_header(path)[0]["ElementDataFile"]
    if name == "LOCAL":
        return None
    check_beside(path, name)
    return path.parent / name


def _place(path: Path, header: Mapping[str, str], start: int) -> tuple[Path, int, int]:
    """The file that has the voxels, where they begin there, and how many bytes they have."""
    needed = int(np.prod(_shape(header))) * _dtype(header).itemsize
    file, name = path, header["ElementDataFile"]
    if name != "LOCAL":
        check_beside(path, name)
        file, start = path.parent / name, 0
    text = header.get("HeaderSize", "0")
    if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        raise ImageError(f"the MetaImage header is damaged: HeaderSize is {text[:40]!r}")
    if _flag(header, "CompressedData"):
        return file, start, needed
    skipped = int(text)
    return file, start + skipped if skipped >= 0 else max(file.stat().st_size - needed, start), needed


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """The keys, ElementDataFile the last of them, and the place where the voxels of a LOCAL file begin."""
    header: dict[str, str] = {}
    with path.open("rb") as stream:
        while "ElementDataFile" not in header:
            line = stream.readline(MAX_HEADER_BYTES)
            if not line or stream.tell() > MAX_HEADER_BYTES:
                raise ImageError(_NOT_META)
            key, _, value = line.decode("utf-8", "replace").partition("=")
            header[key.strip()] = value.strip()
        return header, stream.tell()


def _intensity(header: Mapping[str, str]) -> tuple[float, float]:
    """Slope and offset of the values (MetaIO: ElementToIntensityFunction), which ITK leaves to its users."""
    found = []
    for key, default in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        numbers = _numbers(header, key) or [default]
        if len(numbers) != 1 or not math.isfinite(numbers[0]):
            raise ImageError(f"the MetaImage header is damaged: {key} is {header[key][:40]!r}")
        found.append(numbers[0])
    if found[0] == 0:
        raise ImageError("ElementToIntensityFunctionSlope is 0: every voxel would have the same value")
    return found[0], found[1]


def _flag(header: Mapping[str, str], key: str) -> bool:
    return header.get(key, "False").lower() in ("true", "t", "1")


def _numbers(header: Mapping[str, str], *keys: str) -> list[float]:
    """The numbers of the first of the keys that there is."""
    words = next((header[key].split() for key in keys if key in header), [])
    try:
        return [float(word) for word in words]
    except ValueError:
        text = " ".join(words)[:40]
        raise ImageError(f"the MetaImage header is damaged: expected numbers as {keys[0]}, found {text!r}") from None


def _shape(header: Mapping[str, str]) -> tuple[int, ...]:
    lengths = _numbers(header, "DimSize")
    if not all(length.is_integer() for length in lengths):
        raise ImageError(f"the MetaImage header is damaged: DimSize is {header['DimSize'][:40]!r}")
    shape = tuple(int(length) for length in lengths)
    if str(len(shape)) != header.get("NDims"):
        raise ImageError("the MetaImage header is damaged: DimSize has not NDims numbers")
    check_shape(shape)
    return shape


def _dtype(header: Mapping[str, str]) -> np.dtype:
    name = header.get("ElementType", "")
    if header.get("ElementNumberOfChannels", "1") != "1" or name.endswith("_ARRAY"):
        raise ImageError("the voxels are colours or vectors; expected one number per voxel")
    if name not in ELEMENT_TYPES:
        raise ImageError(f"expected ElementType to be one of {', '.join(ELEMENT_TYPES)}, found {name[:40]!r}")
    if "BinaryData" in header and not _flag(header, "BinaryData"):
        raise ImageError("the voxels are written as text; save them with BinaryData = True", "unusable")
    is_swapped = _flag(header, "BinaryDataByteOrderMSB") or _flag(header, "ElementByteOrderMSB")
    return np.dtype(ELEMENT_TYPES[name]).newbyteorder(">" if is_swapped else "<")


def _affine(header: Mapping[str, str], dims: int) -> np.ndarray:
    space = min(dims, 3)
    axes = _numbers(header, *_MATRICES) or np.eye(dims).ravel().tolist()
    spacing = _numbers(header, *_SPACINGS) or [1.0] * dims
    origin = _numbers(header, "Offset", "Position", "Origin") or [0.0] * dims
    if (len(axes), len(spacing), len(origin)) != (dims * dims, dims, dims):
        raise ImageError(
            "the MetaImage header is damaged: TransformMatrix, ElementSpacing or Offset has not NDims numbers"
        )
    affine = np.eye(4)
    # The matrix lists one axis after the other: they are the columns of the affine.
    affine[:space, :space] = np.array(axes).reshape(dims, dims).T[:space, :space] * np.array(spacing)[:space]
    affine[:space, 3] = origin[:space]
    affine[:3] *= millimetres(header.get("DistanceUnits", "")) or 1.0
    return LPS_TO_RAS @ complete_affine(affine, dims)
