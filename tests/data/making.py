"""Small cohorts and image files for the tests of vwmm/data."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from vwmm.config.schema import Cache, Modality
from vwmm.data.cache.entry import write_entry
from vwmm.data.cache.store import Entry, Recipe, Store
from vwmm.data.cohort.cases import Case, Cohort

SHEARED = np.array([[-0.7, 0.1, 0.3, 10.0], [0.1, 0.8, -0.2, -20.0], [0.2, 0.1, 2.5, 30.0], [0, 0, 0, 1]])
"""A RAS affine with a left-going first axis and no right angles between its axes."""
OBLIQUE = SHEARED.copy()
"""A RAS affine with a left-going first axis, right angles between its axes and none to the scanner."""
OBLIQUE[:3, :3] = np.linalg.qr(SHEARED[:3, :3])[0] * [0.7, 0.8, -2.5]
OBLIQUE[:3, :3] *= np.sign(np.diag(OBLIQUE)[:3]) * [-1, 1, 1]
FLAT = Modality(dims=2, size=[8, 6])
SOLID = Modality(dims=3, size=[8, 6, 4])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """int16 voxels without a pattern."""
    return np.random.default_rng(seed).integers(-500, 1500, shape).astype(np.int16)


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    series: str = "",
    number: int = 0,
    origin: Sequence[float] = (0, 0, 0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    modality: str = "CT",
    intercept: int = -1024,
) -> Path:
    """One slice of (rows, columns) uint16, 0.5 mm between rows and 0.75 mm between columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    header.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=["series", series])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    header.PatientName, header.PatientID, header.Modality = "Nobody", "0", modality
    header.InstanceNumber, header.SliceThickness = number, 1.0
    header.Rows, header.Columns = pixels.shape
    header.ImagePositionPatient, header.ImageOrientationPatient = list(origin), list(orientation)
    header.PixelSpacing = [0.5, 0.75]
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, intercept, "HU"
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelData = pixels.astype(np.uint16).tobytes()
    header.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, voxels: np.ndarray, *, gaps: Sequence[float] = (), series: str = "") -> Path:
    """An oblique series of (rows, columns, slices) uint16, 2 mm apart; file names and numbers say nothing."""
    row = np.array([0.8, 0.6, 0.0])
    column = np.array([0.0, 0.0, -1.0])
    normal = np.cross(row, column)
    steps = [2.0 * number for number in range(voxels.shape[2])] if not gaps else list(np.cumsum([0.0, *gaps]))
    for number, step in enumerate(steps):
        write_dicom(
            folder / f"{(number * 7) % 11:02}.dcm",
            voxels[..., number],
            series=series,
            number=(number * 5) % 13,
            origin=(np.array([1.0, -2.0, 3.0]) + step * normal).round(6).tolist(),
            orientation=[*row, *column],
        )
    return folder


def write_csv(path: Path, rows: Sequence[Sequence[str]], *, delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def make_case(
    name: str,
    label: str | None = "a",
    *,
    patient: str = "",
    line: int = 2,
    images: Mapping[str, Path | None] | None = None,
) -> Case:
    return Case(name=name, patient=patient or name, label=label, images=images or {}, line=line)


def make_cohort(cases: Sequence[Case]) -> Cohort:
    classes = tuple(sorted({case.label for case in cases if case.label is not None}))
    return Cohort(tuple(sorted(cases, key=lambda case: case.name)), classes, Path("cohort.csv"))


def make_store(folder: Path, **cache: Any) -> Store:
    return Store(Cache(dir=str(folder), **cache))


def put_array(store: Store, recipe: Recipe, array: np.ndarray, content: str) -> Entry:
    """An entry with these voxels, as if an image of this content hash had been transformed to them."""
    key = recipe.key(content)
    write_entry(store.path(key), array, key=key, dtype=recipe.dtype)
    return Entry(content, key, store.path(key), Path("nowhere.nii.gz"), was_built=True)


def only_entry(folder: Path) -> Path:
    """The file of a store's one entry."""
    (path,) = folder.glob("??/*.npy")
    return path
