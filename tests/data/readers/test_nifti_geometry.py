"""Headers that contradict themselves or leave something open: what is taken, and that the check names it."""

import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from tests.data.making import numbers
from vwmm.config.schema import Modality
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.preprocess import load_input

pytestmark = pytest.mark.usefixtures("silence")

# Places of fields in a NIfTI-1 header.
PIXDIM, UNITS, CODES, QUATERN, SFORM = 76, 123, 252, 256, 280


def write(path: Path, edits: dict[int, tuple[str, Any]] | None = None, *, shape: tuple[int, ...] = (12, 10, 8)) -> Path:
    """A file of 0.5 x 0.5 x 2 mm with sform and qform, and fields of its header written over."""
    image = nibabel.Nifti1Image(numbers(*shape), np.diag([0.5, 0.5, 2, 1.0]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    for place, (kind, values) in (edits or {}).items():
        struct.pack_into(kind, content, place, *np.atleast_1d(values).tolist())
    path.write_bytes(content)
    return path


UNIT_SFORM = {SFORM: ("<12f", [1, 0, 0, -5, 0, 1, 0, -6, 0, 0, 1, -7])}


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 2)], ids=["qform", "no qform", "aligned"])
def test_an_sform_without_scale_gives_way_to_pixdim(codes: tuple[int, int], tmp_path: Path) -> None:
    found = read_image(write(tmp_path / "a.nii", {**UNIT_SFORM, CODES: ("<2h", codes)}))

    np.testing.assert_allclose(found.spacing_mm, [0.5, 0.5, 2])
    assert found.has_spacing
    (doubt,) = found.doubts
    assert doubt.startswith("the sform has voxels of 1 x 1 x 1, pixdim of 0.5 x 0.5 x 2: the sform has no scale, so")


def test_other_contradictions_of_size_take_the_sform_and_are_named(tmp_path: Path) -> None:
    found = read_image(write(tmp_path / "a.nii", {PIXDIM + 4: ("<3f", [0.7, 0.5, 2])}))

    np.testing.assert_allclose(found.spacing_mm, [0.5, 0.5, 2])
    assert found.doubts == ("the sform has voxels of 0.5 x 0.5 x 2, pixdim of 0.7 x 0.5 x 2: the sform was taken",)


