"""How an image lies before and after the transforms: held against what the transforms do."""

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from tests.data.making import numbers, write_dicom, write_nifti
from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.preprocess import transform
from vwmm.data.transforms.provenance import View, view_of

ORIENTATIONS = ["".join(codes) for axes in permutations(["RL", "AP", "SI"]) for codes in product(*axes)]


def affine_of(orientation: str) -> np.ndarray:
    """1, 2 and 3 mm along the first, second and third axis."""
    affine = np.diag([1.0, 1.0, 1.0, 0.0])
    for axis, code in enumerate(orientation):
        affine[:3, axis] = 0
        affine[{"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[code], axis] = (axis + 1) * (1 if code in "RAS" else -1)
    affine[3, 3] = 1
    return affine


def view(path: Path, **modality: Any) -> tuple[View, Image, Modality]:
    image, fields = read_image(path), Modality.model_validate({"dims": 2, "size": [8, 8], **modality})
    return view_of(image, fields), image, fields


def both_ways(orientation: str) -> list[str]:
    """Of each axis the code and its opposite."""
    return [code + "LRPAIS"["RLAPSI".index(code)] for code in orientation]


def turned(voxels: np.ndarray, orientation: str, to: str) -> np.ndarray:
    """(X, Y) turned from one orientation to another."""
    if to[0] not in both_ways(orientation)[0]:
        voxels, orientation = voxels.T, orientation[::-1]
    return np.flip(voxels, tuple(axis for axis in range(2) if orientation[axis] != to[axis]))


@pytest.mark.parametrize("index", ["middle", 1])
@pytest.mark.parametrize("to", ["RAS", "LIP", None])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_slice_is_the_one_that_the_transforms_use(
    orientation: str, to: str | None, index: str | int, tmp_path: Path
) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(4, 6, 8), affine_of(orientation))
    lengths = {code: n for pair, n in zip(both_ways(orientation), (4, 6, 8), strict=True) for code in pair}
    spacing = {code: n for pair, n in zip(both_ways(orientation), (1.0, 2.0, 3.0), strict=True) for code in pair}
    codes = to or orientation
    size = [lengths[code] for code in codes[:2]]  # so that nothing is resized, and a voxel keeps its size

    found, image, modality = view(path, orientation=to, slice=index, intensity="none", size=size)

    expected = transform(image, modality)[0]
    assert found.orientation is not None
    assert found.input_orientation == codes[:2]
    np.testing.assert_array_equal(turned(found.voxels, found.orientation, codes[:2]), expected)
    assert found.slice_index == (lengths[codes[2]] // 2 if index == "middle" else 1)
    assert found.spacing_mm == pytest.approx([spacing[code] for code in found.orientation])
    assert found.input_spacing_mm == pytest.approx([spacing[code] for code in codes[:2]])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_volume_keeps_its_axes_and_the_input_gets_those_of_the_modality(orientation: str, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(4, 6, 8), affine_of(orientation))

    found, image, _ = view(path, dims=3, size=[2, 2, 2])

    assert (found.orientation, found.input_orientation, found.slice_index) == (orientation, "RAS", None)
    np.testing.assert_array_equal(found.voxels, image.voxels)
    extents = {code: n for pair, n in zip(both_ways(orientation), (4, 12, 24), strict=True) for code in pair}
    assert found.input_spacing_mm == pytest.approx([extents[code] / 2 for code in "RAS"])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_what_is_cropped_or_padded_keeps_its_voxel_size(orientation: str, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(4, 6, 8), affine_of(orientation))

    found, *_ = view(path, dims=3, size=[5, 5, 5], fit="crop_pad")
    respaced, *_ = view(path, dims=3, size=[5, 5, 5], fit="crop_pad", spacing_mm=[3, 2, 1])

    spacing = {code: n for pair, n in zip(both_ways(orientation), (1, 2, 3), strict=True) for code in pair}
    assert found.input_spacing_mm == pytest.approx([spacing[code] for code in "RAS"])
    assert respaced.input_spacing_mm == (3, 2, 1)


@pytest.mark.parametrize("shape", [(1, 6, 8), (6, 1, 8), (6, 8, 1)])
def test_a_file_with_one_slice_is_that_slice_on_whichever_axis(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(*shape), affine_of("RAS"))

    found, image, modality = view(path, size=[6, 8], intensity="none")

    np.testing.assert_array_equal(found.voxels, transform(image, modality)[0])
    assert found.slice_index is None


def test_a_file_that_says_no_orientation_gets_none(tmp_path: Path) -> None:
    picture, array, nifti = tmp_path / "a.png", tmp_path / "a.npy", tmp_path / "A.NII.GZ"
    Pillow.fromarray(numbers(9, 8).astype(np.uint8)).save(picture)
    np.save(array, numbers(9, 8))
    unplaced = nibabel.Nifti1Image(numbers(9, 8, 7), None)
    unplaced.header.set_zooms((0.5, 0.5, 2))
    nibabel.save(unplaced, nifti)
    dicom = write_dicom(tmp_path / "a.dcm", numbers(9, 8).clip(0))

    for path in (picture, array):
        found, *_ = view(path)
        facts = (found.orientation, found.input_orientation, found.spacing_mm, found.input_spacing_mm)
        assert facts == (None, None, None, None)
    found, *_ = view(nifti)
    assert found.orientation is found.input_orientation is None
    assert found.spacing_mm == pytest.approx((0.5, 0.5))
    assert view(dicom)[0].orientation == "LP"
    _without_orientation(dicom)
    assert view(dicom)[0].orientation is None


def _without_orientation(path: Path) -> None:
    import pydicom

    header = pydicom.dcmread(path)
    del header.ImageOrientationPatient
    header.save_as(path)
