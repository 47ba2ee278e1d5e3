"""DICOM files and series, and NRRD, read by SimpleITK: one at a time in each process.

Its libraries share state between readers: two threads that read DICOM at once crash now and then (SimpleITK#805).
"""

import functools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vwmm.data.image import LPS_TO_RAS, ImageError, as_voxels, check_beside, check_shape

MAX_HEADER_BYTES = 2**16
MODALITY, POSITION, ORIENTATION = "0008|0060", "0020|0032", "0020|0037"
Result = TypeVar("Result")
_LOCK = threading.RLock()


def _alone(read: Callable[[Path], Result]) -> Callable[[Path], Result]:
    """No other thread of this process is in one of these functions meanwhile."""

    @functools.wraps(read)
    def read_alone(path: Path) -> Result:
        with _LOCK:
            return read(path)

    return read_alone


@_alone
def read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Voxels, affine and unit of a NRRD file."""
    _check_nrrd_data_file(path)
    return (*_from_itk(_open(path, "NrrdImageIO").Execute()), "unknown")


@_alone
def nrrd_shape(path: Path) -> tuple[int, ...]:
    """The shape of a NRRD file, from its header."""
    _check_nrrd_data_file(path)
    return tuple(_open(path, "NrrdImageIO").GetSize())


@_alone
def read_dicom(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Voxels, affine and unit of one DICOM file, with one slice or several frames."""
    image = _open(path, "GDCMImageIO").Execute()
    is_ct = image.HasMetaDataKey(MODALITY) and image.GetMetaData(MODALITY).strip() == "CT"
    return (*_from_itk(image), "HU" if is_ct else "unknown")


@_alone
def dicom_shape(path: Path) -> tuple[int, ...]:
    """The shape of one DICOM file, from its header."""
    return tuple(_open(path, "GDCMImageIO").GetSize())


@_alone
def read_series(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Voxels, affine and unit of a folder with one DICOM series, its slices sorted by their position."""
    files = _series_files(path)
    if len(files) == 1:
        return read_dicom(Path(files[0]))
    check_shape((*dicom_shape(Path(files[0]))[:2], len(files)))
    reader = _sitk().ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _check_positions(reader, len(files))
    is_ct = reader.HasMetaDataKey(0, MODALITY) and reader.GetMetaData(0, MODALITY).strip() == "CT"
    return (*_from_itk(image), "HU" if is_ct else "unknown")


@_alone
def series_shape(path: Path) -> tuple[int, ...]:
    """The shape of a folder with one DICOM series: from its first file and their number."""
    files = _series_files(path)
    shape = dicom_shape(Path(files[0]))
    return shape if len(files) == 1 else (*shape[:2], len(files))


def _sitk() -> Any:
    """SimpleITK, its warnings off: they would be printed past the log, with paths."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _open(path: Path, image_io: str) -> Any:
    """A reader that knows the header, if it is one of an image that can be used."""
    sitk = _sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "Cannot read requested file" in str(error):  # all that GDCM says
            raise ImageError("this is not a DICOM image, whatever its name says") from error
        raise
    check_shape(reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise ImageError("the voxels are colours or vectors; expected one number per voxel")
    return reader


def _from_itk(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """ITK's image as (X, Y, Z) voxels and a RAS affine."""
    dims = image.GetDimension()
    voxels = _sitk().GetArrayFromImage(image).T
    if voxels.dtype.kind == "c":
        raise ImageError("the voxels are complex numbers; expected one real number per voxel")
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(dims, dims)
    space = min(dims, 3)
    affine[:space, :space] = direction[:space, :space] * np.asarray(image.GetSpacing())[:space]
    affine[:space, 3] = np.asarray(image.GetOrigin())[:space]
    return as_voxels(voxels), LPS_TO_RAS @ affine


def _series_files(path: Path) -> list[str]:
    sitk = _sitk()
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))
    if not series:
        raise ImageError("the folder has no DICOM image")
    if len(series) > 1:
        raise ImageError(f"the folder has {len(series)} DICOM series; expected one (move the others elsewhere)")
    return list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path), series[0]))


def _check_positions(reader: Any, num_files: int) -> None:
    """ITK stacks whatever it is given: slices that are missing, or there twice, would change the spacing silently."""
    if not all(reader.HasMetaDataKey(n, key) for n in range(num_files) for key in (POSITION, ORIENTATION)):
        return
    orientations = np.array([_numbers(reader.GetMetaData(n, ORIENTATION)) for n in range(num_files)])
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise ImageError("the slices of the series have different orientations; a localizer belongs elsewhere")
    normal = np.cross(orientations[0][:3], orientations[0][3:])
    places = np.array([_numbers(reader.GetMetaData(n, POSITION)) for n in range(num_files)]) @ normal
    steps = np.diff(places) * np.sign(places[-1] - places[0])
    middle = float(np.median(steps))
    if not 0.5 * middle < steps.min() <= steps.max() < 1.5 * middle:
        raise ImageError(
            f"the slices of the series are {steps.min():.3g} to {steps.max():.3g} mm apart: "
            "some are missing, or there twice"
        )


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split("\\")]


def _check_nrrd_data_file(path: Path) -> None:
    """A NRRD's header may name a file with the voxels: one beside it only."""
    name = _nrrd_data_file(path)
    if name is not None:
        check_beside(path, name)


def nrrd_data_file(path: Path) -> Path | None:
    """The file beside a NRRD's header that has the voxels; None where they are in the header's own file."""
    name = _nrrd_data_file(path)
    return None if name is None else path.parent / name


def _nrrd_data_file(path: Path) -> str | None:
    """The name in the header, which ends with an empty line."""
    with path.open("rb") as stream:
        head = stream.read(MAX_HEADER_BYTES)
    if not head.startswith(b"NRRD"):
        raise ImageError("this is not a NRRD file, whatever its name says")
    header, end, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end and len(head) == MAX_HEADER_BYTES:
        raise ImageError(f"the NRRD header is longer than {MAX_HEADER_BYTES:,} bytes")
    for line in re.split(r"[\r\n]", header.decode("utf-8", "replace")):
        field, _, value = line.partition(":")
        if re.sub(r"\s", "", field).lower() == "datafile":
            return value.strip()
    return None