def test_a_header_that_agrees_with_itself_is_not_doubted(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.nii")).doubts == ()
    assert read_image(write(tmp_path / "a.nii", {PIXDIM + 4: ("<3f", [0.5001, 0.5, 2])})).doubts == ()


@pytest.mark.parametrize(("codes", "is_named"), [((1, 1), True), ((1, 4), True)], ids=["the same code", "another code"])
def test_forms_that_mirror_each_other_are_named(codes: tuple[int, int], is_named: bool, tmp_path: Path) -> None:
    mirrored = {SFORM: ("<12f", [-0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 2, 0]), CODES: ("<2h", codes)}

    found = read_image(write(tmp_path / "a.nii", mirrored))

    assert found.doubts == ("sform (LAS) and qform (RAS) mirror each other: the sform was taken",)
    assert found.affine[0, 0] < 0


@pytest.mark.parametrize(("codes", "is_named"), [((1, 1), True), ((1, 4), False)])
def test_forms_that_point_elsewhere_are_named_where_they_are_of_one_space(
    codes: tuple[int, int], is_named: bool, tmp_path: Path
) -> None:
    turned = {SFORM: ("<12f", [0.48, 0.14, 0, 0, -0.14, 0.48, 0, 0, 0, 0, 2, 0]), CODES: ("<2h", codes)}

    assert any("point elsewhere" in doubt for doubt in read_image(write(tmp_path / "a.nii", turned)).doubts) == is_named


def test_a_file_with_neither_form_is_named_and_keeps_its_size(tmp_path: Path) -> None:
    found = read_image(write(tmp_path / "a.nii", {CODES: ("<2h", [0, 0])}))

    assert (found.has_spacing, found.has_orientation) == (True, False)
    assert found.doubts[0].startswith("neither sform nor qform is set")
    np.testing.assert_allclose(found.spacing_mm, [0.5, 0.5, 2])


@pytest.mark.parametrize("codes", [(1, 0), (0, 0)])
@pytest.mark.parametrize("sizes", [[0, 0, 0], [0.5, 0, 2]], ids=str)
def test_pixdim_of_0_says_no_size(codes: tuple[int, int], sizes: list[float], tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", {CODES: ("<2h", codes), PIXDIM + 4: ("<3f", sizes)})

    assert not read_image(path).has_spacing
    recipe = Modality(dims=3, size=[8, 8, 8], spacing_mm=[1, 1, 1])
    with pytest.raises(ImageError, match="the file has no voxel sizes"):
        load_input(path, recipe)


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_small_voxels_in_any_unit_are_not_singular(code: int, factor: float, tmp_path: Path) -> None:
    size_mm = 0.05
    small = np.float32(size_mm / factor)
    edits = {
        UNITS: ("<b", code), PIXDIM + 4: ("<3f", [small] * 3),
        SFORM: ("<12f", [small, 0, 0, 0, 0, small, 0, 0, 0, 0, small, 0]),
    }  # fmt: skip

    found = read_image(write(tmp_path / "a.nii", edits))

    np.testing.assert_allclose(found.spacing_mm, [size_mm] * 3, rtol=1e-6)
    assert found.doubts == ()


def test_what_was_taken_is_named_once_and_rightly(tmp_path: Path) -> None:
    edits = {SFORM: ("<12f", [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0]), CODES: ("<2h", [1, 1])}

    found = read_image(write(tmp_path / "a.nii", edits))

    np.testing.assert_allclose(found.affine[:3, :3], np.diag([0.5, 0.5, 2]))
    assert [doubt.rpartition(": ")[2] for doubt in found.doubts] == [
        "the sform has no scale, so pixdim was taken",
        "the qform was taken",
    ]


def test_voxels_of_a_metre_are_doubted(tmp_path: Path) -> None:
    assert (
        "the unit of length (metres) makes voxels of centimetres"
        in read_image(write(tmp_path / "a.nii", {UNITS: ("<b", 1)})).doubts
    )


# --- NRRD and MetaImage ----------------------------------------------------------------------------------------------


def nrrd(path: Path, *lines: str, voxels: np.ndarray | None = None) -> Path:
    voxels = numbers(6, 5, 4) if voxels is None else voxels
    kind = {"i2": "int16", "u2": "uint16", "u1": "uint8"}[voxels.dtype.str[1:]]
    sizes = " ".join(map(str, voxels.shape))
    head = [
        "NRRD0005",
        f"type: {kind}",
        f"dimension: {voxels.ndim}",
        f"sizes: {sizes}",
        "endian: little",
        "encoding: raw",
    ]
    path.write_bytes("\n".join([*head, *lines, "", ""]).encode() + voxels.tobytes(order="F"))
    return path


def metaimage(path: Path, *lines: str, voxels: np.ndarray | None = None) -> Path:
    voxels = numbers(6, 5, 4) if voxels is None else voxels
    sizes = " ".join(map(str, voxels.shape))
    head = ["ObjectType = Image", f"NDims = {voxels.ndim}", f"DimSize = {sizes}", "ElementType = MET_SHORT", *lines]
    path.write_bytes("\n".join([*head, "ElementDataFile = LOCAL", ""]).encode() + voxels.tobytes(order="F"))
    return path


AXES = "space directions: (0.05,0,0) (0,0.06,0) (0,0,0.2)"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["space: left-posterior-superior", AXES], (0.05, 0.06, 0.2)),
        (["space: left-posterior-superior", AXES, 'space units: "mm" "mm" "mm"'], (0.05, 0.06, 0.2)),
        (["space: left-posterior-superior", AXES, 'space units: "cm" "cm" "cm"'], (0.5, 0.6, 2.0)),
        (["space: left-posterior-superior", AXES, 'space units: "microns" "um" "µm"'], (5e-5, 6e-5, 2e-4)),
        (["spacings: 0.5 0.6 2", 'units: "cm" "mm" "m"'], (5.0, 0.6, 2000.0)),
    ],
)  # fmt: skip
def test_the_units_of_a_nrrd_are_obeyed(lines: list[str], expected: tuple[float, ...], tmp_path: Path) -> None:
    found = read_image(nrrd(tmp_path / "a.nrrd", *lines))

    np.testing.assert_allclose(found.spacing_mm, expected)
    assert found.has_spacing


