"""DICOM objects that are no pictures of a scanner: their scale is applied, or they are refused in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.data.making_dicom import save, slice_of, write_frames, write_slices
from tests.data.readers.dicom.test_volume import quietly
from tests.data.readers.test_read import refusal, refusals
from vwmm.data.readers.read import read_image

pytestmark = pytest.mark.usefixtures("silence")

SEGMENTATION, PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30"


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def frames(folder: Path, kind: str, pixels: np.ndarray, **values: Any) -> tuple[Path, Dataset]:
    """An enhanced file of this kind with (frames, rows, columns) uint8 pixels."""
    slices = quietly(write_slices, folder, count=len(pixels))
    path = quietly(write_frames, folder / "all.dcm", slices, range(len(pixels)))
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.Modality = "SEG" if kind == SEGMENTATION else "MR"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.astype(np.uint8).tobytes()
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.PixelValueTransformationSequence
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return path, dataset


PIXELS = (np.arange(4 * 34 * 40).reshape(4, 34, 40) % 100).astype(np.uint8)


@pytest.mark.parametrize("count", [2, 3])
def test_a_segmentation_of_several_segments_is_refused(count: int, tmp_path: Path) -> None:
    segments = Items([item(SegmentNumber=n + 1, SegmentLabel=str(n)) for n in range(count)])
    path, dataset = frames(tmp_path, SEGMENTATION, PIXELS % 2, SegmentSequence=segments, SegmentationType="BINARY")
    quietly(dataset.save_as, path)

    assert refusals(path) == {f"a segmentation of {count} segments, which are images of their own; export one of them"}


def test_a_segmentation_of_one_segment_is_read_and_a_fractional_one_is_a_share(tmp_path: Path) -> None:
    segments = Items([item(SegmentNumber=1, SegmentLabel="wall")])
    binary, one = frames(tmp_path / "a", SEGMENTATION, PIXELS % 2, SegmentSequence=segments, SegmentationType="BINARY")
    values = {"SegmentSequence": segments, "SegmentationType": "FRACTIONAL", "MaximumFractionalValue": 200}
    fractional, other = frames(tmp_path / "b", SEGMENTATION, PIXELS, **values)
    quietly(one.save_as, binary), quietly(other.save_as, fractional)

    np.testing.assert_array_equal(np.unique(read_image(binary).voxels), [0, 1])
    np.testing.assert_allclose(read_image(fractional).voxels.max(), 99 / 200, rtol=1e-6)


def test_each_frame_of_a_parametric_map_has_its_own_real_world_value(tmp_path: Path) -> None:
    path, dataset = frames(tmp_path, PARAMETRIC_MAP, PIXELS)
    slopes = [0.5, 1.0, 2.0, 0.25]
    for group, slope in zip(dataset.PerFrameFunctionalGroupsSequence, slopes, strict=True):
        mapping = item(RealWorldValueSlope=slope, RealWorldValueIntercept=-3.0)
        group.RealWorldValueMappingSequence = Items([mapping])
    quietly(dataset.save_as, path)

    found = read_image(path).voxels

    for number, slope in enumerate(slopes):
        np.testing.assert_allclose(found[..., number].T, PIXELS[number] * slope - 3, rtol=1e-6)


def test_a_parametric_map_without_a_linear_mapping_is_refused(tmp_path: Path) -> None:
    path, dataset = frames(tmp_path, PARAMETRIC_MAP, PIXELS)
    dataset.RealWorldValueMappingSequence = Items([item(RealWorldValueLUTData=[1.0, 2.0])])
    quietly(dataset.save_as, path)

    for found in refusals(path):
        assert found.startswith("a parametric map without one linear RealWorldValueMapping for each frame")


def test_slices_that_only_a_real_world_value_tells_apart_are_refused(tmp_path: Path) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.Modality = "MR"
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            if keyword in dataset:
                delattr(dataset, keyword)
        mapping = item(RealWorldValueSlope=1.0 + number, RealWorldValueIntercept=0.0)
        dataset.RealWorldValueMappingSequence = Items([mapping])

    quietly(write_slices, tmp_path / "a", edit=edit)

    for found in refusals(tmp_path / "a"):
        assert found.startswith("the slices have no rescale, and real-world values with different slopes")


def test_slices_with_and_without_a_rescale_are_refused(tmp_path: Path) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.Modality = "MR"
        if number == 3:
            del dataset.RescaleSlope
            del dataset.RescaleIntercept

    quietly(write_slices, tmp_path / "a", edit=edit)

    assert refusals(tmp_path / "a") == {
        "4 of 5 slices have a rescale (RescaleSlope), the others none: their contrast would be wrong; export the "
        "series again"
    }


def test_a_dose_is_in_its_own_unit(tmp_path: Path) -> None:
    dataset = slice_of(0)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"
    dataset.Modality, dataset.DoseGridScaling = "RTDOSE", 0.25
    stored = dataset.pixel_array.copy()
    path = quietly(save, dataset, tmp_path / "a.dcm")

    np.testing.assert_allclose(read_image(path).voxels[..., 0].T, stored * 0.25)
    del dataset.DoseGridScaling
    assert refusal(quietly(save, dataset, path)).startswith("a dose without DoseGridScaling")
