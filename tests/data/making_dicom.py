"""DICOM series and multi-frame files made of pydicom's own files, and where SimpleITK sees their voxels."""

import importlib.util
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE_AXES = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
Edit = Callable[[Dataset, int], None]


def real(name: str) -> Path:
    """A file of pydicom's wheel, or of pydicom-data."""
    if (PYDICOM / name).exists():
        return PYDICOM / name
    found = importlib.util.find_spec("data_store")
    if found is None:
        pytest.skip("needs pydicom-data, which is not installed")
    path = Path(next(iter(found.submodule_search_locations or []))) / "data" / name
    if not path.exists():
        pytest.skip(f"this version of pydicom-data has no {name}")
    return path


def slice_of(number: int, *, source: str = "CT_small.dcm", size: tuple[int, int] = (34, 40)) -> Dataset:
    """A part of a real slice, another one for each number, of (rows, columns); without a place."""
    dataset = pydicom.dcmread(PYDICOM / source)
    rows, columns = size
    pixels = dataset.pixel_array[5 + number :, 4 + 2 * number :][:rows, :columns]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    dataset.InstanceNumber = (number * 5) % 13
    dataset.pop("DataSetTrailingPadding", None)
    return dataset


def steps_of(axes: Sequence[float], step_mm: float, *, tilt: float = 0.0) -> np.ndarray:
    """(3,) from one slice to the next: along the normal, and by `tilt` of it along a column."""
    across, down = np.array(axes).reshape(2, 3)
    return step_mm * (np.cross(across, down) + tilt * down)


def write_slices(
    folder: Path,
    *,
    count: int = 5,
    axes: Sequence[float] = STRAIGHT,
    step_mm: float = 2.5,
    tilt: float = 0.0,
    syntax: str = "",
    source: str = "CT_small.dcm",
    edit: Edit | None = None,
) -> list[Path]:
    """A series; the names of its files say nothing. Returns the paths in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    step, paths = steps_of(axes, step_mm, tilt=tilt), []
    for number in range(count):
        dataset = slice_of(number, source=source)
        dataset.ImageOrientationPatient = list(axes)
        dataset.ImagePositionPatient = (np.array([-20.0, 30.0, 5.0]) + number * step).round(6).tolist()
        if edit is not None:
            edit(dataset, number)
        paths.append(folder / f"IM{(number * 7) % 11:02}")
        save(dataset, paths[-1], syntax)
    return paths


def save(dataset: Dataset, path: Path, syntax: str = "") -> Path:
    """Writes a dataset in a transfer syntax, compressed where it is one of those."""
    uid = pydicom.uid.UID(syntax or ExplicitVRLittleEndian)
    if uid.is_encapsulated:
        dataset.compress(uid, generate_instance_uid=False)
    elif not uid.is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = uid
    if not uid.is_little_endian:  # pydicom writes a dataset as it was read, unless it is another one
        plain = Dataset(dataset)
        plain.file_meta, plain.preamble = dataset.file_meta, b"\0" * 128
        dataset = plain
    pydicom.dcmwrite(
        path, dataset, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian, enforce_file_format=False
    )
    return path


def write_frames(path: Path, slices: Sequence[Path], order: Sequence[int], *, syntax: str = "") -> Path:
    """An enhanced file of the slices of a series, in any order, each with its own place and rescale."""
    parts = [pydicom.dcmread(slices[number]) for number in order]
    dataset = deepcopy(parts[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = len(parts)
    dataset.PixelData = b"".join(part.PixelData for part in parts)
    shared, groups = Dataset(), []
    shared.PixelMeasuresSequence = Items([_only(parts[0], "PixelSpacing", "SliceThickness")])
    for part in parts:
        group = Dataset()
        group.PlanePositionSequence = Items([_only(part, "ImagePositionPatient")])
        group.PlaneOrientationSequence = Items([_only(part, "ImageOrientationPatient")])
        group.PixelValueTransformationSequence = Items([_only(part, "RescaleSlope", "RescaleIntercept")])
        groups.append(group)
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
        "SpacingBetweenSlices", "SliceThickness",
    ):  # fmt: skip
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items(groups)
    return save(dataset, path, syntax)


def _only(source: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, source[keyword].value)
    return item


def itk_affine(source: sitk.Image) -> np.ndarray:
    """RAS affine of a SimpleITK image, from its points alone."""
    affine = np.eye(4)
    affine[:3, 3] = source.TransformIndexToPhysicalPoint((0, 0, 0))
    for axis in range(3):
        index = [0, 0, 0]
        index[axis] = 1
        affine[:3, axis] = np.array(source.TransformIndexToPhysicalPoint(index)) - affine[:3, 3]
    return LPS @ affine


def itk_file(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path), imageIO="GDCMImageIO")


def itk_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (X, Y, Z) and RAS affine as SimpleITK stacks a folder."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image: Any = reader.Execute()
    return sitk.GetArrayFromImage(image).T, itk_affine(image)
