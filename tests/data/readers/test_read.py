"""Image files of every format: voxels and geometry as other libraries see them, and damage said in one line."""

import gzip
import importlib.util
import io
import logging
import os
import pickle
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from isal import igzip
from PIL import Image as Pillow

from tests.data.making import OBLIQUE, numbers, write_dicom, write_nifti
from tests.data.making_dicom import itk_affine
from vwmm.data.readers import image, metaimage, nifti
from vwmm.data.readers.image import KEPT_DTYPES
from vwmm.data.readers.read import ImageError, check_header, format_of, read_image

pytestmark = pytest.mark.usefixtures("silence")


@pytest.fixture(params=["isal", "standard"])
def gunzip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries that may unpack a gzip."""
    monkeypatch.setattr(nifti, "gzip", {"isal": igzip, "standard": gzip}[request.param])


def refusal(path: Path, function: Callable[[Path], Any] = read_image) -> str:
    """Why a file is refused: one line, without a path or an address."""
    with pytest.raises(ImageError) as caught:
        function(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path.parent) not in text
    assert "0x" not in text
    assert len(text) < 250
    return text


def refusals(path: Path) -> set[str]:
    """The same from the header alone and from the whole file."""
    return {refusal(path, check_header), refusal(path)}


def monai_image(path: Path, **options: Any) -> Any:
    from monai.transforms import LoadImage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LoadImage(image_only=True, **options)(path)


# --- NIfTI ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gunzip")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.float32])
def test_nifti_is_read_as_monai_reads_it_bit_for_bit(suffix: str, dtype: type, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", (numbers(20, 30, 10) / 3).astype(dtype))
    expected = monai_image(path)
    if suffix.lower().endswith(".gz"):
        path = tmp_path / f"b{suffix}"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))

    found = read_image(path)

    assert (found.voxels.shape, found.unit) == ((20, 30, 10), "unknown")
    assert found.voxels.dtype in KEPT_DTYPES
    assert found.voxels.flags.f_contiguous
    assert found.voxels.astype(np.float32).tobytes() == np.ascontiguousarray(expected.numpy()).tobytes()
    np.testing.assert_array_equal(found.affine, expected.affine.numpy())
    assert check_header(path) == (20, 30, 10)
    np.testing.assert_allclose(found.spacing_mm, np.linalg.norm(OBLIQUE[:3, :3], axis=0), rtol=1e-6)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_scaled_and_swapped_and_nifti2_voxels(kind: Any, order: str, tmp_path: Path) -> None:
    source = kind(numbers(5, 6, 7), OBLIQUE, kind.header_class(endianness=order))
    source.header.set_slope_inter(0.1, -3.7)
    nibabel.save(source, tmp_path / "a.nii.gz")

    found = read_image(tmp_path / "a.nii.gz")

    expected = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found.voxels, np.asanyarray(expected.dataobj).astype(np.float32))
    np.testing.assert_array_equal(found.affine, expected.affine)


@pytest.mark.parametrize("name", ["example4d.nii.gz", "example_nifti2.nii.gz", "anatomical.nii", "standard.nii.gz"])
def test_files_of_other_makers_read_as_nibabel_reads_them(name: str, tmp_path: Path) -> None:
    path = Path(nibabel.__file__).parent / "tests" / "data" / name
    expected = nibabel.load(path)
    if expected.ndim == 4:
        assert "expected 2 or 3 dimensions, found 4" in refusal(path)
        return

    found = read_image(path)

    np.testing.assert_array_equal(found.voxels, np.asanyarray(expected.dataobj).astype(np.float32))
    np.testing.assert_array_equal(found.affine, expected.affine)


@pytest.mark.parametrize(
    ("shape", "expected"), [((5, 6, 7, 1), (5, 6, 7)), ((5, 6, 1, 1, 1), (5, 6, 1)), ((5, 6), (5, 6))]
)
def test_trailing_single_axes_are_dropped(shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", numbers(*shape))

    assert check_header(path) == read_image(path).voxels.shape == expected


@pytest.mark.parametrize("shape", [(5, 6, 7, 2), (5, 6, 1, 4), (5, 6, 7, 1, 3), (9,)])
def test_a_time_series_or_a_line_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", numbers(*shape))

    (message,) = refusals(path)

    assert message.startswith(f"expected 2 or 3 dimensions, found {len(shape)}")


@pytest.mark.usefixtures("gunzip")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0002, 0.02, 0.3, 0.9, 0.999, 0.9999])
def test_a_truncated_file_is_found_from_its_header(suffix: str, share: float, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", numbers(20, 30, 20))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    for message in refusals(path):
        assert message.startswith("the file is truncated") or (share < 0.02 and "not a NIfTI file" in message)


@pytest.mark.usefixtures("gunzip")
@pytest.mark.parametrize("cut", range(1, 12))
def test_truncated_gzip_is_found_from_its_header(cut: int, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", numbers(8, 9, 10))
    path.write_bytes(path.read_bytes()[:-cut])

    assert refusals(path) == {"the file is truncated: it ends before its data do"}


@pytest.mark.usefixtures("gunzip")
def test_a_flipped_bit_in_a_gzip_is_found_on_reading(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", numbers(8, 9, 10))
    content = path.read_bytes()

    for place in range(30, len(content), 97):
        damaged = bytearray(content)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        refusal(path)


def test_both_libraries_say_the_same_of_damaged_gzips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", numbers(8, 9, 10))
    content = path.read_bytes()
    flipped = [content[:-place] + bytes([content[-place] ^ 4]) + content[1 - place :] for place in (2, 8, 500)]
    damaged = [
        *flipped,
        content + b"garbage at the end",
        content[:-5],
        content[: len(content) // 2],
        b"x" + content[1:],
    ]

    def messages(library: Any) -> list[str]:
        monkeypatch.setattr(nifti, "gzip", library)
        return [refusal(path) for raw in damaged if path.write_bytes(raw)]

    assert messages(igzip) == messages(gzip)


def test_without_isal_the_standard_library_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    spec = importlib.util.find_spec("vwmm.data.readers.nifti")
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(again)

    assert again.gzip is gzip
    voxels = again.read_nifti(write_nifti(tmp_path / "a.nii.gz", numbers(8, 9, 10))).voxels
    np.testing.assert_array_equal(voxels, numbers(8, 9, 10))


def bgzip(content: bytes, *, end: bytes = nifti.BGZF_END) -> bytes:
    """Members of 1000 bytes with BGZF's extra field."""
    members = []
    for start in range(0, len(content), 1000):
        raw = gzip.compress(content[start : start + 1000])
        size = len(raw) + 8 - 1
        members.append(raw[:3] + b"\x04" + raw[4:10] + struct.pack("<H2sHH", 6, b"BC", 2, size) + raw[10:])
    return b"".join(members) + end


