"""DICOM images: single files, multi-frame files and series.

A series is the files of a folder that share a SeriesInstanceUID. Its slices are sorted by their positions, and an
uneven or inconsistent stack is an error that names the file.
"""

import errno
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vwmm.data.readers.absent import HOW_TO_FETCH, MAX_POINTER_BYTES, is_pointer
from vwmm.data.readers.dicom.header import UNITS, Header, read_header
from vwmm.data.readers.dicom.meaning import check_one_scale
from vwmm.data.readers.dicom.pixels import Frames, common_dtype, read_frames
from vwmm.data.readers.dicom.planes import Plane, Stack, odd_ones, stack
from vwmm.data.readers.image import AIR_HU, LOWEST_AIR_HU, Image, ImageError, as_voxels, check_shape
from vwmm.data.readers.uneven_slices import uneven_in_words

# A DICOM file is often named by its UID as well: then its "suffix" is a number.
DICOM_SUFFIXES = (".dcm", ".ima", "")
_MAX_LISTED, _MAX_DESCRIPTION = 3, 32


def read_dicom(path: Path, series: str | None = None) -> Image:
    """One file, or a folder's series.

    series: which one of several, by SeriesInstanceUID or description. Raises ImageError, OSError.
    """
    headers = _headers(path, series)
    stacked = _stacked(headers)
    arrays = [_named(header, headers) for header in headers]
    dtype = common_dtype([array.values.dtype for array in arrays])
    voxels = _volume([frame for array in arrays for frame in array.values], stacked.order, dtype)
    if any(array.is_padding is not None for array in arrays):
        masks = [array.is_padding for array in arrays]
        empty = [np.zeros(array.values.shape, dtype=bool) for array in arrays]
        frames = [frame for mask, none in zip(masks, empty, strict=True) for frame in (none if mask is None else mask)]
        voxels = _filled(voxels, _volume(frames, stacked.order, np.dtype(bool)), headers[0].unit)
    planes = [plane for header in headers for plane in header.planes]
    return Image(
        as_voxels(voxels),
        stacked.affine,
        headers[0].unit,
        has_spacing=planes[0].spacing_mm is not None and (len(planes) == 1 or planes[0].is_placed),
        has_orientation=planes[0].axes is not None,
        step=_step(planes),
        slice_positions_mm=stacked.positions_mm,
    )


def _step(planes: Sequence[Plane]) -> float:
    """`Image.step`: the slope, where all slices have one and the same, and it is a fraction."""
    slopes = {plane.slope for plane in planes}
    slope = abs(slopes.pop() or 0.0) if len(slopes) == 1 else 0.0
    return 0.0 if slope.is_integer() else slope


