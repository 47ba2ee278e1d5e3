"""DICOM files and series: voxels and places as SimpleITK sees them, and one even stack or the reason why not."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.data.making import numbers, write_dicom
from tests.data.making_dicom import (
    OBLIQUE_AXES,
    STRAIGHT,
    itk_affine,
    itk_file,
    itk_series,
    save,
    slice_of,
    write_frames,
    write_slices,
)
from tests.data.readers.test_read import monai_image, refusals
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.readers.read import check_header, read_image

pytestmark = pytest.mark.usefixtures("silence")

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
}


def quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Writes test files: pydicom warns of what they are made for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def slices(folder: Path, **options: Any) -> list[Path]:
    paths: list[Path] = quietly(write_slices, folder, **options)
    return paths


def edit(path: Path, change: Callable[[Dataset], Any]) -> None:
    """Changes tags of a file."""

    def rewrite() -> None:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)

    quietly(rewrite)


def setting(**tags: Any) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)

    return change


def same(one: Image, other: Image) -> None:
    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)


# --- one file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dcm", "a", "1.2.840.113619.2", "A.DCM", "IM.ima", "MR.1.2.x7", "a.v2"])
def test_slice_is_columns_by_rows_in_hounsfield_units_for_any_suffix(name: str, tmp_path: Path) -> None:
    pixels = numbers(12, 14).clip(0)
    path = write_dicom(tmp_path / name, pixels, origin=(10, 20, 30))

    found = read_image(path)

    assert (found.unit, check_header(path)) == ("HU", (14, 12, 1))
    np.testing.assert_array_equal(found.voxels[..., 0], pixels.T - 1024)
    expected = np.array([[-0.75, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(found.affine, expected, atol=1e-12)
    np.testing.assert_allclose(found.spacing_mm, (0.75, 0.5, 1.0))


def test_a_slice_is_read_as_monai_reads_it(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(12, 14).clip(0), origin=(1, 2, 3))

    found, expected = read_image(path), monai_image(path)

    np.testing.assert_array_equal(found.voxels[..., 0], expected.numpy().reshape(14, 12))
    np.testing.assert_allclose(found.affine[:3, :2], expected.affine.numpy()[:3, :2])


def test_only_a_rescaled_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(8, 8).clip(0), modality="MR")
    assert read_image(path).unit == "unknown"
    for kind, unit in (("HU", "HU"), ("US", "unknown"), ("HU_MOD", "unknown")):
        edit(path, setting(Modality="CT", RescaleType=kind))
        assert read_image(path).unit == unit
    edit(path, lambda dataset: [dataset.pop(word) for word in ("RescaleSlope", "RescaleIntercept")])
    assert read_image(path).unit == "unknown"


@pytest.mark.parametrize("source", ["CT_small.dcm", "MR_small.dcm"])
@pytest.mark.parametrize("syntax", ["explicit", "JPEG 2000"])
def test_image_with_white_at_the_lowest_value_is_inverted_as_by_simpleitk(
    source: str, syntax: str, tmp_path: Path
) -> None:
    dataset = slice_of(0, source=source)
    plain = read_image(quietly(save, dataset, tmp_path / "a.dcm"))
    dataset.PhotometricInterpretation = "MONOCHROME1"
    path = quietly(save, dataset, tmp_path / "b.dcm", SYNTAXES[syntax])

    found = read_image(path)

    np.testing.assert_array_equal(found.voxels, sitk.GetArrayFromImage(itk_file(path)).T)
    np.testing.assert_array_equal(np.argsort(found.voxels.ravel())[-1], np.argsort(plain.voxels.ravel())[0])
    assert (plain.unit, found.unit) == {"C": ("HU", "inverted"), "M": ("unknown", "unknown")}[source[0]]


def test_a_table_of_values_is_applied(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.arange(16).reshape(4, 4))
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [16, 0, 16], [value * value for value in range(16)]
    table["LUTDescriptor"].VR = "US"
    table["LUTData"].VR = "US"
    edit(path, setting(ModalityLUTSequence=[table]))

    found = read_image(path)

    np.testing.assert_array_equal(found.voxels[..., 0], np.arange(16).reshape(4, 4).T ** 2)
    assert found.unit == "unknown"


@pytest.mark.parametrize(
    ("photometric", "samples"), [("RGB", 3), ("PALETTE COLOR", 1), ("YBR_FULL", 3)], ids=lambda value: str(value)
)
def test_colours_are_refused(photometric: str, samples: int, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(4, 4).clip(0))
    edit(path, setting(SamplesPerPixel=samples, PhotometricInterpretation=photometric))

    assert refusals(path) == {"the voxels are colours or vectors; expected one number per voxel"}


# --- a series ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["CT_small.dcm", "MR_small.dcm"])
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("axes", [STRAIGHT, OBLIQUE_AXES], ids=["straight", "oblique"])
def test_a_series_is_stacked_as_simpleitk_stacks_it(
    axes: Sequence[float], syntax: str, source: str, tmp_path: Path
) -> None:
    slices(tmp_path / "a", axes=axes, syntax=SYNTAXES[syntax], source=source)
    (tmp_path / "a" / "readme.txt").write_text("not an image")

    found = read_image(tmp_path / "a")

    voxels, affine = itk_series(tmp_path / "a")
    np.testing.assert_array_equal(found.voxels, voxels)
    np.testing.assert_allclose(found.affine, affine, atol=1e-3)
    assert check_header(tmp_path / "a") == found.voxels.shape == (40, 34, 5)
    assert found.unit == ("HU" if source.startswith("CT") else "unknown")


@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.2])
@pytest.mark.parametrize("axes", [STRAIGHT, OBLIQUE_AXES], ids=["straight", "oblique"])
def test_every_voxel_lies_where_its_own_slice_says(tilt: float, axes: Sequence[float], tmp_path: Path) -> None:
    """Also under a tilted gantry, where stacking loses the shear."""
    paths = slices(tmp_path / "a", axes=axes, tilt=tilt)

    found = read_image(tmp_path / "a")

    for number, path in enumerate(paths):
        alone = itk_file(path)
        for corner in ((0, 0), (39, 0), (0, 33), (39, 33)):
            place = itk_affine(alone) @ [*corner, 0, 1]
            np.testing.assert_allclose(found.affine @ [*corner, number, 1], place, atol=1e-3)
        np.testing.assert_array_equal(found.voxels[..., number], sitk.GetArrayFromImage(alone)[0].T)
    row, column, step = found.affine[:3, :3].T
    assert row @ column == pytest.approx(0, abs=1e-6)
    assert step @ column / np.linalg.norm(column) == pytest.approx(2.5 * tilt, abs=1e-4)


def test_each_slice_is_rescaled_by_its_own_slope_and_intercept(tmp_path: Path) -> None:
    def rescale(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + 0.25 * number, -1024 + number

    paths = slices(tmp_path / "a", edit=rescale)

    found = read_image(tmp_path / "a")

    assert found.voxels.dtype == np.float32
    for number, path in enumerate(paths):
        np.testing.assert_array_equal(found.voxels[..., number], sitk.GetArrayFromImage(itk_file(path))[0].T)


def test_slices_that_fit_different_integers_become_floats_without_loss(tmp_path: Path) -> None:
    slices(tmp_path / "a", count=3, edit=lambda dataset, number: setattr(dataset, "RescaleIntercept", 20_000 * number))

    found = read_image(tmp_path / "a")

    assert found.voxels.dtype == np.float32
    stored = [slice_of(number).pixel_array.T.astype(float) + 20_000 * number for number in range(3)]
    np.testing.assert_array_equal(found.voxels, np.stack(stored, axis=2))


@pytest.mark.parametrize(
    "words",
    [
        ["InstanceNumber", "SliceThickness", "SpacingBetweenSlices", "SliceLocation", "AcquisitionNumber"],
        ["FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ImageType"],
        ["PatientID", "PatientName", "StudyDate", "SeriesNumber", "RescaleType", "PatientPosition"],
    ],
    ids=["numbers", "uids", "people"],
)
def test_a_series_without_tags_that_its_place_does_not_depend_on_is_read(words: list[str], tmp_path: Path) -> None:
    slices(tmp_path / "whole", axes=OBLIQUE_AXES)

    def remove(dataset: Dataset, _: int) -> None:
        for word in words:
            if word in dataset:
                delattr(dataset, word)

    slices(tmp_path / "less", axes=OBLIQUE_AXES, edit=remove)

    same(read_image(tmp_path / "less"), read_image(tmp_path / "whole"))


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
def test_files_without_preamble_and_file_meta_are_read(syntax: str, tmp_path: Path) -> None:
    uid = SYNTAXES[syntax]
    for path in slices(tmp_path / "whole", axes=OBLIQUE_AXES, syntax=uid):
        content = path.read_bytes()
        start = 144 + int.from_bytes(content[140:144], "little")
        (tmp_path / "bare").mkdir(exist_ok=True)
        (tmp_path / "bare" / path.name).write_bytes(content[start:])

    same(read_image(tmp_path / "bare"), read_image(tmp_path / "whole"))


def test_many_threads_read_the_same(tmp_path: Path) -> None:
    slices(tmp_path / "a", syntax=JPEG2000Lossless)
    expected = read_image(tmp_path / "a")

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(read_image, [tmp_path / "a"] * 24):
            same(found, expected)


def test_a_folder_with_one_slice_is_that_slice(tmp_path: Path) -> None:
    write_dicom(tmp_path / "one" / "a.dcm", numbers(12, 14).clip(0))

    assert check_header(tmp_path / "one") == read_image(tmp_path / "one").voxels.shape == (14, 12, 1)


# --- one of several series -----------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the series `T1`, straight, and the series `T2`, oblique."""
    for name, axes in (("T1", STRAIGHT), ("T2", OBLIQUE_AXES)):
        uid = generate_uid(entropy_srcs=[name])
        change = setting(SeriesInstanceUID=uid, SeriesDescription=f"{name} ")
        slices(tmp_path / name, axes=axes, edit=lambda dataset, _, change=change: change(dataset))
        (tmp_path / "two").mkdir(exist_ok=True)
        for path in (tmp_path / name).iterdir():
            path.rename(tmp_path / "two" / f"{name}-{path.name}")
    return tmp_path / "two"