@pytest.mark.usefixtures("gunzip")
@pytest.mark.parametrize("kind", ["bgzip", "bgzip without its end", "two members", "trailing bytes"])
def test_gzips_of_several_members_are_read(kind: str, tmp_path: Path) -> None:
    content = write_nifti(tmp_path / "a.nii", numbers(8, 9, 10)).read_bytes()
    path = tmp_path / "b.nii.gz"
    packed = {
        "bgzip": bgzip(content),
        "bgzip without its end": bgzip(content, end=b""),
        "two members": gzip.compress(content[:700]) + gzip.compress(content[700:]),
        "trailing bytes": gzip.compress(content + b"\0" * 1000),
    }
    path.write_bytes(packed[kind])

    np.testing.assert_array_equal(read_image(path).voxels, numbers(8, 9, 10))
    assert check_header(path) == (8, 9, 10)
    if kind in ("bgzip", "two members"):
        path.write_bytes(path.read_bytes()[:-100])
        assert "truncated" in refusal(path)
        assert "truncated" in refusal(path, check_header)


def with_header(path: Path, shape: tuple[int, ...], content: bytes, **fields: Any) -> Path:
    """A NIfTI whose header says what it likes; content is what follows it."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((1,) * len(shape))
    header["dim"][1 : 1 + len(shape)] = shape
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    raw = header.binaryblock + b"\0" * 4 + content
    path.write_bytes(gzip.compress(raw, 1) if path.suffix == ".gz" else raw)
    return path


def test_voxels_at_an_odd_place_are_aligned(tmp_path: Path) -> None:
    path = with_header(tmp_path / "a.nii", (8, 9, 10), b"\0" + numbers(8, 9, 10).tobytes(order="F"), vox_offset=353)

    found = read_image(path)

    assert found.voxels.flags.aligned
    np.testing.assert_array_equal(found.voxels, numbers(8, 9, 10))


class Counting(io.BytesIO):
    """Bytes that count how many of them were read."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        Counting.total += len(content)
        return content


