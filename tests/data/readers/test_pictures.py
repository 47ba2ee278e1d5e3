"""Pictures: every stored bit, one meaning of white, one of the orientation, and what cannot be kept is refused."""

import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from tests.data.making import numbers
from tests.data.readers.test_read import refusals
from vwmm.data.readers.read import check_header, read_image

pytestmark = pytest.mark.usefixtures("silence")

RAMP = np.arange(40 * 30).reshape(30, 40)


def write_tiff(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, metadata=None, **{"photometric": "minisblack", **options})
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_png_keeps_its_values_with_any_channels(channels: int, dtype: type, tmp_path: Path) -> None:
    grey: np.ndarray = (RAMP % 251 if dtype == np.uint8 else RAMP * 50).astype(dtype)
    pixels = grey if channels == 1 else np.repeat(grey[..., None], channels, axis=-1)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))

    found = read_image(tmp_path / "a.png").voxels

    np.testing.assert_array_equal(found, grey.T)
    assert check_header(tmp_path / "a.png") == (40, 30)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64]
)
def test_a_tiff_keeps_sign_and_value_of_every_type(dtype: Any, tmp_path: Path) -> None:
    low = 0 if np.dtype(dtype).kind == "u" else -100
    pixels = (RAMP % 200 + low).astype(dtype)

    found = read_image(write_tiff(tmp_path / "a.tif", pixels)).voxels

    np.testing.assert_array_equal(found, pixels.T)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_white_is_zero_is_inverted_at_every_depth(dtype: Any, tmp_path: Path) -> None:
    pixels = (RAMP % 200).astype(dtype)

    found = read_image(write_tiff(tmp_path / "a.tif", pixels, photometric="miniswhite")).voxels

    assert (np.diff(found[:40, 0].astype(int)) == -1).all()
    assert found[0, 0] == {"uint8": 255, "uint16": 65535, "int16": -1}[np.dtype(dtype).name]


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "zlib"}], ids=str)
def test_a_grey_tiff_saved_as_colours_keeps_sixteen_bits(options: dict[str, Any], planar: str, tmp_path: Path) -> None:
    grey = (RAMP * 50).astype(np.uint16)
    axis = -1 if planar == "contig" else 0
    pixels = np.stack([grey] * 3, axis=axis)

    path = write_tiff(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar, **options)

    np.testing.assert_array_equal(read_image(path).voxels, grey.T)


def test_colours_become_their_luma(tmp_path: Path) -> None:
    pixels = np.stack([numbers(30, 40, seed=n) % 256 for n in range(3)], axis=-1).astype(np.uint8)
    expected = np.asarray(Pillow.fromarray(pixels).convert("L")).T
    Pillow.fromarray(pixels).save(tmp_path / "a.png")

    tiff = read_image(write_tiff(tmp_path / "a.tif", pixels, photometric="rgb")).voxels
    deep = tmp_path / "deep.png"
    deep.write_bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 257))

    np.testing.assert_array_equal(read_image(tmp_path / "a.png").voxels, expected)
    np.testing.assert_array_equal(tiff, expected)
    np.testing.assert_allclose(read_image(deep).voxels / 257, expected, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_by_its_orientation(orientation: int, tmp_path: Path) -> None:
    smooth = np.linspace(0, 200, 40 * 24).reshape(24, 40)  # a JPEG keeps it nearly
    picture, exif = Pillow.fromarray(smooth.astype(np.uint8)), Pillow.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    picture.save(tmp_path / "a.jpg", exif=exif, quality=100)
    write_tiff(tmp_path / "a.tif", smooth.astype(np.uint8), extratags=[(0x0112, 3, 1, orientation, True)])
    with Pillow.open(tmp_path / "a.png") as stored:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(stored)).T.astype(float)

    for name in ("a.png", "a.jpg", "a.tif"):
        found = read_image(tmp_path / name).voxels
        np.testing.assert_allclose(found, expected, atol=3 if name == "a.jpg" else 0, err_msg=name)
        assert check_header(tmp_path / name) == found.shape


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    levels = (np.arange(256) * 257)[::-1].astype(np.uint16)  # eight bits, as every program writes them
    indices = (RAMP % 256).astype(np.uint8)

    path = write_tiff(tmp_path / "a.tif", indices, photometric="palette", colormap=np.stack([levels] * 3))

    np.testing.assert_array_equal(read_image(path).voxels, levels[indices].T // 257)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"photometric": "miniswhite", "dtype": np.float32}, "floating-point pixels of which 0 is white"),
        ({"photometric": "cielab", "dtype": np.uint8, "channels": 3}, "the colours are CIELAB"),
        ({"photometric": "separated", "dtype": np.uint8, "channels": 4}, "the colours are SEPARATED"),
        ({"dtype": np.complex64}, "expected one real number per voxel"),
        (
            {"dtype": np.uint8, "channels": 5, "photometric": "minisblack", "planarconfig": "contig"},
            "a pixel has 5 values",
        ),
    ],
)
def test_what_is_no_grey_picture_is_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    options, channels = dict(options), options.get("channels", 1)
    pixels = (RAMP % 200).astype(options.pop("dtype"))
    options.pop("channels", None)
    write_tiff(tmp_path / "a.tif", pixels if channels == 1 else np.stack([pixels] * channels, -1), **options)

    assert reason in next(iter(refusals(tmp_path / "a.tif")))


def test_a_tiff_without_some_of_its_strips_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", RAMP.astype(np.uint16), rowsperstrip=10)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].tags["StripByteCounts"].valueoffset
    path.write_bytes(content[:place] + bytes(4) + content[place + 4 :])

    assert "some of its pixels are not there" in next(iter(refusals(path)))


def test_stacks_of_imagej_and_pages_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RAMP.astype(np.uint16)] * 4), imagej=True)

    assert "the file has 4 pages; expected one picture" in next(iter(refusals(tmp_path / "a.tif")))


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Pillow.fromarray((RAMP % 200).astype(np.uint8)).convert("CMYK").save(tmp_path / "a.jpg")

    assert "CMYK" in next(iter(refusals(tmp_path / "a.jpg")))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_orientation_behind_the_pixels_counts_as_well(dtype: type, tmp_path: Path) -> None:
    pixels: np.ndarray = np.repeat((RAMP % 200).astype(dtype)[..., None], 3, axis=-1)
    content = imagecodecs.png_encode(pixels)
    exif = Pillow.Exif()
    exif[0x0112] = 8
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = len(data).to_bytes(4, "big") + b"eXIf" + data + zlib.crc32(b"eXIf" + data).to_bytes(4, "big")
    end = content.rindex(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(content[:end] + chunk + content[end:])

    assert check_header(tmp_path / "a.png") == (30, 40)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").voxels, (RAMP % 200)[:, ::-1])
