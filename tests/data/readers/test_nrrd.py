"""NRRD files of every kind, as SimpleITK reads them; and headers that end its process, refused in words."""

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from tests.data.making import numbers
from tests.data.readers.test_read import itk_affine, refusal, refusals
from vwmm.data.readers.read import check_header, read_image

DIRECTIONS = "space directions: (0,0.5,0) (-0.6,0,0.8) (2.4,0,1.8)\nspace origin: (5,-6,7)"
GEOMETRY = f"space: left-posterior-superior\n{DIRECTIONS}"


def write(path: Path, content: bytes, **fields: str) -> Path:
    """A NRRD of 8 x 6 x 4 voxels of int16; `geometry` is one line or several, an empty field is left out."""
    lines = {"type": "int16", "dimension": "3", "sizes": "8 6 4", "encoding": "raw", "endian": "little"}
    geometry = fields.pop("geometry", GEOMETRY)
    lines |= {name.replace("_", " "): value for name, value in fields.items()}
    text = "".join(f"{name}: {value}\n" for name, value in lines.items() if value)
    path.write_bytes(f"NRRD0005\n# a comment\n{text}{geometry}\nkey:=value\n\n".encode() + content)
    return path


def raw(dtype: str = "<i2") -> bytes:
    return numbers(4, 6, 8).astype(dtype).tobytes()


def assert_same_as_itk(path: Path) -> None:
    found, expected = read_image(path), sitk.ReadImage(str(path), imageIO="NrrdImageIO")
    voxels = sitk.GetArrayFromImage(expected).T.astype(np.float32)
    assert check_header(path) == voxels.shape
    np.testing.assert_array_equal(found.voxels, voxels)
    if voxels.ndim == 3:
        np.testing.assert_allclose(found.affine, itk_affine(expected), atol=1e-9)


@pytest.mark.parametrize(
    "geometry",
    [
        "space: left-posterior-superior",
        "space: LPS",
        "space: right-anterior-superior",
        "space: RAS",
        "space: left-anterior-superior",
        "space: scanner-xyz",
        "space dimension: 3",
    ],
)
def test_each_space_is_turned_as_itk_turns_it(geometry: str, tmp_path: Path) -> None:
    assert_same_as_itk(write(tmp_path / "a.nrrd", raw(), geometry=f"{geometry}\n{DIRECTIONS}"))


@pytest.mark.parametrize("geometry", ["spacings: 0.5 0.75 3", "centers: cell cell cell", 'units: "mm" "mm" "mm"'])
def test_files_without_directions(geometry: str, tmp_path: Path) -> None:
    assert_same_as_itk(write(tmp_path / "a.nrrd", raw(), geometry=geometry))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("signed char", "i1"),
        ("uchar", "u1"),
        ("unsigned short int", "u2"),
        ("int", "i4"),
        ("uint32", "u4"),
        ("int64", "i8"),
        ("float", "f4"),
        ("double", "f8"),
    ],
)
@pytest.mark.parametrize("endian", ["little", "big"])
def test_types_and_orders_of_bytes(name: str, dtype: str, endian: str, tmp_path: Path) -> None:
    content = raw((">" if endian == "big" else "<") + dtype)

    assert_same_as_itk(write(tmp_path / "a.nrrd", content, type=name, endian=endian))


TEXT = " ".join(str(number) for number in numbers(4, 6, 8).ravel())


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (gzip.compress(raw()), {"encoding": "gz"}),
        (gzip.compress(raw()[:100]) + gzip.compress(raw()[100:]), {"encoding": "gzip"}),
        (gzip.compress(b"12345" + raw()), {"encoding": "gzip", "byte_skip": "5"}),
        (raw().hex().encode(), {"encoding": "hex"}),
        (TEXT.encode(), {"encoding": "ascii", "endian": ""}),
        (b"12345" + raw(), {"byte_skip": "5"}),
        (b"12345" + raw(), {"byte_skip": "-1"}),
        (b"one\ntwo\n12" + raw(), {"line_skip": "2", "byte_skip": "2"}),
        (raw("i1"), {"type": "int8", "endian": ""}),
        (raw(), {"sizes": "8 24", "dimension": "2", "geometry": "spacings: 1 2"}),
        (raw(), {"kinds": "domain domain domain"}),
    ],
    ids=["gz", "members", "skip in gzip", "hex", "text", "bytes", "end", "lines", "one byte", "flat", "kinds"],
)
def test_encodings_and_what_is_skipped(content: bytes, fields: dict[str, str], tmp_path: Path) -> None:
    assert_same_as_itk(write(tmp_path / "a.nrrd", content, **fields))