def test_two_series_are_refused_by_name_and_one_is_chosen_by_uid_or_description(two: Path) -> None:
    assert refusals(two) == {"the folder has 2 DICOM series: 'T1' (5 files), 'T2' (5 files)"}
    only = sorted(two.glob("T2-*"))
    for path in only[1:]:
        path.rename(two.parent / path.name)
    (alone,) = refusals(two)
    assert alone.endswith("'T1' (5 files), 'T2' (1 file)")
    for path in only[1:]:
        (two.parent / path.name).rename(path)
    by_name = read_image(two, series="T2")
    by_uid = read_image(two, series=generate_uid(entropy_srcs=["T2"]))

    same(by_name, by_uid)
    across = by_name.affine[:3, 0] / np.linalg.norm(by_name.affine[:3, 0])
    np.testing.assert_allclose(across, [-0.8, -0.6, 0], atol=1e-6)
    assert check_header(two, series="T1") == (40, 34, 5)


def test_a_series_that_is_not_there_or_not_the_only_one_is_refused(two: Path) -> None:
    with pytest.raises(ImageError, match=r"no DICOM series has .* 'T3'; found 'T1' \(5 files\), 'T2' \(5 files\)"):
        read_image(two, series="T3")
    for path in two.iterdir():
        edit(path, setting(SeriesDescription="T1"))
    with pytest.raises(ImageError, match=r"'T1' describes 2 DICOM series: '[0-9.]+' \(5 files\), '[0-9.]+'"):
        check_header(two, series="T1")


