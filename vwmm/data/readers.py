"""Image files of every format, read by one function.

NIfTI is read by nibabel, DICOM, NRRD and MetaImage by SimpleITK, pictures by Pillow, arrays by numpy. Whatever fails is
an `ImageError` in words; the caller adds the case, the modality and the line.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".ima", "")
# LPS (DICOM, ITK) to RAS (NIfTI, MONAI): the first two axes point the other way.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MAX_VOXELS = 2**30  # 4 GiB in float32; no medical image of one case is larger

Format = Literal["nifti", "itk", "picture", "array", "dicom", "dicom_series"]


class ImageError(ValueError):
    """An image that cannot be used, and why."""


@dataclass(frozen=True)
class Image:
    """One image as it is stored on disk, its values in the file's unit."""

    voxels: np.ndarray
    """(X, Y) or (X, Y, Z) float32: columns, rows, slices."""
    affine: np.ndarray
    """(4, 4) float64, voxel indices to RAS millimetres."""
    unit: str
    """`HU` for a CT read from DICOM, else `unknown`."""

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between voxel centres along each axis, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(length) for length in lengths[: self.voxels.ndim])


def format_of(path: Path) -> Format:
    """The format, by suffix; a folder is one DICOM series. Raises ImageError for any other suffix."""
    name = path.name.lower()
    if path.is_dir():
        return "dicom_series"
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    suffix = Path(name).suffix
    # DICOM files are often named by their UID: a "suffix" of digits is none.
    if suffix in DICOM_SUFFIXES or suffix[1:].isdigit():
        return "dicom"
    if suffix in ITK_SUFFIXES:
        return "itk"
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    if suffix == ".npy":
        return "array"
    known = ", ".join([*NIFTI_SUFFIXES, *DICOM_SUFFIXES[:1], *ITK_SUFFIXES, *PICTURE_SUFFIXES, ".npy"])
    raise ImageError(f"unknown format {suffix!r}; known are {known}, and a folder with one DICOM series")


def read_image(path: Path) -> Image:
    """Reads voxels and geometry; singleton trailing axes are dropped.

    Raises ImageError for a file that is missing, unreadable, empty, constant, not finite or not 2D or 3D.
    """
    kind = format_of(path)
    try:
        voxels, affine, unit = _READERS[kind](path)
    except ImageError:
        raise
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error, MemoryError, struct.error) as error:
        raise ImageError(f"cannot be read as {kind.replace('_', ' ')}: {_first_line(error)}") from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    _check_shape(voxels.shape)
    if not np.isfinite(voxels).all():
        count = int(voxels.size - np.isfinite(voxels).sum())
        raise ImageError(f"{count} of {voxels.size} voxels are not finite (NaN or infinite)")
    if voxels.min() == voxels.max():
        raise ImageError(f"every voxel has the same value ({voxels.flat[0]:g}): this image is empty")
    return Image(np.ascontiguousarray(voxels), affine, unit)


def check_header(path: Path) -> tuple[int, ...]:
    """The shape from the header alone; a truncated NIfTI is found by its size. Raises ImageError."""
    kind = format_of(path)
    try:
        shape = _HEADERS[kind](path)
    except ImageError:
        raise
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error, struct.error, IndexError) as error:
        raise ImageError(f"cannot be read as {kind.replace('_', ' ')}: {_first_line(error)}") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    _check_shape(shape)
    return shape


def _check_shape(shape: tuple[int, ...]) -> None:
    text = " x ".join(str(length) for length in shape)
    if len(shape) not in (2, 3):
        raise ImageError(
            f"expected 2 or 3 dimensions, found {len(shape)} ({text}); a time series needs one image chosen"
        )
    if min(shape) < 1:
        raise ImageError(f"the image has no voxels ({text})")
    if np.prod([float(length) for length in shape]) > MAX_VOXELS:
        raise ImageError(f"{text} voxels are more than {MAX_VOXELS:,}: the header is probably damaged")


