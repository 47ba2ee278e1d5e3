"""Image files of every format, read by one function.

NIfTI is read by nibabel, DICOM by pydicom, NRRD by SimpleITK, MetaImage and arrays by numpy, pictures by Pillow.
Whatever fails is an `ImageError` in words; the caller adds the case, the modality and the line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vwmm.data import dicom, dicom_stream, itk_files, metaimage, nifti
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

__all__ = ["Image", "ImageError", "check_header", "format_of", "read_image"]

DICOM_SUFFIXES = (".dcm", ".ima", "")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

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


def check_header(path: Path, *, series: str | None = None) -> tuple[int, ...]:
    """The shape from the header alone; a truncated NIfTI or DICOM file is found by its size. Raises ImageError."""
    return check_shape(_guarded(path, series, _HEADERS))


def _guarded(path: Path, series: str | None, functions: dict[str, Any]) -> Any:
    """What the format's function gives; its library's errors as an ImageError."""
    kind = format_of(path)
    try:
        if not path.is_dir() and path.stat().st_size == 0:
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
    except Exception as error:  # four libraries and damaged bytes: SyntaxError, struct.error, KeyError, ...
        raise ImageError(f"cannot be read as {_named(kind)}: {in_words(error, path)}") from error


def _named(kind: Format) -> str:
    return kind.replace("_", " ")


@contextmanager
def _open_picture(path: Path) -> Iterator[Any]:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    Pillow.MAX_IMAGE_PIXELS = None  # our own limit is checked, before anything is unpacked
    # These formats only: Pillow would start Ghostscript for an EPS, whatever its suffix.
    picture: Any
    with path.open("rb") as stream:
        try:
            picture = Pillow.open(stream, formats=["PNG", "JPEG", "TIFF"])
        except UnidentifiedImageError as error:
            raise ImageError("this is not a PNG, JPEG or TIFF file, whatever its name says") from error
        check_shape(picture.size)
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
    """A memory map of a .npy file; raises ValueError where its items are Python objects, which would be unpickled."""
    array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    check_shape(array.shape)
    check_dtype(array.dtype)
    return array


def _without_geometry(voxels: np.ndarray) -> Image:
    return Image(voxels, np.eye(4), "unknown", has_spacing=False, has_orientation=False)


_READERS = {
    "nifti": lambda path: Image(*nifti.read_nifti(path)),
    "nrrd": lambda path: Image(*itk_files.read_nrrd(path)),
    "metaimage": lambda path: Image(*metaimage.read_metaimage(path)),
    "dicom": dicom.read_dicom,
    "dicom_series": dicom.read_dicom,
    "picture": _read_picture,
    "array": lambda path: _without_geometry(as_voxels(_open_array(path))),
}
_HEADERS = {
    "nifti": nifti.nifti_shape,
    "nrrd": itk_files.nrrd_shape,
    "metaimage": metaimage.metaimage_shape,
    "dicom": dicom.dicom_shape,
    "dicom_series": dicom.dicom_shape,
    "picture": _picture_shape,
    "array": lambda path: _open_array(path).shape,
}