# --- no even stack -------------------------------------------------------------------------------------------------


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a", axes=OBLIQUE_AXES)
    paths[2].unlink()

    assert refusals(tmp_path / "a") == {
        f"slices are missing between {paths[1].name} and {paths[3].name}: 5 mm apart, most are 2.5; "
        "export the series again"
    }


def test_a_slice_that_is_there_twice_is_named(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    (tmp_path / "a" / "copy").write_bytes(paths[2].read_bytes())

    assert refusals(tmp_path / "a") == {
        f"{paths[2].name} and copy lie at the same place: a slice is there twice; remove one"
    }


def test_several_time_points_are_refused(tmp_path: Path) -> None:
    for path in slices(tmp_path / "a", count=3):
        (tmp_path / "a" / f"{path.name}-2").write_bytes(path.read_bytes())

    (message,) = refusals(tmp_path / "a")

    assert message.endswith("every place has 2 slices: a time series or several echoes")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "IM03: another orientation than the other slices"),
        ({"PixelSpacing": [0.7, 0.7]}, "IM03: another PixelSpacing than the other slices; one series has one"),
        ({"ImagePositionPatient": None}, "IM03: no ImagePositionPatient or ImageOrientationPatient, so its place is"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "IM03 is a localizer among the slices"),
        ({"ImagePositionPatient": [-20, 30, 11.0]}, "the slices are 1.5 to 3.5 mm apart, or not in one line"),
        ({"ImagePositionPatient": [-22, 30, 10.0]}, "the slices are 2.5 to 2.5 mm apart, or not in one line"),
        ({"RescaleType": "US"}, "IM03: values in another unit than the other slices (RescaleSlope, RescaleType"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "IM03: values in another unit than the other slices"),
        ({"ImagePositionPatient": [1, 2]}, "IM03: ImagePositionPatient is damaged: expected 3 finite numbers"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "IM03: ImageOrientationPatient is damaged: rows and col"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_slice_unlike_the_others_is_named(tags: dict[str, Any], expected: str, tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    edit(paths[2], setting(**tags))

    for message in refusals(tmp_path / "a"):
        assert message.startswith(expected)


def test_a_slice_of_another_size_is_named(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    other = slice_of(2, size=(34, 38))
    other.ImagePositionPatient = pydicom.dcmread(paths[2]).ImagePositionPatient
    quietly(save, other, paths[2])

    assert refusals(tmp_path / "a") == {"IM03 has 38 x 34 voxels, other slices have 40 x 34; one series has one size"}


def test_slices_without_a_place_have_no_order(tmp_path: Path) -> None:
    slices(tmp_path / "a", edit=lambda dataset, _: delattr(dataset, "ImagePositionPatient"))

    assert refusals(tmp_path / "a") == {
        "the slices have no positions (no ImagePositionPatient): their order is unknown"
    }


# --- several frames ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", ["explicit", "deflated", "RLE", "JPEG 2000", "JPEG-LS"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0, 4, 2, 1)], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_frames_are_placed_and_rescaled_one_by_one(
    syntax: str, order: Sequence[int], tilt: float, tmp_path: Path
) -> None:
    def rescale(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000 - number

    paths = slices(tmp_path / "a", axes=OBLIQUE_AXES, tilt=tilt, edit=rescale)
    path = quietly(write_frames, tmp_path / "b.dcm", paths, order, syntax=SYNTAXES[syntax])

    found = read_image(path)

    same(found, read_image(tmp_path / "a"))
    assert (found.unit, check_header(path)) == ("HU", (40, 34, 5))


def test_frames_sorted_against_their_normal_stay_as_they_are(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a", axes=OBLIQUE_AXES)
    path = quietly(write_frames, tmp_path / "b.dcm", paths, (4, 3, 2, 1, 0))

    found, series = read_image(path), read_image(tmp_path / "a")

    np.testing.assert_array_equal(found.voxels, series.voxels[..., ::-1])
    np.testing.assert_allclose(found.affine @ [0, 0, 4, 1], series.affine @ [0, 0, 0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((0, 1, 3, 4), "slices are missing between frame 2 and frame 3: 5 mm apart, most are 2.5; "
         "export the series again"),
        ((0, 1, 1, 2), "frame 2 and frame 3 lie at the same place: a slice is there twice; remove one"),
        ((0, 0, 1, 1, 2, 2), "frame 1 and frame 2 lie at the same place, and every place has 2 slices: "
         "a time series or several echoes"),
    ],
    ids=["missing", "twice", "time"],
)  # fmt: skip
def test_frames_that_are_no_even_stack_are_refused(order: Sequence[int], expected: str, tmp_path: Path) -> None:
    path = quietly(write_frames, tmp_path / "b.dcm", slices(tmp_path / "a"), order)

    assert refusals(path) == {expected}


def test_frames_in_time_or_too_few_descriptions_are_refused(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    path = quietly(write_frames, tmp_path / "b.dcm", paths, range(5))
    edit(path, lambda dataset: dataset.PerFrameFunctionalGroupsSequence.pop())
    assert refusals(path) == {"NumberOfFrames is 5, but 4 frames are described: the header is damaged"}

    def cine(dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
        dataset.FrameTime, dataset.FrameIncrementPointer = 40, 0x00181063

    edit(path, cine)
    assert refusals(path) == {"the 5 frames are a time series or several views, no stack"}


def test_a_file_of_frames_among_others_is_refused(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    quietly(write_frames, tmp_path / "a" / "frames", paths, range(5))

    assert refusals(tmp_path / "a") == {"frames has several frames, and is one of 6 files; name one file instead"}