def test_bzip2_which_itk_cannot_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", bz2.compress(raw()), encoding="bzip2")

    np.testing.assert_array_equal(read_image(path).voxels, numbers(4, 6, 8).T)
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path) == "the file is truncated: it ends before its data do"


def test_an_axis_of_one_colour_is_none(tmp_path: Path) -> None:
    geometry = "space: left-posterior-superior\nspace directions: none (0,0.5,0) (-0.6,0,0.8) (2.4,0,1.8)"
    path = write(
        tmp_path / "a.nrrd", raw(), sizes="1 8 6 4", dimension="4", kinds="stub domain domain domain", geometry=geometry
    )

    assert_same_as_itk(path)


def test_a_slice_within_a_patient(tmp_path: Path) -> None:
    geometry = "space: left-posterior-superior\nspace directions: (0,0.5,0) (-0.6,0,0.8)\nspace origin: (5,-6,7)"

    found = read_image(write(tmp_path / "a.nrrd", raw(), sizes="8 24", dimension="2", geometry=geometry))

    expected = np.array([[0, 0.6, -0.8, -5], [-0.5, 0, 0, 6], [0, 0.8, 0.6, 7], [0, 0, 0, 1]])
    np.testing.assert_allclose(found.affine, expected, atol=1e-12)


@pytest.mark.parametrize("field", ["type", "endian", "encoding", "kinds", "space", "units"])
def test_an_unknown_word_is_refused_or_passed_over(field: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", raw(), geometry=DIRECTIONS, **{field: "x" * 60})

    if field in ("space", "units"):
        assert read_image(path).voxels.shape == (8, 6, 4)
    else:
        assert len(refusals(path)) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sizes": "8 6"}, "the NRRD header is damaged: the number of `sizes` differs from `dimension`"),
        ({"sizes": "8 -6 4"}, "the NRRD header is damaged: the number of `sizes` differs from `dimension`"),
        ({"sizes": "8 0 4"}, "the image has no voxels (8 x 0 x 4)"),
        ({"sizes": "800 600 400"}, "the file is truncated: 384 bytes of voxels, expected 384,000,000"),
        ({"type": "block"}, "expected type to be one number per voxel, found 'block'"),
        ({"endian": ""}, "expected endian to be little or big, found ''"),
        ({"byte_skip": "99999"}, "the NRRD header is damaged: it skips more than the file has"),
        ({"byte_skip": "x"}, "the NRRD header is damaged: byteskip is 'x'"),
        ({"geometry": "sizes: 8 6 4"}, "the NRRD header is damaged: 'sizes' stands twice"),
        ({"geometry": "sizes"}, "the NRRD header is damaged: 'sizes' has no value"),
        ({"kinds": "3-color domain domain"}, "the voxels are colours or vectors; expected one number per voxel"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_damaged_header_is_explained(fields: dict[str, str], expected: str, tmp_path: Path) -> None:
    assert refusals(write(tmp_path / "a.nrrd", raw(), **fields)) == {expected}


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        ("spacings: 1 2", "the NRRD header is damaged: `spacings` has not as many numbers as `dimension`"),
        ("spacings: 1 2 x", "the NRRD header is damaged: expected numbers, found '1 2 x'"),
        ("spacings: 1 2 inf\nspace origin: (nan,0,0)", "the affine is not finite (NaN or infinite)"),
        ("spacings: 1 2 0", "the affine is singular: an axis has no direction, or no length"),
        ("space directions: (1,0,0)", "the NRRD header is damaged: `space directions` has not as many vectors as"),
        ("space directions: (1,0,0) none (0,0,1)", "the NRRD header is damaged: 'none' is no vector in space"),
        ("space origin: (1,2,3,4)", "the NRRD header is damaged: '(1,2,3,4)' is no vector in space"),
    ],
)
def test_a_damaged_geometry_is_explained(geometry: str, expected: str, tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "a.nrrd", raw(), geometry=geometry)).startswith(expected)


def test_implausible_compression_is_refused_before_unpacking(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", gzip.compress(b"\0" * 1000), encoding="gzip", sizes="1000 1000 1000")

    (message,) = refusals(path)

    assert message.startswith("the header declares 2,000,000,000 bytes of voxels, but they are packed into ")
