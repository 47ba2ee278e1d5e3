"""One scan, whatever converter it came through, is the same input of the network; or it is refused in words.

The scans are drawn here: a head in air with a bright vessel, as CT and as MR, in eight geometries. The converters are
dcm2niix (NIfTI and NRRD), dicom2nifti, and SimpleITK (NIfTI, NRRD, MetaImage).
"""

import functools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from vwmm.config.presets import PRESETS, cut_to_dims, with_preset
from vwmm.config.schema import Modality
from vwmm.data.checks.fingerprint import bright_border_of
from vwmm.data.checks.plausibility import INVERTED_SHARE
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.preprocess import load_input

HALF = float(np.sqrt(0.5))
# Rows along the first vector, columns along the second, in LPS.
PLANES = {
    "axial": (1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (0.8, 0.6, 0.0, 0.0, 0.0, -1.0),
    "45 degrees": (HALF, HALF, 0, 0, 0, -1),
    "45 degrees, tipped": (1, 0, 0, 0, HALF, HALF),
}
SHAPE, SPACING = (20, 34, 40), (0.6, 0.46875)  # slices, rows, columns; mm between rows and between columns
STEP_MM = 1.7
CT_PRESETS = [name for name, fields in PRESETS.items() if fields["window_hu"] is not None]
MR_PRESETS = [name for name in PRESETS if name not in CT_PRESETS]
# All pairs of a geometry and a preset take minutes: VWMM_REHEARSALS=20 tries them all, else each meets some.
IS_LONG = int(os.environ.get("VWMM_REHEARSALS", "1")) > 1


@dataclass(frozen=True)
class Scan:
    """A geometry, and what is odd about the file."""

    plane: str
    kind: str
    tilt: float = 0.0
    is_inverted: bool = False
    padding: int | None = None
    num_slices: int = SHAPE[0]

    def __str__(self) -> str:
        odd = [
            word
            for word, is_so in (("tilted", self.tilt), ("white is 0", self.is_inverted), ("padded", self.padding))
            if is_so
        ]
        return " ".join([self.kind, self.plane, *odd, *(["one slice"] if self.num_slices == 1 else [])])


_SINGLE = (("axial", "CT"), ("sagittal", "MR"), ("45 degrees", "CT"))
SCANS = [Scan(plane, kind) for plane in PLANES for kind in ("CT", "MR")]
SCANS += [
    Scan(plane, kind, num_slices=1) for plane, kind in (("axial", "CT"), ("sagittal", "MR"), ("45 degrees", "CT"))
]
SCANS += [Scan("axial", "CT", tilt=0.3), Scan("axial", "MR", is_inverted=True)]
SCANS += [Scan("axial", "CT", padding=-2000), Scan("coronal", "CT", padding=63536), Scan("axial", "MR", padding=0)]


def write_scan(folder: Path, scan: Scan) -> Path:
    folder.mkdir(parents=True)
    pixels = _pixels(scan)
    across, down = np.array(PLANES[scan.plane]).reshape(2, 3)
    step = STEP_MM * (np.cross(across, down) + scan.tilt * down)
    uid, frame = generate_uid(entropy_srcs=[str(scan)]), generate_uid(entropy_srcs=[str(scan), "frame"])
    for number in range(scan.num_slices):
        ds, ds.file_meta = Dataset(), FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage if scan.kind == "CT" else MRImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[str(scan), str(number)]
        )
        ds.Modality, ds.PatientID, ds.PatientName, ds.StudyInstanceUID = scan.kind, "0", "Nobody", uid
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.SeriesNumber, ds.InstanceNumber = uid, frame, 3, number + 1
        ds.SeriesDescription, ds.ImageType, ds.Manufacturer = "scan", ["ORIGINAL", "PRIMARY"], "SIEMENS"
        ds.Rows, ds.Columns = SHAPE[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME1" if scan.is_inverted else "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        ds.ImageOrientationPatient = [round(cosine, 8) for cosine in PLANES[scan.plane]]
        ds.ImagePositionPatient = (np.array([-20.0, 30.0, 5.0]) + number * step).round(6).tolist()
        ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = list(SPACING), STEP_MM, STEP_MM
        if scan.tilt:
            ds.GantryDetectorTilt = float(np.rad2deg(np.arctan(scan.tilt)))
        if scan.kind == "CT":
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0 if pixels.dtype.kind == "i" else -1024, "HU"
        if scan.padding is not None:
            ds.add_new(0x00280120, "SS" if pixels.dtype.kind == "i" else "US", scan.padding)
        ds.PixelData = pixels[number].tobytes()
        ds.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)
    return folder


