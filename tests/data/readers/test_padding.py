"""What lies outside a scanner's field of view is no data: it counts as air in every statistic."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from tests.data.making_dicom import save, slice_of
from tests.data.readers.dicom.test_volume import quietly
from tests.data.readers.test_read import refusal
from vwmm.config.schema import Modality
from vwmm.data.readers.image import ImageError, as_voxels, with_true_zeros, without_padding
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.preprocess import load_input

pytestmark = pytest.mark.usefixtures("silence")

SIDE = 48


def head() -> np.ndarray:
    """(rows, columns) of a CT in HU: a head in air, in a round field of view, NaN outside it."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2.0
    r = np.hypot(x, y)
    hu = np.select([r < 12, r < 14, r < 16], [40.0, 700, -90], -950) + np.random.default_rng(0).normal(0, 8, r.shape)
    return np.where(r < SIDE / 2, hu.round(), np.nan)


def ct_slice(path: Path, stored: np.ndarray, **tags: Any) -> Path:
    dataset = slice_of(0)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(stored.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = stored.tobytes()
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in dataset:
            delattr(dataset, keyword)
        if keyword in tags:
            value_type = tags.get("vr", "US" if stored.dtype.kind == "u" else "SS")
            dataset.add_new(pydicom.datadict.tag_for_keyword(keyword), value_type, tags[keyword])
    return quietly(save, dataset, path)


@pytest.mark.parametrize(
    ("padding", "dtype", "tags"),
    [
        (63536, "<u2", {"PixelPaddingValue": 63536}),
        (-2000, "<i2", {"PixelPaddingValue": -2000}),
        (-2000, "<i2", {"PixelPaddingValue": 63536, "vr": "US"}),
        (65000, "<u2", {"PixelPaddingValue": 64000, "PixelPaddingRangeLimit": 65535}),
        (64000, "<u2", {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 64000}),
        (-2000, "<i2", {}),
        (-3024, "<i2", {}),
    ],
)
@pytest.mark.parametrize("intensity", ["min_max", "z_score", "z_score_foreground"])
@pytest.mark.parametrize("window", [None, [-150, 550]])
def test_padding_of_a_ct_counts_as_air(
    padding: int, dtype: str, tags: dict[str, Any], intensity: str, window: list[float] | None, tmp_path: Path
) -> None:
    """The input is the one of a file that has the lowest of its other values there."""
    hu = head()
    stored = np.where(np.isnan(hu), padding, hu + 1024).astype(dtype)
    path = ct_slice(tmp_path / "padded.dcm", stored, **tags)
    filled = np.where(np.isnan(hu), np.nanmin(hu), hu)
    clean = ct_slice(tmp_path / "clean.dcm", (filled + 1024).astype(dtype))
    recipe = Modality.model_validate({"dims": 2, "size": [24, 24], "window_hu": window, "intensity": intensity})

    found = load_input(path, recipe)

    np.testing.assert_allclose(found, load_input(clean, recipe), rtol=0, atol=1e-6)
    assert read_image(path).bounds == read_image(clean).bounds


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
@pytest.mark.parametrize("offset", [0, 1024], ids=["in HU", "in stored values"])
def test_padding_in_a_nifti_is_known_by_its_value(padding: int, offset: int, tmp_path: Path) -> None:
    hu = head().T
    stored = np.where(np.isnan(hu), padding, hu + offset).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(np.stack([stored] * 3, -1), np.diag([-1.0, -1, 2, 1])), tmp_path / "a.nii")
    recipe = Modality(dims=2, size=[24, 24], window_hu=[-150, 550])

    assert read_image(tmp_path / "a.nii").bounds[0] == np.nanmin(hu) + offset
    if offset == 0:
        assert load_input(tmp_path / "a.nii", recipe)[0, 0, 0] == 0
        return
    with pytest.raises(ImageError, match="neither air nor fat, which are below -30 HU; they may be stored values"):
        load_input(tmp_path / "a.nii", recipe)


