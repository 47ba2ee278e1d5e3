"""Image files of every format, read by one function.

NIfTI is read by nibabel, DICOM by pydicom, NRRD, MetaImage and arrays by numpy, pictures by Pillow.
Whatever fails is an `ImageError` in words; the caller adds the case, the modality and the line.
"""

import ctypes
import functools
import logging
import math
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vwmm.data import dicom, dicom_stream, metaimage, nifti, nrrd
from vwmm.data.image import (
    Image,
    ImageError,
    as_voxels,
    check_affine,
    check_dtype,
    check_shape,
    check_voxels,
    in_words,
)
from vwmm.data.packed import check_ratio, check_truncated

__all__ = ["Image", "ImageError", "check_header", "format_of", "read_image"]

DICOM_SUFFIXES = (".dcm", ".ima", "")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Of a picture, which is unpacked in up to 12 bytes a pixel: 11,585 x 11,585; a mammogram has a quarter of them.
MAX_PIXELS = 2**27
MAX_ARRAY_HEADER_BYTES = 10_000

Format = Literal["nifti", "nrrd", "metaimage", "picture", "array", "dicom", "dicom_series"]


def format_of(path: Path) -> Format:
    """The format, by suffix; a folder is one DICOM series, and DICOM's own mark goes before an unknown suffix.

    Raises ImageError for any other file.
    """
    name = path.name.lower()
    if path.is_dir():
        return "dicom_series"
    if name.endswith(nifti.SUFFIXES):
        return "nifti"
    suffix = Path(name).suffix
    # DICOM files are often named by their UID: a "suffix" of digits is none.
    if suffix in DICOM_SUFFIXES or suffix[1:].isdigit():
        return "dicom"
    if suffix == ".nrrd":
        return "nrrd"
    if suffix in metaimage.SUFFIXES:
        return "metaimage"
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    if suffix == ".npy":
        return "array"
    if dicom_stream.is_marked(path):  # some archives give DICOM files suffixes of their own
        return "dicom"
    known = ", ".join([*nifti.SUFFIXES, *DICOM_SUFFIXES[:1], ".nrrd", *metaimage.SUFFIXES, *PICTURE_SUFFIXES, ".npy"])
    raise ImageError(f"unknown format {suffix!r}; known are {known}, and a folder with one DICOM series")


@np.errstate(all="ignore")  # what a damaged header computes to is looked at afterwards
def read_image(path: Path, *, series: str | None = None) -> Image:
    """Reads voxels and geometry; trailing singleton axes beyond the third are dropped.

    series: which one of a folder with several DICOM series, by UID or description; other files have one image. Raises
    ImageError for a file that is missing, unreadable, empty, constant, not finite or not 2D or 3D.
    """
    image: Image = _guarded(path, series, _READERS)
    voxels = image.voxels.reshape(check_shape(image.voxels.shape), order="A")
    check_affine(image.affine)
    image = replace(image, voxels=voxels, affine=np.asarray(image.affine, dtype=np.float64))
    check_voxels(image)
    return image


@np.errstate(all="ignore")
def check_header(path: Path, *, series: str | None = None) -> tuple[int, ...]:
    """The shape from the header alone; a truncated NIfTI or DICOM file is found by its size. Raises ImageError."""
    return check_shape(_guarded(path, series, _HEADERS))


def _guarded(path: Path, series: str | None, functions: dict[str, Any]) -> Any:
    """What the format's function gives; its library's errors as an ImageError."""
    kind: Format | None = None
    try:
        state = path.stat()
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
            raise ImageError("neither a file nor a folder")
        kind = format_of(path)
        if stat.S_ISREG(state.st_mode) and state.st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        return functions[kind](path, series) if kind == "dicom_series" else functions[kind](path)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("file not found") from error
    except EOFError as error:
        raise ImageError("the file is truncated: it ends before its data do") from error
    except nifti.DAMAGED as error:
        raise ImageError(f"cannot be read as {_named(kind)}: its compressed data are damaged") from error
    except MemoryError as error:
        raise ImageError(f"cannot be read as {_named(kind)}: it needs more memory than there is") from error
    except Exception as error:  # four libraries and damaged bytes: SyntaxError, struct.error, KeyError, ...
        raise ImageError(f"cannot be read as {_named(kind)}: {in_words(error, path)}") from error


