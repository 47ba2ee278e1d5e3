"""NRRD files, read by SimpleITK: one at a time in each process, since its libraries share state between readers."""

import functools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vwmm.data.image import LPS_TO_RAS, ImageError, as_voxels, check_beside, check_shape

MAX_HEADER_BYTES = 2**16
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
    return (*_from_itk(_open(path).Execute()), "unknown")


@_alone
def nrrd_shape(path: Path) -> tuple[int, ...]:
    """The shape of a NRRD file, from its header."""
    _check_nrrd_data_file(path)
    return tuple(_open(path).GetSize())


def _sitk() -> Any:
    """SimpleITK, its warnings off: they would be printed past the log, with paths."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _open(path: Path) -> Any:
    """A reader that knows the header, if it is one of an image that can be used."""
    sitk = _sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
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