def test_a_rescale_that_makes_padding_bright_is_no_hounsfield_unit(tmp_path: Path) -> None:
    """What a converter makes of 63536: no tag says any longer what it is."""
    hu = head().T
    values = np.where(np.isnan(hu), 62512, hu).astype(np.int32)
    nibabel.save(nibabel.Nifti1Image(np.stack([values] * 3, -1), np.diag([-1.0, -1, 2, 1])), tmp_path / "a.nii")

    with pytest.raises(ImageError, match="outside what Hounsfield units can be"):
        load_input(tmp_path / "a.nii", Modality(dims=2, size=[24, 24], window_hu=[-150, 550]))


def test_an_mr_keeps_a_background_of_0_that_its_header_calls_padding(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(
        slice_path := ct_slice(tmp_path / "a.dcm", np.where(np.isnan(head()), 0, head() + 1100).astype("<u2"))
    )
    dataset.Modality = "MR"
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.add_new(0x00280120, "US", 0)
    quietly(dataset.save_as, slice_path)

    assert read_image(slice_path).bounds[0] == 0


def test_an_image_of_nothing_but_padding_is_refused(tmp_path: Path) -> None:
    stored = np.full((SIDE, SIDE), 63536, "<u2")

    assert refusal(ct_slice(tmp_path / "a.dcm", stored, PixelPaddingValue=63536)).startswith("every voxel is padding")


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(-4096, 4095, (20, 20, 5)),
        np.random.default_rng(0).normal(0, 900, (20, 20, 5)),
        np.where(np.arange(2000).reshape(20, 20, 5) == 7, -3000, 50),
        np.where(np.arange(2000).reshape(20, 20, 5) % 3, -1024, 50),
        np.random.default_rng(0).integers(0, 16, (20, 20, 5)) * 512 - 4096,
        np.random.default_rng(0).integers(0, 256, (20, 20, 5)) * 256 - 32768,
        np.random.default_rng(0).choice([-2048, 0, 2048], (20, 20, 5)),
        np.random.default_rng(3).choice([-32768, 32767], (20, 20, 5)),
    ],
    ids=["phase", "field map", "one odd voxel", "air of -1024", "steps", "high bytes", "three levels", "two levels"],
)
def test_values_that_are_data_stay(values: np.ndarray) -> None:
    voxels = as_voxels(values.astype(np.float32))

    assert without_padding(voxels, "unknown") is voxels


def test_zeros_of_a_mask_that_went_through_scaled_integers_are_zeros(tmp_path: Path) -> None:
    mask = np.zeros((16, 16, 8), bool)
    mask[4:12, 4:12, 2:6] = True
    masked = np.where(mask, np.random.default_rng(0).normal(0, 1, mask.shape), 0).astype(np.float32)
    image = nibabel.Nifti1Image(masked, np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    assert np.asanyarray(nibabel.load(tmp_path / "a.nii").dataobj)[0, 0, 0] != 0

    found = read_image(tmp_path / "a.nii")

    np.testing.assert_array_equal(found.voxels != 0, mask)
    assert with_true_zeros(found) is found


def test_a_scaled_ct_keeps_values_near_0(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).integers(0, 255, (16, 16, 8)).astype(np.uint8)
    hu[[0, -1]] = 0  # air around it
    image = nibabel.Nifti1Image(hu, np.eye(4))
    image.header.set_slope_inter(8.0, -1001.0)
    nibabel.save(image, tmp_path / "a.nii")

    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").voxels, hu * 8.0 - 1001)


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.float64])
def test_values_that_float32_cannot_tell_apart_are_refused(dtype: type) -> None:
    with pytest.raises(ImageError, match="float32 has steps of 128; subtract a constant"):
        as_voxels((np.arange(1000) + 2**31).astype(dtype))
    assert as_voxels((np.arange(1000) * 2**21).astype(dtype)).dtype == np.float32


def test_a_scaled_dicom_keeps_a_background_of_0(tmp_path: Path) -> None:
    stored = np.where(np.isnan(head()) | (head() < -500), 407, head() + 2000).astype("<u2")
    dataset = pydicom.dcmread(path := ct_slice(tmp_path / "a.dcm", stored))
    dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "MR", 0.00123, -0.5006
    quietly(dataset.save_as, path)

    np.testing.assert_array_equal(read_image(path).voxels[..., 0].T != 0, stored != 407)