def _pixels(scan: Scan) -> np.ndarray:
    """(slices, rows, columns) as stored."""
    z, y, x = (np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]].T - (np.array(SHAPE) - 1) / 2).T
    if scan.num_slices == 1:
        z = z * 0
    radius = np.sqrt((z / 11) ** 2 + (y / 15) ** 2 + (x / 17) ** 2)
    vessel = np.hypot(y - 4 - z / 5, x + 3) < 3
    noise = np.random.default_rng(5).normal(0, 8, radius.shape)
    ct = np.select([radius > 1, radius > 0.9, vessel], [-950, 700, 320], 40) + noise
    field = 1 + 0.4 * np.sin(x / 12) + 0.3 * y / 17
    mr = (np.select([radius > 1, radius > 0.9, vessel], [20, 250, 900], 500) * field + noise).clip(1)
    if scan.is_inverted:
        mr = 2**16 - 1 - mr
    values = ct if scan.kind == "CT" else mr
    is_signed = scan.kind == "CT" and (scan.padding is None or scan.padding < 0)
    stored = values if is_signed or scan.kind == "MR" else values + 1024
    if scan.padding is not None:
        stored = np.where(np.hypot(y, x) > 19, scan.padding, stored)
    return stored.round().astype("<i2" if is_signed else "<u2")[: scan.num_slices]


def dcm2niix(folder: Path, out: Path, *options: str) -> list[Path]:
    out.mkdir()
    program = str(Path(sys.executable).with_name("dcm2niix"))  # of its wheel, whatever is on the PATH
    arguments = [program, "-b", "n", "-w", "1", "-f", "scan", *options, "-o", str(out), str(folder)]
    subprocess.run(arguments, check=True, capture_output=True)
    return sorted(path for path in out.iterdir() if path.suffix in (".nii", ".gz", ".nrrd", ".nhdr"))


def dicom2nifti(folder: Path, out: Path) -> list[Path]:
    from dicom2nifti import convert_dicom, settings

    settings.disable_validate_slicecount()
    settings.disable_validate_slice_increment()
    settings.disable_validate_orthogonal()
    out.mkdir()
    try:
        convert_dicom.dicom_series_to_nifti(str(folder), str(out / "scan.nii.gz"), reorient_nifti=True)
    except Exception:  # it has reasons of its own to refuse a series
        return []
    return [out / "scan.nii.gz"]


def simpleitk(folder: Path, out: Path, *, suffix: str) -> list[Path]:
    out.mkdir()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(out / f"scan{suffix}"))
    return [out / f"scan{suffix}"]


def simpleitk_2d(folder: Path, out: Path, *, suffix: str) -> list[Path]:
    """A single slice written with two axes: only of an axial one does ITK keep where it points."""
    out.mkdir()
    image = sitk.ReadImage(str(next(folder.iterdir())))
    sitk.WriteImage(image[:, :, 0], str(out / f"scan{suffix}"))
    return [out / f"scan{suffix}"]


Convert = Callable[[Path, Path], list[Path]]
CONVERTERS: dict[str, Convert] = {
    "dcm2niix": lambda folder, out: dcm2niix(folder, out, "-z", "n"),
    "dcm2niix -e y": lambda folder, out: dcm2niix(folder, out, "-z", "n", "-e", "y"),
    "dicom2nifti": dicom2nifti,
    **{
        f"SimpleITK {suffix}": functools.partial(simpleitk, suffix=suffix)
        for suffix in (".nii.gz", ".nrrd", ".mha", ".nhdr")
    },
}