def test_a_header_of_too_many_voxels_is_refused_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_header(tmp_path / "a.nii.gz", (2000, 2000, 2000), b"\0" * 10**7)
    content = gzip.decompress(path.read_bytes())
    monkeypatch.setattr(nifti.gzip, "open", lambda _: Counting(content))
    Counting.total = 0

    assert refusals(path) == {"2000 x 2000 x 2000 voxels are more than 1,073,741,824: the header is probably damaged"}
    assert Counting.total < 10_000


@pytest.mark.usefixtures("gunzip")
def test_no_more_is_unpacked_than_the_header_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_header(tmp_path / "a.nii.gz", (10, 10, 10), b"\1" * 2_000 + b"\0" * 2**25)
    content = gzip.decompress(path.read_bytes())

    assert refusals(path) == {"the file has more than the 2,352 bytes that its header declares: one of them is damaged"}

    monkeypatch.setattr(nifti.gzip, "open", lambda _: Counting(content))
    for function in (check_header, read_image):
        Counting.total = 0
        refusal(path, function)
        assert Counting.total < 3 * nifti.SLACK


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"srow_x": [np.nan, 0, 0, 0], "sform_code": 1}, "the affine is not finite (NaN or infinite)"),
        ({"srow_x": [0, 0, 0, 0], "sform_code": 1}, "the affine is singular: an axis has no direction, or no length"),
        ({"datatype": 128, "bitpix": 24}, "the voxels are colours (RGB); expected one number per voxel"),
        ({"datatype": 32, "bitpix": 64}, "expected one real number per voxel, found dtype complex64"),
        ({"datatype": 1000}, "the NIfTI header is damaged: data code 1000 not recognized"),
        ({"vox_offset": np.nan}, "the NIfTI header is damaged: the voxels would begin at byte nan"),
        ({"vox_offset": 1e6}, "the file is truncated: 2,352 bytes of header and voxels, expected 1,002,000"),
        ({"dim": [3, 10, 0, 10, 1, 1, 1, 1]}, "the image has no voxels (10 x 0 x 10)"),
        ({"dim": [3, 10, -5, 10, 1, 1, 1, 1]}, "the image has no voxels (10 x -5 x 10)"),
        ({"magic": b"xyz"}, "this is not a NIfTI file, despite its name"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_damaged_header_is_explained(fields: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = with_header(tmp_path / "a.nii", (10, 10, 10), numbers(10, 10, 10).tobytes(), **fields)

    assert refusals(path) == {expected}


@pytest.mark.parametrize(("code", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_lengths_in_other_units_become_millimetres(code: str, factor: float, tmp_path: Path) -> None:
    source = nibabel.Nifti1Image(numbers(8, 6, 4), OBLIQUE)
    source.header.set_xyzt_units(code, "sec")
    nibabel.save(source, tmp_path / "a.nii")

    found = read_image(tmp_path / "a.nii")

    np.testing.assert_allclose(found.affine, np.diag([factor, factor, factor, 1]) @ OBLIQUE, rtol=1e-6)
    expected = sitk.ReadImage(str(tmp_path / "a.nii")).GetSpacing()
    np.testing.assert_allclose(found.spacing_mm, expected, rtol=1e-5)


def test_small_faults_that_nibabel_mends_are_mended_silently(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = with_header(
        tmp_path / "a.nii", (10, 10, 10), numbers(10, 10, 10).tobytes(), pixdim=[5, -1, 1, 1, 0, 0, 0, 0]
    )
    logging.getLogger("nibabel.global").disabled = False

    assert read_image(path).voxels.shape == (10, 10, 10)
    assert caplog.text == ""


# --- NRRD and MetaImage --------------------------------------------------------------------------------------------


def itk_image() -> sitk.Image:
    source = sitk.GetImageFromArray(numbers(4, 6, 8))
    source.SetSpacing((0.5, 0.75, 3.0))
    source.SetOrigin((5, -6, 7))
    source.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    return source


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd", "A.MHA"])
@pytest.mark.parametrize("compressed", [False, True])
def test_nrrd_and_metaimage_keep_voxels_and_geometry(name: str, compressed: bool, tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(), str(tmp_path / name.lower()), useCompression=compressed)
    (tmp_path / name.lower()).rename(tmp_path / name)

    found = read_image(tmp_path / name)

    np.testing.assert_array_equal(found.voxels, numbers(4, 6, 8).T)
    np.testing.assert_allclose(found.affine, itk_affine(itk_image()), atol=1e-9)
    assert check_header(tmp_path / name) == (8, 6, 4)


def test_the_axes_of_every_format_are_the_same(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(numbers(4, 6, 8).T, itk_affine(itk_image())), tmp_path / "a.nii.gz")
    sitk.WriteImage(itk_image(), str(tmp_path / "a.nrrd"))

    one, other = read_image(tmp_path / "a.nii.gz"), read_image(tmp_path / "a.nrrd")

    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)


MHD = "ObjectType = Image\nNDims = 3\nDimSize = 8 6 4\nElementType = MET_SHORT\nElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 8 6 4\nencoding: raw\nendian: little\n{}: {}\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder `inner` with voxels in it, outside it, and linked into it."""
    (tmp_path / "inner").mkdir()
    for path in (tmp_path / "out.raw", tmp_path / "inner" / "in.raw"):
        path.write_bytes(numbers(4, 6, 8).tobytes())
    (tmp_path / "inner" / "link.raw").symlink_to(tmp_path / "out.raw")
    (tmp_path / "inner" / "sub").symlink_to(tmp_path)
    return tmp_path / "inner"


@pytest.mark.parametrize("kind", ["mhd", "mha", "data file", "datafile", "Data File"])
@pytest.mark.parametrize(
    "target",
    ["in.raw", "../out.raw", "ABSOLUTE", "link.raw", "sub/out.raw", "./../out.raw", "LIST", "%d.raw 1 4 1", ""],
)
def test_a_header_may_name_a_data_file_beside_it_only(kind: str, target: str, raw: Path) -> None:
    text = target.replace("ABSOLUTE", str(raw.parent / "out.raw"))
    path = raw / (f"a.{kind}" if kind in ("mhd", "mha") else "a.nrrd")
    path.write_text(MHD.format(text) if kind in ("mhd", "mha") else NRRD.format(kind, text))

    if target == "in.raw":
        np.testing.assert_array_equal(read_image(path).voxels, numbers(4, 6, 8).T)
        return
    with pytest.raises(ImageError, match=r"expected one file in the header's own folder|needs one line"):
        read_image(path)
    with pytest.raises(ImageError, match=r"expected one file in the header's own folder|needs one line"):
        check_header(path)


@pytest.mark.parametrize(
    "text", [MHD.partition("ElementDataFile")[0], "Comment = " + "x" * 70_000 + MHD.format("LOCAL")]
)
def test_a_metaimage_without_its_last_line_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text(text)

    assert refusals(tmp_path / "a.mha") == {"this is not a MetaImage file: it needs a line `ElementDataFile = ...`"}


@pytest.mark.parametrize("kind", ["MET_CHAR", "MET_USHORT", "MET_INT", "MET_FLOAT", "MET_DOUBLE"])
@pytest.mark.parametrize("swapped", [False, True])
def test_metaimages_of_other_makers_read_as_itk_reads_them(kind: str, swapped: bool, tmp_path: Path) -> None:
    dtype = np.dtype(metaimage.ELEMENT_TYPES[kind]).newbyteorder(">" if swapped else "<")
    (tmp_path / "a.raw").write_bytes(b"12345" + numbers(4, 6, 8).astype(dtype).tobytes())
    (tmp_path / "a.mhd").write_text(
        MHD.format("a.raw")
        .replace("ElementType = MET_SHORT", f"ElementType = {kind}\nHeaderSize = -1\nElementByteOrderMSB = {swapped}")
        .replace("DimSize", "Position = 1 2 3\nRotation = 0 -1 0 0.6 0 0.8 -0.8 0 0.6\nElementSpacing = 1 2 3\nDimSize")
    )

    found = read_image(tmp_path / "a.mhd")

    expected = sitk.ReadImage(str(tmp_path / "a.mhd"))
    np.testing.assert_array_equal(found.voxels, sitk.GetArrayFromImage(expected).T.astype(np.float32))
    np.testing.assert_allclose(found.affine, itk_affine(expected), atol=1e-9)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_and_damaged_voxels_are_found(name: str, compressed: bool, tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(), str(tmp_path / name), useCompression=compressed)
    data = next((path for path in tmp_path.iterdir() if "raw" in path.suffix), tmp_path / name)
    content = data.read_bytes()

    for cut in (10, 100, *([2] if compressed else [])):  # 2: in the checksum
        data.write_bytes(content[:-cut])
        refusal(tmp_path / name)
    if compressed:
        data.write_bytes(content[:-50] + bytes([content[-50] ^ 4]) + content[-49:])
        refusal(tmp_path / name)


def test_metaimage_that_unpacks_to_more_than_declared_is_refused(tmp_path: Path) -> None:
    text = MHD.format("LOCAL").replace("DimSize", "CompressedData = True\nDimSize")
    (tmp_path / "a.mha").write_bytes(text.encode() + zlib.compress(b"\0" * 2**26))

    assert refusal(tmp_path / "a.mha") == "the voxels unpack to more than the 384 bytes that the header declares"


def test_a_data_file_that_is_not_there_is_named(raw: Path) -> None:
    (raw / "a.mhd").write_text(MHD.format("gone.raw"))

    assert refusals(raw / "a.mhd") == {"its voxels are in 'gone.raw', which is not there"}


def test_vectors_and_complex_voxels_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(numbers(4, 6, 8, 3), isVector=True), str(tmp_path / "a.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(numbers(4, 6, 8).astype(np.complex64)), str(tmp_path / "b.mha"))

    assert refusals(tmp_path / "a.nrrd") == {"the voxels are colours or vectors; expected one number per voxel"}
    assert refusal(tmp_path / "b.mha").startswith(("the voxels are complex", "the voxels are colours"))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_headers_of_too_many_voxels_are_refused(name: str, tmp_path: Path) -> None:
    text = NRRD.replace("8 6 4", "2000 2000 2000").format("# x", "") if name == "a.nrrd" else (
        MHD.replace("8 6 4", "2000 2000 2000").format("LOCAL")
    )  # fmt: skip
    (tmp_path / name).write_bytes(text.encode() + b"\n" + b"\0" * 1000)

    assert refusals(tmp_path / name) == {
        "2000 x 2000 x 2000 voxels are more than 1,073,741,824: the header is probably damaged"
    }


# --- pictures and arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.PNG"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_is_columns_by_rows(name: str, dtype: type, tmp_path: Path) -> None:
    pixels: np.ndarray = numbers(20, 30).clip(0).astype(dtype)
    Pillow.fromarray(pixels).save(tmp_path / name)

    found = read_image(tmp_path / name)

    assert found.voxels.shape == check_header(tmp_path / name) == (30, 20)
    np.testing.assert_array_equal(found.voxels, pixels.T)
    np.testing.assert_array_equal(found.affine, np.eye(4))
    if name == "a.png":
        np.testing.assert_array_equal(found.voxels, monai_image(tmp_path / name).numpy())


def test_a_jpeg_and_a_float_tiff_are_read(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(20), np.arange(30)).astype(np.uint8)
    Pillow.fromarray(smooth).save(tmp_path / "a.jpg", quality=100)
    Pillow.fromarray(smooth.astype(np.float32) / 7).save(tmp_path / "a.tif")

    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").voxels, smooth.T, atol=3)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").voxels, smooth.T.astype(np.float32) / 7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_colours_become_grey(mode: str, tmp_path: Path) -> None:
    picture = Pillow.fromarray(numbers(20, 30, 3).astype(np.uint8), "RGB").convert(mode)
    picture.save(tmp_path / "a.png")

    found = read_image(tmp_path / "a.png")

    assert found.voxels.shape == (30, 20)
    np.testing.assert_array_equal(found.voxels, np.asarray(picture.convert("L")).T)


def test_a_stack_of_pages_is_refused(tmp_path: Path) -> None:
    pages = [Pillow.fromarray(numbers(20, 30, seed=n).astype(np.uint8)) for n in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    assert refusals(tmp_path / "a.tif") == {"the file has 3 pages; expected one picture"}


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pillow.fromarray(numbers(200, 300).astype(np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(image, "MAX_VOXELS", 1000)

    assert refusals(tmp_path / "a.png") == {"300 x 200 voxels are more than 1,000: the header is probably damaged"}


def test_a_large_picture_gives_no_warning(tmp_path: Path) -> None:
    Pillow.new("1", (11_000, 10_000)).save(tmp_path / "a.png")

    assert check_header(tmp_path / "a.png") == (11_000, 10_000)


def test_postscript_is_no_picture_whatever_its_name(tmp_path: Path) -> None:
    """Another program would be started for it."""
    Pillow.fromarray(numbers(20, 30).astype(np.uint8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")

    assert refusals(tmp_path / "a.png") == {"this is not a PNG, JPEG or TIFF file, despite its name"}


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.bool_, np.float16, ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read(dtype: Any, order: Any, tmp_path: Path) -> None:
    array = np.array(numbers(8, 6, 4) % 97, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)

    found = read_image(tmp_path / "a.npy")

    np.testing.assert_array_equal(found.voxels, array.astype(np.float32))
    assert check_header(tmp_path / "a.npy") == (8, 6, 4)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_an_array_of_objects_or_a_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    np.save(tmp_path / "a.npy", np.array([[Canary(canary), 1], [2, 3]], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Canary(canary)))
    np.savez(tmp_path / "c.npz", a=numbers(8, 6))
    (tmp_path / "c.npz").rename(tmp_path / "c.npy")

    for name in ("a.npy", "b.npy", "c.npy"):
        (message,) = refusals(tmp_path / name)
        assert message.startswith("cannot be read as array: ")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((3, 3), np.complex64), "expected one real number per voxel, found dtype complex64"),
        (np.zeros((3, 3), "U3"), "expected one real number per voxel, found dtype <U3"),
        (np.zeros((3, 3), [("r", "u1"), ("g", "u1")]), "the voxels are colours (RGB); expected one number per voxel"),
        (np.zeros(9), "expected 2 or 3 dimensions, found 1 (9)"),
    ],
    ids=["complex", "text", "fields", "line"],
)
def test_arrays_that_are_no_images_are_refused(array: np.ndarray, expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)

    assert refusals(tmp_path / "a.npy") == {expected}


# --- every format --------------------------------------------------------------------------------------------------


def damaged_values(value: float) -> np.ndarray:
    voxels = numbers(8, 6, 4).astype(np.float64)
    voxels[1, 2, 3] = value
    return voxels


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy", "a.mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_refused(name: str, value: float, tmp_path: Path) -> None:
    if name == "a.npy":
        np.save(tmp_path / name, damaged_values(value))
    elif name == "a.mha":
        sitk.WriteImage(sitk.GetImageFromArray(damaged_values(value)), str(tmp_path / name))
    else:
        write_nifti(tmp_path / name, damaged_values(value))

    assert refusal(tmp_path / name) == "1 of 192 voxels are not finite (NaN or infinite)"


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((8, 6), 7))

    assert refusal(tmp_path / "a.npy") == "every voxel has the same value (7): this image is empty"


NAMES = ["a.nii", "a.nii.gz", "a.dcm", "a", "a.nrrd", "a.mha", "a.mhd", "a.png", "a.jpg", "a.tif", "a.npy"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_empty_or_something_else_is_explained(name: str, tmp_path: Path) -> None:
    path = tmp_path / name

    assert refusals(path) == {"file not found"}
    path.write_bytes(b"")
    assert refusals(path) == {"the file is empty (0 bytes)"}
    path.write_text("Dear colleague,\n\nplease find attached\n")
    assert all("not a" in text or "cannot be read as" in text for text in refusals(path))


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.nii.zip", "a.hdr", "a.docx"])
def test_an_unknown_suffix_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / name, format_of)

    assert message.startswith(
        f"unknown format '{Path(name).suffix}'; known are .nii, .nii.gz, .dcm, .nrrd, .nhdr, .mha, .mhd, .png"
    )


@pytest.mark.usefixtures("gunzip")
@pytest.mark.parametrize("name", NAMES)
def test_flipped_and_lost_bytes_never_give_anything_but_an_image_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name in ("a.nii", "a.nii.gz"):
        write_nifti(path, numbers(8, 6, 4))
    elif name in ("a.dcm", "a"):
        write_dicom(path, numbers(8, 6).clip(0))
    elif name in ("a.nrrd", "a.mha", "a.mhd"):
        sitk.WriteImage(itk_image(), str(path))
    elif name == "a.npy":
        np.save(path, numbers(8, 6))
    else:
        Pillow.fromarray(numbers(8, 6).astype(np.uint8)).save(path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)

    for _ in range(60):
        damaged = bytearray(content)
        for place in generator.integers(0, min(len(content), 600), 3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged[: generator.integers(1, len(content) + 1)])
        for function in (check_header, read_image):
            try:
                function(path)
            except ImageError as error:
                text = str(error)
            else:
                text = ""
            assert "\n" not in text


@pytest.mark.parametrize("name", [*NAMES, "a.xyz"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    assert refusals(tmp_path / name) == {"neither a file nor a folder"}


def test_what_a_damaged_header_computes_to_gives_no_warning(tmp_path: Path) -> None:
    text = MHD.format("LOCAL").replace("DimSize", "ElementSpacing = inf 0 1e300\nDimSize")
    (tmp_path / "a.mha").write_bytes(text.encode() + numbers(4, 6, 8).tobytes())

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert refusals(tmp_path / "a.mha") == {"the affine is not finite (NaN or infinite)"}
    assert not seen