def _volume(frames: Sequence[np.ndarray], order: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(columns, rows, slices) of frames (rows, columns)."""
    volume = np.empty((*frames[0].shape[::-1], len(frames)), dtype, order="F")
    for place, number in enumerate(order):
        volume[:, :, place] = frames[number].T
    return volume


def _filled(voxels: np.ndarray, is_padding: np.ndarray, unit: str) -> np.ndarray:
    """Padding as the lowest value of what is none; as it is where that is air or background already."""
    if is_padding.all():
        raise ImageError("every voxel is padding (PixelPaddingValue): this image is empty")
    floor = AIR_HU if unit == "HU" else 0
    lowest = voxels[~is_padding].min()
    if unit == "HU" and lowest < LOWEST_AIR_HU and (is_patient := ~is_padding & (voxels >= AIR_HU)).any():
        lowest = voxels[is_patient].min()
    is_wrong = is_padding & ((voxels > lowest) | (voxels < floor))
    voxels[is_wrong] = lowest
    return voxels


def dicom_shape(path: Path, series: str | None = None, *, needs_even: bool = True) -> tuple[int, ...]:
    """The shape from the headers, which are all looked into. Raises ImageError, OSError.

    needs_even: whether a changing slice distance is an error.
    """
    headers = _headers(path, series)
    positions_mm = _stacked(headers).positions_mm
    if needs_even and positions_mm is not None:
        raise ImageError(
            f"{uneven_in_words(positions_mm)}: no even stack; set spacing_mm, or export the series again", "unusable"
        )
    return (headers[0].columns, headers[0].rows, sum(len(header.planes) for header in headers))


def files_in(folder: Path, *, needs_all: bool = False) -> list[Path]:
    """The files that may belong to a series, sorted: hidden ones and a DICOMDIR do not.

    needs_all: raises ImageError where the content of some is not there. Raises OSError.
    """
    found, absent = list[Path](), list[str]()
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.stem.upper() == "DICOMDIR":
            continue
        try:
            state = entry.stat()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            absent += [entry.name] if error.errno == errno.ENOENT else []  # a link to itself never had content
            continue
        if not stat.S_ISREG(state.st_mode):
            continue
        found.append(entry)
        if needs_all and state.st_size <= MAX_POINTER_BYTES and _lacks_content(entry, state.st_size):
            absent.append(entry.name)
    if absent and needs_all:
        shown = ", ".join(absent[:_MAX_LISTED]) + (", ..." if len(absent) > _MAX_LISTED else "")
        raise ImageError(
            f"{len(absent)} of its files are empty, or only links or pointers to content that is not there ({shown}): "
            f"{HOW_TO_FETCH}, or remove them",
            "unusable",
        )
    return found


def _lacks_content(file: Path, size: int) -> bool:
    """Whether a file is a pointer, or an empty one that is called as slices are."""
    suffix = file.suffix.lower()
    return is_pointer(file) or (size == 0 and (suffix in DICOM_SUFFIXES or suffix[1:].isdigit()))


def _headers(path: Path, series: str | None) -> list[Header]:
    """The headers of one file, or of the files of one series."""
    if not path.is_dir():
        header = read_header(path)
        if header is None:
            raise ImageError("this is not a DICOM image, despite its name")
        return [header]
    found = [header for file in files_in(path, needs_all=True) if (header := _read_named(file)) is not None]
    if not found:
        has_folders = any(inner.is_dir() for inner in path.iterdir())
        hint = "; name the folder that has the files themselves" if has_folders else ""
        raise ImageError(f"the folder has no DICOM image{hint}", "empty")
    return _check_alike(_chosen(found, series))


def _read_named(path: Path) -> Header | None:
    """A header of a folder; an error names the file."""
    try:
        return read_header(path)
    except ImageError as error:
        raise ImageError(f"{path.name}: {error}", error.kind) from None
    except OSError as error:
        raise ImageError(f"{path.name}: {error.strerror}") from None


def _named(header: Header, headers: Sequence[Header]) -> Frames:
    """The frames of a file; an error names the file where there are several."""
    try:
        return read_frames(header)
    except ImageError as error:
        raise error if len(headers) == 1 else ImageError(f"{header.path.name}: {error}", error.kind) from None


def _chosen(headers: Sequence[Header], series: str | None) -> list[Header]:
    """The headers of the one series, or of the one that is asked for."""
    if series is None:
        chosen = list(headers)
    else:
        chosen = [header for header in headers if series in (header.series, header.description)]
        if not chosen:
            raise ImageError(f"no DICOM series has the UID or description {series!r}; found {_listed(headers)}")
    if len({header.series for header in chosen}) > 1:
        count = len({header.series for header in chosen})
        what = "the folder has" if series is None else f"{series!r} describes"
        raise ImageError(
            f"{what} {count} DICOM series: {_listed(chosen)}",
            "mixed_series",
        )
    return chosen


def _listed(headers: Sequence[Header]) -> str:
    """The series with their numbers of files: by description, or by UID where descriptions do not tell them apart."""
    counts = Counter((header.series, header.description) for header in headers)
    descriptions = Counter(description for _, description in counts)
    texts = []
    for (uid, description), count in counts.most_common(_MAX_LISTED):
        is_telling = description and descriptions[description] == 1
        name = description[:_MAX_DESCRIPTION] if is_telling else uid
        texts.append(f"{name!r} ({count} {'file' if count == 1 else 'files'})")
    more = len(counts) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")


def _check_alike(headers: list[Header]) -> list[Header]:
    """ImageError where the files of a series cannot be one volume."""
    if len(headers) == 1:
        return headers
    names = [header.path.name for header in headers]
    if several := [header.path.name for header in headers if len(header.planes) > 1]:
        raise ImageError(
            f"{several[0]} has several frames, and is one of {len(headers)} files; name one file instead", "unusable"
        )
    localizers = [header.path.name for header in headers if header.is_localizer]
    if localizers and len(localizers) < len(headers):
        raise ImageError(f"{localizers[0]} is a localizer among the slices", "mixed_series")
    sizes = np.array([header.shape for header in headers])
    if odd := odd_ones(sizes, names, 0):
        header = headers[names.index(odd[0])]
        usual = next(other for other in headers if other.path.name not in odd)
        raise ImageError(
            f"{odd[0]} has {header.columns} x {header.rows} voxels, other slices have {usual.columns} x {usual.rows}; "
            "one series has one size",
            "mixed_series",
        )
    units = np.array([[header.unit == unit for unit in UNITS] for header in headers], dtype=float)
    if odd := odd_ones(units, names, 0):
        raise ImageError(
            f"{odd[0]}: values in another unit than the other slices (RescaleSlope, RescaleType, "
            "PhotometricInterpretation); export the series again",
            "unusable",
        )
    return headers


def _stacked(headers: Sequence[Header]) -> Stack:
    """All frames as one volume."""
    planes = [plane for header in headers for plane in header.planes]
    check_one_scale(planes)
    if len(headers) > 1 and not any(plane.is_placed for plane in planes):
        raise ImageError("the slices have no positions (no ImagePositionPatient): their order is unknown")
    if len(headers) == 1:
        names = [f"frame {number}" for number in range(1, len(planes) + 1)]
    else:
        names = [header.path.name for header in headers]
    check_shape((headers[0].columns, headers[0].rows, len(planes)))
    return stack(planes, names, has_order=len(headers) == 1)
