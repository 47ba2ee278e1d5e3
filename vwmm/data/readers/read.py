"""`read_image`: one function for every format.

NIfTI is read by nibabel, DICOM by pydicom, NRRD, MetaImage and arrays by numpy, pictures by Pillow and tifffile.
Every failure is an `ImageError` with a plain message; the caller adds the case, the modality and the line.
"""

import math
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vwmm.data.readers import metaimage, nifti, nrrd, pictures
from vwmm.data.readers.absent import HOW_TO_FETCH, MAX_POINTER_BYTES, is_pointer
from vwmm.data.readers.bounded import check_truncated
from vwmm.data.readers.dicom import stream, volume
from vwmm.data.readers.image import (
    AIR_HU,
    Image,
    ImageError,
    as_voxels,
    check_affine,
    check_dtype,
    check_shape,
    check_voxels,
    in_words,
    with_true_zeros,
    without_padding,
)

__all__ = ["FORMATS", "FormatReader", "Image", "ImageError", "check_header", "format_of", "read_image"]

MAX_ARRAY_HEADER_BYTES = 10_000


@dataclass(frozen=True)
class FormatReader:
    """How one format is known and read."""

    suffixes: tuple[str, ...]
    """Ends of the files' names, in lower case, with their dots."""
    read: Callable[..., Image]
    """From a path (of `dicom_series` also a series) to voxels and geometry; raises ImageError."""
    shape: Callable[..., tuple[int, ...]]
    """The shape from the header alone; raises ImageError."""
    libraries: tuple[str, ...] = ()
    """Modules that the two import, for `import_readers`."""


def format_of(path: Path) -> str:
    """The name in `FORMATS`, by suffix; a folder is one DICOM series, and DICOM's own mark is tried last.

    Raises ImageError for any other file.
    """
    name = path.name.lower()
    if path.is_dir():
        return "dicom_series"
    for kind, known in FORMATS.items():
        if name.endswith(known.suffixes):
            return kind
    suffix = Path(name).suffix
    # DICOM files are often named by their UID: a "suffix" of digits is none.
    if suffix in volume.DICOM_SUFFIXES or suffix[1:].isdigit():
        return "dicom"
    if stream.is_marked(path):  # some archives give DICOM files suffixes of their own
        return "dicom"
    shown = ", ".join(known_suffixes())
    raise ImageError(f"unknown format {suffix!r}; known are {shown}, and a folder with one DICOM series", "unusable")


def known_suffixes() -> list[str]:
    """The suffixes of all formats, in the order of `FORMATS`."""
    return [suffix for known in FORMATS.values() for suffix in known.suffixes]


@np.errstate(all="ignore")  # what a damaged header computes to is looked at afterwards
def read_image(path: Path, *, series: str | None = None) -> Image:
    """Reads voxels and geometry; trailing singleton axes beyond the third are dropped.

    series: which one of a folder with several DICOM series, by UID or description; other files have one image. Raises
    ImageError for a file that is missing, unreadable, empty, constant, not finite or not 2D or 3D.
    """
    image: Image = _guarded(path, series, {kind: known.read for kind, known in FORMATS.items()})
    voxels = image.voxels.reshape(check_shape(image.voxels.shape), order="A")
    check_affine(image.affine)
    image = replace(image, voxels=voxels, affine=np.asarray(image.affine, dtype=np.float64))
    check_voxels(image)
    if image.bounds[0] < AIR_HU and (filled := without_padding(image.voxels, image.unit)) is not image.voxels:
        image = replace(image, voxels=filled)
        check_voxels(image)
    return with_true_zeros(image)


@np.errstate(all="ignore")
def check_header(path: Path, *, series: str | None = None, needs_even: bool = True) -> tuple[int, ...]:
    """The shape from the header alone; a truncated NIfTI or DICOM file is found by its size. Raises ImageError.

    needs_even: whether a changing slice distance is an error.
    """
    dicom_shape = partial(volume.dicom_shape, needs_even=needs_even)
    shapes = {kind: known.shape for kind, known in FORMATS.items()}
    return check_shape(_guarded(path, series, shapes | {"dicom": dicom_shape, "dicom_series": dicom_shape}))


def _guarded(path: Path, series: str | None, functions: dict[str, Any]) -> Any:
    """The result of the format's function; its library's errors as an ImageError."""
    kind: str | None = None
    try:
        state = path.stat()
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
            raise ImageError("neither a file nor a folder")
        kind = format_of(path)
        if stat.S_ISREG(state.st_mode) and state.st_size == 0:
            raise ImageError("the file is empty (0 bytes)", "empty")
        if stat.S_ISREG(state.st_mode) and state.st_size <= MAX_POINTER_BYTES and is_pointer(path):
            raise ImageError(f"the file is not there, but a pointer to it: {HOW_TO_FETCH}", "unusable")
        return functions[kind](path, series) if kind == "dicom_series" else functions[kind](path)
    except ImageError:
        raise
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ImageError(f"a link to a file that is not there: {HOW_TO_FETCH}", "unusable") from error
        raise ImageError("file not found") from error
    except EOFError as error:
        raise ImageError("the file is truncated: it ends before its data do") from error
    except nifti.DAMAGED as error:
        raise ImageError(f"cannot be read as {_named(kind)}: its compressed data are damaged") from error
    except MemoryError as error:
        raise ImageError(f"cannot be read as {_named(kind)}: it needs more memory than there is", "unusable") from error
    except Exception as error:  # four libraries and damaged bytes: SyntaxError, struct.error, KeyError, ...
        raise ImageError(f"cannot be read as {_named(kind)}: {in_words(error, path)}") from error


def _named(kind: str | None) -> str:
    return "an image" if kind is None else kind.replace("_", " ")


def _open_array(path: Path) -> np.ndarray:
    """A memory map of a .npy file; Python objects are rejected, since they would be unpickled."""
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
    return Image(voxels, np.eye(4), "unknown", has_spacing=False, has_orientation=False, is_spatial=False)


_DICOM_LIBRARIES = ("pydicom", "pydicom.pixels", "pydicom.encaps", "pydicom.pixels.decoders")
_PICTURE_LIBRARIES = (
    "PIL.Image", "PIL.ImageOps", "PIL.features", "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.TiffImagePlugin",
    "tifffile", "imagecodecs",
)  # fmt: skip
FORMATS: dict[str, FormatReader] = {
    "nifti": FormatReader(nifti.SUFFIXES, nifti.read_nifti, nifti.nifti_shape, ("nibabel",)),
    "dicom": FormatReader(volume.DICOM_SUFFIXES[:1], volume.read_dicom, volume.dicom_shape, _DICOM_LIBRARIES),
    "dicom_series": FormatReader((), volume.read_dicom, volume.dicom_shape, _DICOM_LIBRARIES),
    "nrrd": FormatReader(nrrd.SUFFIXES, nrrd.read_nrrd, nrrd.nrrd_shape),
    "metaimage": FormatReader(metaimage.SUFFIXES, metaimage.read_metaimage, metaimage.metaimage_shape),
    "picture": FormatReader(
        pictures.SUFFIXES, lambda path: _without_geometry(pictures.read_picture(path)), pictures.picture_shape,
        _PICTURE_LIBRARIES,
    ),
    "array": FormatReader(
        (".npy",), lambda path: _without_geometry(as_voxels(_open_array(path))), lambda path: _open_array(path).shape
    ),
}  # fmt: skip