def modality(preset: str, dims: int) -> Modality:
    fields = {"dims": dims, "size": [16, 14, 12][:dims], "preset": preset}
    return Modality.model_validate(cut_to_dims(with_preset(fields)))


def cases() -> list[Any]:
    """Scan and preset; in the short form each scan meets one preset, and each preset every kind of scan in turn."""
    pairs = []
    for number, scan in enumerate(SCANS):
        presets = list(CT_PRESETS if scan.kind == "CT" else MR_PRESETS)
        quick = [name for name in presets if not PRESETS[name]["bias_correction"]] if number > 1 else presets
        chosen = presets if IS_LONG else [quick[(number // 2) % len(quick)]]
        pairs += [pytest.param(scan, preset, id=f"{scan}, {preset}") for preset in chosen]
    return pairs


@pytest.mark.parametrize(("scan", "preset"), cases())
def test_every_converter_gives_the_same_input(scan: Scan, preset: str, tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "dicom", scan)
    converters = dict(CONVERTERS)
    if scan.num_slices == 1 and scan.plane == "axial":
        converters |= {
            f"2D {suffix}": functools.partial(simpleitk_2d, suffix=suffix) for suffix in (".nrrd", ".mha", ".nii")
        }
    recipes = [modality(preset, dims) for dims in ((2,) if scan.num_slices == 1 else (2, 3))]
    if recipes[0].bias_correction and not IS_LONG:  # N4 takes seconds an image
        converters = {name: converters[name] for name in ("dcm2niix", "dicom2nifti", "SimpleITK .nrrd")}
        recipes = recipes[-1:]
    expected = [load_input(folder, recipe) for recipe in recipes]

    wrong, num_same, num_refused = [], 0, 0
    for name, convert in converters.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            files = convert(folder, tmp_path / name.replace(" ", "_"))
        for file in files:
            for recipe, source in zip(recipes, expected, strict=True):
                try:
                    found = load_input(file, recipe)
                except ImageError:
                    num_refused += 1
                    continue
                difference = float(np.abs(found - source).max() / max(np.ptp(source), 1e-9))
                if difference > _tolerance(name, scan) and not _has_lost(scan, file, recipe):
                    wrong.append(f"{name} {file.name} {recipe.dims}D: {difference:.2g}")
                num_same += difference <= 1e-5
    assert not wrong, "\n".join(wrong)
    assert num_same >= len(recipes) or num_refused >= len(recipes) * len(converters)


def _tolerance(converter: str, scan: Scan) -> float:
    """1e-5; a little more where dcm2niix writes an oblique NRRD, whose directions it gives six digits."""
    is_aligned = set(np.abs(PLANES[scan.plane]).tolist()) <= {0, 1}
    return 1e-5 if is_aligned or converter != "dcm2niix -e y" else 2e-5


def _has_lost(scan: Scan, file: Path, recipe: Modality) -> bool:
    """Whether the converter has written another scan: no tilt, or white as 0, of which no field of its file tells.

    `vwmm check` sees the second by its bright border.
    """
    image = read_image(file)
    if scan.tilt:
        is_upright = np.allclose(np.triu(np.abs(image.affine[:3, :3]), 1), 0, atol=1e-3)
        is_resampled = image.voxels.shape[1] != SHAPE[1]
        return is_upright and (recipe.dims == 3 or is_resampled)
    return scan.is_inverted and bright_border_of(image.voxels) > INVERTED_SHARE


def test_the_scans_are_what_they_are_called(tmp_path: Path) -> None:
    header = pydicom.dcmread(write_scan(tmp_path / "a", Scan("axial", "CT", padding=63536)) / "000.dcm")
    assert (header.PixelPaddingValue, header.pixel_array.max()) == (63536, 63536)
