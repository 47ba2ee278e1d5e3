"""Writes a synthetic image as NIfTI or DICOM, the same bytes for the same image."""

import gzip
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.random import Generator
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from vwmm.data.synthetic.phantom_images import Canvas

DESCRIPTION = "SYNTHETIC vwmm demonstration"
RESCALE_INTERCEPT_HU = -1024

CT_TAGS = {
    "SOPClassUID": CTImageStorage, "Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
    "StudyDescription": DESCRIPTION, "SeriesDescription": DESCRIPTION, "StudyDate": "20200101",
    "SeriesDate": "20200101", "ContentDate": "20200101", "StudyTime": "120000", "ContentTime": "120000",
    "AccessionNumber": "", "StudyID": "1", "ReferringPhysicianName": "", "PatientBirthDate": "",
    "PatientPosition": "HFS", "PositionReferenceIndicator": "", "SeriesNumber": 1, "AcquisitionNumber": 1,
    "InstanceNumber": 1, "BodyPartExamined": "NECK", "KVP": "120", "ContrastBolusAgent": "SYNTHETIC",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "RescaleSlope": 1,
    "RescaleIntercept": RESCALE_INTERCEPT_HU, "RescaleType": "HU", "WindowCenter": 200, "WindowWidth": 700,
}  # fmt: skip


def write_nifti(path: Path, canvas: Canvas, rng: Generator, side: int) -> None:
    """Writes int16 with an oblique affine: a few degrees of turn about each axis, the neck's place in the scanner."""
    angles = np.radians(rng.uniform(2, 6, 3) * rng.choice((-1, 1), 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[[i, j], [i, j]], about[i, j], about[j, i] = math.cos(angle), -math.sin(angle), math.sin(angle)
        turn = turn @ about
    affine = np.eye(4)
    affine[:3, :3] = turn * canvas.zooms_mm
    middle = np.array((side * 30.0, 15.0, -40.0)) + rng.uniform(-8, 8, 3)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(canvas.image.shape) - 1) / 2)
    image = nib.Nifti1Image(np.rint(canvas.image).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header["descrip"] = DESCRIPTION
    # No time and no name inside, so that the same image is the same file; noise hardly gets smaller above level 2.
    path.write_bytes(gzip.compress(image.to_bytes(), 2, mtime=0))


def write_dicom(path: Path, canvas: Canvas, rng: Generator, side: int, *, tags: dict[str, str], identity: str) -> None:
    """Writes one CT slice of values in HU; `tags` names the patient and the scanner, `identity` makes the UIDs."""
    # DICOM's rows go to posterior and its columns to the patient's left, from the right anterior corner.
    stored = np.rint(canvas.image[::-1, ::-1, 0].T - RESCALE_INTERCEPT_HU).clip(0, 65535).astype("<u2")
    middle = np.array((-side * 30.0, -15.0, -40.0)) + rng.uniform(-8, 8, 3)  # LPS, where NIfTI has RAS
    corner = [f"{value:.4f}" for value in middle - (canvas.x[-1], canvas.y[-1], 0)]
    uid = {kind: generate_uid(entropy_srcs=[f"{kind}|{identity}"]) for kind in ("Study", "Series", "Frame", "Image")}
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid["Image"]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    placed = {
        "SOPInstanceUID": uid["Image"], "StudyInstanceUID": uid["Study"], "SeriesInstanceUID": uid["Series"],
        "FrameOfReferenceUID": uid["Frame"], "Laterality": "R" if side == 1 else "L", "ImagePositionPatient": corner,
        "SliceLocation": corner[2], "SliceThickness": f"{canvas.zooms_mm[2]:.4f}",
        "PixelSpacing": [f"{zoom:.4f}" for zoom in canvas.zooms_mm[:2]], "Rows": stored.shape[0],
        "Columns": stored.shape[1], "PixelData": stored.tobytes(),
    }  # fmt: skip
    for keyword, value in {**CT_TAGS, **placed, **tags}.items():
        setattr(header, keyword, value)
    header.save_as(path, enforce_file_format=True)