def _first_line(error: BaseException) -> str:
    """The telling line of a library's message: ITK's explanation is the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else error.__class__.__name__)[:200]


def _load_nifti(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if path.stat().st_size == 0:
        raise ImageError("the file is empty (0 bytes)")
    try:
        return nibabel.load(path)
    except ImageFileError as error:
        raise ImageError("this is not a NIfTI file, whatever its name says") from error
    except HeaderDataError as error:
        raise ImageError(f"the NIfTI header is damaged: {_first_line(error)}") from error


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    image = _load_nifti(path)
    _check_nifti(path, image)
    voxels = np.asanyarray(image.dataobj).astype(np.float32)
    return voxels, np.asarray(image.affine, dtype=np.float64), "unknown"


def _check_nifti(path: Path, image: Any) -> tuple[int, ...]:
    shape = tuple(int(length) for length in image.shape)
    _check_shape(tuple(length for n, length in enumerate(shape) if n < 3 or length != 1))
    if not np.isfinite(image.affine).all():
        raise ImageError("the affine is not finite (NaN or infinite)")
    if image.get_data_dtype().fields is not None:
        raise ImageError("the voxels are colours (RGB); expected one number per voxel")
    header = image.header
    needed = int(image.dataobj.offset) + int(np.prod(shape, dtype=np.int64)) * header.get_data_dtype().itemsize
    found = _uncompressed_size(path)
    if found is not None and found < needed % 2**32 and needed < 2**32:
        raise ImageError(f"the file is truncated: {found:,} bytes of voxels and header, expected {needed:,}")
    return shape


def _uncompressed_size(path: Path) -> int | None:
    """Bytes of the file once unpacked. gzip's trailer has it, modulo 2**32; None where it would have to be unpacked."""
    if not path.name.lower().endswith(".gz"):
        return path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            raise ImageError("this is not a gzip file, whatever its name says")
        stream.seek(-4, os.SEEK_END)
        size: int = struct.unpack("<I", stream.read(4))[0]
    # A file of several gzip members, as pigz and bgzip write them, ends with the last member's size only.
    return size if _is_one_member(path) else None


def _is_one_member(path: Path) -> bool:
    """bgzip marks its members by an extra field (flag 4); plain gzip has none."""
    with path.open("rb") as stream:
        return not stream.read(4)[3] & 4


def _read_itk(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    sitk = _sitk()
    return _from_itk(sitk.ReadImage(str(path)))


def _from_itk(image: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """ITK's image as (X, Y, Z) voxels and a RAS affine."""
    sitk = _sitk()
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError("the voxels are colours or vectors; expected one number per voxel")
    dims = image.GetDimension()
    voxels = sitk.GetArrayFromImage(image).T.astype(np.float32)
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(dims, dims)
    space = min(dims, 3)
    affine[:space, :space] = direction[:space, :space] * np.asarray(image.GetSpacing())[:space]
    affine[:space, 3] = np.asarray(image.GetOrigin())[:space]
    return voxels, LPS_TO_RAS @ affine, "unknown"


def _read_dicom(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    sitk = _sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    image = reader.Execute()
    voxels, affine, _ = _from_itk(image)
    is_ct = image.HasMetaDataKey("0008|0060") and image.GetMetaData("0008|0060").strip() == "CT"
    return voxels, affine, "HU" if is_ct else "unknown"


def _series_files(path: Path) -> list[str]:
    sitk = _sitk()
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))
    if not series:
        raise ImageError("the folder has no DICOM image")
    if len(series) > 1:
        raise ImageError(f"the folder has {len(series)} DICOM series; expected one (move the others elsewhere)")
    return list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path), series[0]))


def _read_dicom_series(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    sitk = _sitk()
    files = _series_files(path)
    if len(files) == 1:
        return _read_dicom(Path(files[0]))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    voxels, affine, _ = _from_itk(image)
    is_ct = reader.HasMetaDataKey(0, "0008|0060") and reader.GetMetaData(0, "0008|0060").strip() == "CT"
    return voxels, affine, "HU" if is_ct else "unknown"


def _read_picture(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        grey = picture.convert("L") if picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr", "LA", "1") else picture
        voxels = np.asarray(grey).T.astype(np.float32)
    return voxels, np.eye(4), "unknown"


def _read_array(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    array = np.load(path, allow_pickle=False)
    if array.dtype.kind not in "biuf":
        raise ImageError(f"expected an array of numbers, found dtype {array.dtype}")
    return array.astype(np.float32), np.eye(4), "unknown"


def _itk_shape(path: Path, image_io: str = "") -> tuple[int, ...]:
    sitk = _sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return tuple(reader.GetSize())


def _series_shape(path: Path) -> tuple[int, ...]:
    files = _series_files(path)
    return (*_itk_shape(Path(files[0]), "GDCMImageIO")[:2], len(files))


def _picture_shape(path: Path) -> tuple[int, ...]:
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        return picture.size


def _sitk() -> Any:
    """SimpleITK, its warnings off: they would be printed past the log, with paths."""
    import SimpleITK  # noqa: N813 - its own name

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


_READERS = {
    "nifti": _read_nifti,
    "itk": _read_itk,
    "dicom": _read_dicom,
    "dicom_series": _read_dicom_series,
    "picture": _read_picture,
    "array": _read_array,
}
_HEADERS = {
    "nifti": lambda path: _check_nifti(path, _load_nifti(path)),
    "itk": _itk_shape,
    "dicom": lambda path: _itk_shape(path, "GDCMImageIO"),
    "dicom_series": _series_shape,
    "picture": _picture_shape,
    "array": lambda path: np.load(path, mmap_mode="r", allow_pickle=False).shape,
}