def _named(kind: Format | None) -> str:
    return "an image" if kind is None else kind.replace("_", " ")


@functools.cache
def _quiet_pictures() -> None:
    """No warning of Pillow or of the libtiff within it is shown: they would be printed past the log."""
    from PIL import Image as Pillow
    from PIL import features

    warnings.filterwarnings("ignore", module=r"PIL\b")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    Pillow.MAX_IMAGE_PIXELS = None  # our own limit is checked, before anything is unpacked
    if features.check("libtiff"):  # loads it
        maps = Path("/proc/self/maps")
        lines = maps.read_text().splitlines() if maps.exists() else []
        for library in {line.split(maxsplit=5)[-1] for line in lines if "libtiff" in line}:
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                getattr(ctypes.CDLL(library), name)(None)


@contextmanager
def _open_picture(path: Path) -> Iterator[Any]:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    _quiet_pictures()
    # These formats only: Pillow would start Ghostscript for an EPS, whatever its suffix.
    picture: Any
    with path.open("rb") as stream:
        try:
            picture = Pillow.open(stream, formats=["PNG", "JPEG", "TIFF"])
        except UnidentifiedImageError as error:
            raise ImageError("this is not a PNG, JPEG or TIFF file, whatever its name says") from error
        check_shape(picture.size)
        pixels = picture.size[0] * picture.size[1]
        if pixels > MAX_PIXELS:
            raise ImageError(f"{picture.size[0]} x {picture.size[1]} pixels are more than {MAX_PIXELS:,}")
        check_ratio(path.stat().st_size, pixels // 8 if picture.mode == "1" else pixels)
        if getattr(picture, "n_frames", 1) != 1:
            raise ImageError(f"the file has {picture.n_frames} pages; expected one picture")
        yield picture


def _read_picture(path: Path) -> Image:
    with _open_picture(path) as picture:
        is_grey = len(picture.getbands()) == 1 and picture.mode not in ("P", "1")
        voxels = np.asarray(picture if is_grey else picture.convert("L")).T
    return _without_geometry(as_voxels(voxels))


def _picture_shape(path: Path) -> tuple[int, ...]:
    with _open_picture(path) as picture:
        shape: tuple[int, ...] = picture.size
    return shape


def _open_array(path: Path) -> np.ndarray:
    """A memory map of a .npy file; one whose items are Python objects is refused, since they would be unpickled."""
    known = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in known:
            raise ImageError(f"cannot be read as array: it is of version {version[0]}.{version[1]}")
        place, width = stream.tell(), 2 * version[0]
        length = int.from_bytes(stream.read(width), "little")
        if length > MAX_ARRAY_HEADER_BYTES:
            raise ImageError(f"the header of the array is damaged: it has {length:,} bytes")
        stream.seek(place)
        warnings.filterwarnings("ignore", "Reading `.npy`")  # of Python 2, which are read all the same
        shape, is_fortran, dtype = known[version](stream)
        start = stream.tell()
    if dtype.hasobject:
        raise ImageError("cannot be read as array: its items are Python objects, which could run code")
    check_shape(shape)
    check_dtype(dtype)
    check_truncated(path.stat().st_size - start, math.prod(shape) * dtype.itemsize)
    return np.memmap(path, dtype, "r", start, shape, "F" if is_fortran else "C")


def _without_geometry(voxels: np.ndarray) -> Image:
    return Image(voxels, np.eye(4), "unknown", has_spacing=False, has_orientation=False)


_READERS = {
    "nifti": lambda path: Image(*nifti.read_nifti(path)),
    "nrrd": lambda path: Image(*nrrd.read_nrrd(path)),
    "metaimage": lambda path: Image(*metaimage.read_metaimage(path)),
    "dicom": dicom.read_dicom,
    "dicom_series": dicom.read_dicom,
    "picture": _read_picture,
    "array": lambda path: _without_geometry(as_voxels(_open_array(path))),
}
_HEADERS = {
    "nifti": nifti.nifti_shape,
    "nrrd": nrrd.nrrd_shape,
    "metaimage": metaimage.metaimage_shape,
    "dicom": dicom.dicom_shape,
    "dicom_series": dicom.dicom_shape,
    "picture": _picture_shape,
    "array": lambda path: _open_array(path).shape,
}
