"""NRRD (.nrrd, .nhdr), parsed within bounds: ITK's reader crashes on some damaged headers.

The header is text, a field and its value a line, up to an empty line (https://teem.sourceforge.net/nrrd/format.html).
The voxels follow, or are in a file beside the header. pynrrd 1.1.3 parses it without bounds (a field of 20 MB is read),
accepts negative sizes and another number of them than `dimension`, and ignores `TYPE:`: each check here would remain.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vwmm.data.readers.bounded import SLACK, check_ratio, check_truncated, read_packed, read_part
from vwmm.data.readers.image import (
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

SUFFIXES = (".nrrd", ".nhdr")
MAX_HEADER_BYTES = 2**16
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS = {
    "raw": "raw", "gz": "zlib", "gzip": "zlib", "bz2": "bzip2", "bzip2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text", "hex": "hex",
}  # fmt: skip
_SPATIAL = ("domain", "space", "???", "none")
# Spaces with a patient's axes.
_PATIENT = (
    "right-anterior-superior",
    "ras",
    "left-anterior-superior",
    "las",
    "left-posterior-superior",
    "lps",
)
_FIELDS = {"spaceunits": "space units", "units": "units"}
# To RAS, from each space with a patient's axes; from any other as from LPS, as ITK does.
_TO_RAS = {
    "right-anterior-superior": (1, 1), "ras": (1, 1), "left-anterior-superior": (-1, 1), "las": (-1, 1),
}  # fmt: skip


def read_nrrd(path: Path) -> Image:
    """The image, its values those of before they were quantized, where the header has them."""
    header, start = _read_header(path)
    sizes, dtype = _sizes(header), _dtype(header)
    file, start = _place(path, header, start)
    count = int(np.prod(sizes))
    encoding = _encoding(header)
    if encoding == "text":
        content = read_part(file, start, 64 * count + SLACK)
        flat = np.array(content.split(maxsplit=count)[:count], dtype=np.float64)
    elif encoding == "hex":
        content = read_part(file, start, 4 * count * dtype.itemsize + SLACK)
        flat = np.frombuffer(bytes.fromhex(content.decode("ascii")), dtype)[:count]
    elif encoding == "raw":
        flat = np.frombuffer(read_part(file, start, count * dtype.itemsize), dtype)
    else:
        skipped = _number(header, "byteskip")
        packed = read_packed(file, start, skipped + count * dtype.itemsize, encoding)
        flat = np.frombuffer(packed, dtype, offset=skipped)
    check_truncated(flat.size * dtype.itemsize, count * dtype.itemsize)
    shape = check_shape(tuple(size for size, _ in _spatial(header, sizes)))
    slope, intercept = _original_range(header, dtype)
    is_scaled = (slope, intercept) != (1.0, 0.0)
    place = _place_in_space(header, sizes)
    voxels = (flat * slope + intercept if is_scaled else flat).reshape(shape, order="F")
    return replace(place, voxels=as_voxels(voxels), step=slope if is_scaled and not slope.is_integer() else 0.0)


def nrrd_shape(path: Path) -> tuple[int, ...]:
    """The shape, from the header; too few bytes for it are found."""
    header, start = _read_header(path)
    sizes, dtype = _sizes(header), _dtype(header)
    file, start = _place(path, header, start)
    size, needed = file.stat().st_size - start, int(np.prod(sizes)) * dtype.itemsize
    if _encoding(header) == "raw":
        check_truncated(size, needed)
    else:
        check_ratio(size, needed)
    check_affine(_place_in_space(header, sizes).affine)
    return check_shape(tuple(size for size, _ in _spatial(header, sizes)))


def data_file(path: Path) -> Path | None:
    """The file beside a header that has the voxels; None where they are in the header's own file."""
    name = _read_header(path)[0].get("datafile")
    if name is None:
        return None
    check_beside(path, name)
    return path.parent / name


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields, without spaces and capitals in their names, and the place behind the empty line."""
    header: dict[str, str] = {}
    with path.open("rb") as stream:
        if not re.match(rb"NRRD\d{4}\s", stream.readline(64)):
            raise ImageError("this is not a NRRD file, despite its name")
        while (line := stream.readline(MAX_HEADER_BYTES)).strip(b"\r\n"):
            if stream.tell() > MAX_HEADER_BYTES:
                raise ImageError(f"the NRRD header is longer than {MAX_HEADER_BYTES:,} bytes")
            field, colon, value = line.decode("utf-8", "replace").partition(":")
            if line.startswith(b"#") or value.startswith("="):  # comments, and keys of other programs
                continue
            name = re.sub(r"\s", "", field).lower()
            if not colon or name in header:
                what = "stands twice" if colon else "has no value"
                raise ImageError(f"the NRRD header is damaged: {field.strip()[:40]!r} {what}")
            header[name] = value.strip()
        return header, stream.tell()


def _place(path: Path, header: Mapping[str, str], start: int) -> tuple[Path, int]:
    """The file that has the voxels, and where they begin."""
    name = header.get("datafile")
    file, start = (path, start) if name is None else (path.parent / name, 0)
    if name is not None:
        check_beside(path, name)
    size, lines, skipped = file.stat().st_size, _number(header, "lineskip"), _number(header, "byteskip")
    if not (0 <= lines <= MAX_HEADER_BYTES and -1 <= skipped <= size):
        raise ImageError("the NRRD header is damaged: it skips more than the file has")
    if lines:
        with file.open("rb") as stream:
            stream.seek(start)
            for _ in range(lines):
                stream.readline(MAX_HEADER_BYTES)
            start = stream.tell()
    encoding = _encoding(header)
    if skipped == -1:
        if encoding != "raw":
            raise ImageError("the NRRD header is damaged: byte skip -1 is for raw voxels only")
        return file, max(size - int(np.prod(_sizes(header))) * _dtype(header).itemsize, start)
    return file, start + (skipped if encoding in ("raw", "text", "hex") else 0)


def _number(header: Mapping[str, str], field: str) -> int:
    text = header.get(field, "0")
    if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        raise ImageError(f"the NRRD header is damaged: {field} is {text[:40]!r}")
    return int(text)


def _encoding(header: Mapping[str, str]) -> str:
    name = header.get("encoding", "")
    if name.lower() not in _ENCODINGS:
        raise ImageError(f"expected encoding to be one of {', '.join(_ENCODINGS)}, found {name[:40]!r}")
    return _ENCODINGS[name.lower()]


def _dtype(header: Mapping[str, str]) -> np.dtype:
    name, endian = header.get("type", ""), header.get("endian", "").lower()
    if name.lower() not in _DTYPES:
        raise ImageError(f"expected type to be one number per voxel, found {name[:40]!r}")
    dtype = np.dtype(_DTYPES[name.lower()])
    if endian not in ("little", "big") and (endian or (dtype.itemsize > 1 and _encoding(header) != "text")):
        raise ImageError(f"expected endian to be little or big, found {endian[:40]!r}")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _sizes(header: Mapping[str, str]) -> list[int]:
    """Of all axes, those of colours and vectors among them."""
    words = header.get("sizes", "").split()
    if not all(re.fullmatch(r"\d{1,18}", word, re.ASCII) for word in words) or str(len(words)) != header.get(
        "dimension"
    ):
        raise ImageError("the NRRD header is damaged: the number of `sizes` differs from `dimension`")
    sizes = [int(word) for word in words]
    check_shape(tuple(size for size, _ in _spatial(header, sizes)))
    return sizes


def _spatial(header: Mapping[str, str], sizes: list[int]) -> list[tuple[int, int]]:
    """Size and number of each axis of space; ImageError where voxels are more than one number."""
    kinds = header.get("kinds", "").lower().split() or ["???"] * len(sizes)
    if len(kinds) != len(sizes):
        raise ImageError("the NRRD header is damaged: the number of `kinds` differs from `dimension`")
    axes = [(size, axis) for axis, (size, kind) in enumerate(zip(sizes, kinds, strict=True))]
    if any(size != 1 for size, axis in axes if kinds[axis] == "time") or header.get("space", "").lower().endswith(
        "-time"
    ):
        raise ImageError("an axis of the NRRD is time", "dimension")
    if any(size != 1 for size, axis in axes if kinds[axis] not in _SPATIAL):
        raise ImageError("the voxels are colours or vectors; expected one number per voxel")
    return [(size, axis) for size, axis in axes if kinds[axis] in _SPATIAL]


def _place_in_space(header: Mapping[str, str], sizes: list[int]) -> Image:
    """An image without voxels: its affine, and what the header leaves open."""
    axes = [axis for _, axis in _spatial(header, sizes)][:3]
    affine, has_spacing, doubts = np.eye(4), False, list[str]()
    has_directions = "spacedirections" in header
    if has_directions:
        vectors = re.findall(r"none|\([^()]*\)", header["spacedirections"])
        if len(vectors) != len(sizes):
            raise ImageError("the NRRD header is damaged: `space directions` has not as many vectors as `dimension`")
        for column, axis in enumerate(axes):
            vector = _vector(vectors[axis])
            affine[:3, column] = 0
            affine[: len(vector), column] = vector
        has_spacing = True
    elif "spacings" in header:
        spacings = _floats(header["spacings"].split())
        if len(spacings) != len(sizes):
            raise ImageError("the NRRD header is damaged: `spacings` has not as many numbers as `dimension`")
        # `nan` stands for an axis without a spacing.
        has_spacing = all(math.isfinite(spacings[axis]) for axis in axes)
        for column, axis in enumerate(axes):
            affine[column, column] = spacings[axis] if math.isfinite(spacings[axis]) else 1.0
    if header.get("spaceorigin", "none") != "none":
        origin = _vector(header["spaceorigin"])
        affine[: len(origin), 3] = origin
    space = header.get("space", "").lower()
    field = "spaceunits" if has_directions else "units"
    factors, unknown = _factors(header, field, 3 if has_directions else len(sizes))
    if unknown:
        has_spacing = False
        doubts.append(f"{_FIELDS[field]} are {unknown[:40]!r}, which is no length")
    if has_directions:  # of the axes of space
        affine[:3] *= np.array(factors)[:, None]
    else:  # of the axes of the file
        for column, axis in enumerate(axes):
            affine[:3, column] *= factors[axis]
    # No program writes the name of the space beside two axes.
    has_orientation = has_directions and (space in _PATIENT or len(axes) == 2)
    if not has_orientation:
        doubts.append(NO_DIRECTIONS)
    first, second = _TO_RAS.get(space, (-1, -1))
    return Image(
        np.empty(0),
        np.diag([first, second, 1.0, 1.0]) @ complete_affine(affine, len(axes)),
        "unknown",
        has_spacing=has_spacing,
        has_orientation=has_orientation,
        doubts=tuple(doubts),
    )


def _factors(header: Mapping[str, str], field: str, count: int) -> tuple[list[float], str]:
    """Millimetres of each axis's unit, and the first unit that is no length."""
    units = re.findall(r'"([^"]*)"', header.get(field, ""))
    factors = [millimetres(unit) for unit in units]
    unknown = next((unit for unit, factor in zip(units, factors, strict=True) if factor is None), "")
    known = [factor or 1.0 for factor in factors]
    return (known + [1.0] * count)[:count], unknown


def _original_range(header: Mapping[str, str], dtype: np.dtype) -> tuple[float, float]:
    """Slope and intercept that give integers the values of before they were quantized: `old min` and `old max` are
    those of the smallest and the largest integer (NRRD format, section 5)."""
    if dtype.kind not in "iu" or not {"oldmin", "oldmax"} <= header.keys():
        return 1.0, 0.0
    low, high = _floats([header["oldmin"], header["oldmax"]])
    if not (math.isfinite(low) and math.isfinite(high)):  # `nan`: not known
        return 1.0, 0.0
    if low >= high:
        raise ImageError(f"the NRRD header is damaged: old min is {low:g}, old max {high:g}")
    ends = np.iinfo(dtype)
    slope = (high - low) / (int(ends.max) - int(ends.min))
    return slope, low - slope * int(ends.min)


def _vector(text: str) -> list[float]:
    """Up to three numbers of `(x,y,z)`."""
    words = text.strip("()").split(",")
    if text == "none" or len(words) > 3:
        raise ImageError(f"the NRRD header is damaged: {text[:40]!r} is no vector in space")
    return _floats(words)


def _floats(words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ImageError(f"the NRRD header is damaged: expected numbers, found {' '.join(words)[:40]!r}") from None