@pytest.mark.parametrize(
    ("lines", "doubt"),
    [
        ([], "has no axis directions"),
        (["spacings: 1 nan 2"], "has no axis directions"),
        (["space: left-posterior-superior", AXES, 'space units: "pixels" "mm" "mm"'], "'pixels', which is no length"),
    ],
)
def test_a_nrrd_without_a_size_is_not_taken_for_1_mm(lines: list[str], doubt: str, tmp_path: Path) -> None:
    found = read_image(nrrd(tmp_path / "a.nrrd", *lines))

    assert not found.has_spacing
    assert doubt in " ".join(found.doubts)


MATRIX = "TransformMatrix = 1 0 0 0 1 0 0 0 1"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([MATRIX, "ElementSpacing = 0.5 0.6 2"], (0.5, 0.6, 2.0)),
        ([MATRIX, "ElementSize = 0.5 0.6 2"], (0.5, 0.6, 2.0)),
        ([MATRIX, "DistanceUnits = cm", "ElementSpacing = 0.5 0.6 2"], (5.0, 6.0, 20.0)),
        ([MATRIX, "DistanceUnits = um", "ElementSpacing = 500 600 2000"], (0.5, 0.6, 2.0)),
        ([MATRIX, "DistanceUnits = ?", "ElementSpacing = 0.5 0.6 2"], (0.5, 0.6, 2.0)),
        ([MATRIX], None),
        ([MATRIX, "DistanceUnits = furlong", "ElementSpacing = 0.5 0.6 2"], None),
    ],
)
def test_the_units_of_a_metaimage_are_obeyed(
    lines: list[str], expected: tuple[float, ...] | None, tmp_path: Path
) -> None:
    found = read_image(metaimage(tmp_path / "a.mha", *lines))

    assert found.has_spacing == (expected is not None)
    if expected is not None:
        np.testing.assert_allclose(found.spacing_mm, expected)


def test_quantized_nrrd_and_scaled_metaimage_have_their_own_values(tmp_path: Path) -> None:
    """dcm2niix keeps a CT's intercept in `oldmin`; MetaIO has a slope and an offset."""
    stored = (numbers(6, 5, 4) + 500).astype(np.uint16)
    byte = (stored % 256).astype(np.uint8)

    ct = read_image(nrrd(tmp_path / "a.nrrd", "oldmin: -1024.0", "oldmax: 64511.0", voxels=stored))
    unknown = read_image(nrrd(tmp_path / "c.nrrd", "oldmin: nan", "old max: nan", voxels=stored))
    mapped = read_image(nrrd(tmp_path / "b.nrrd", "old min: 0", "old max: 1", voxels=byte))
    lines = ["ElementToIntensityFunctionSlope = 0.5", "ElementToIntensityFunctionOffset = -3"]
    scaled = read_image(metaimage(tmp_path / "a.mha", *lines))

    np.testing.assert_array_equal(ct.voxels, stored.astype(np.float32) - 1024)
    np.testing.assert_array_equal(unknown.voxels, stored)
    np.testing.assert_allclose(mapped.voxels, byte / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(scaled.voxels, numbers(6, 5, 4) * 0.5 - 3)


def test_an_axis_of_time_is_no_slice(tmp_path: Path) -> None:
    for lines in (["kinds: domain domain time"], ["space: left-posterior-superior-time"]):
        with pytest.raises(ImageError, match="an axis of the NRRD is time"):
            read_image(nrrd(tmp_path / "a.nrrd", *lines))


def test_a_detached_header_is_read_by_either_suffix(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(numbers(6, 5, 4).T)
    sitk.WriteImage(image, str(tmp_path / "a.nhdr"))
    (tmp_path / "b.nrrd").write_bytes((tmp_path / "a.nhdr").read_bytes())

    np.testing.assert_array_equal(read_image(tmp_path / "a.nhdr").voxels, numbers(6, 5, 4))
    np.testing.assert_array_equal(read_image(tmp_path / "b.nrrd").voxels, numbers(6, 5, 4))


# --- slices of two axes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["nii", "nrrd", "mha"])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_a_file_of_two_axes_is_turned_as_a_volume_of_that_slice(suffix: str, orientation: str, tmp_path: Path) -> None:
    plane = numbers(12, 10)
    for name, array in (("two", plane.T), ("three", plane.T[None])):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([0.5, 0.75, 1.0][: array.ndim])
        sitk.WriteImage(image, str(tmp_path / f"{name}.{suffix}"))
    recipe = Modality(dims=2, size=[12, 10], orientation=orientation, intensity="none")

    two, three = (load_input(tmp_path / f"{name}.{suffix}", recipe) for name in ("two", "three"))

    np.testing.assert_array_equal(two, three)
