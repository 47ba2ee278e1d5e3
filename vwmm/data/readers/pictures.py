"""PNG, JPEG and TIFF, with every bit kept.

A value means one thing in all of them: the larger, the brighter, as in DICOM's MONOCHROME2, so WhiteIsZero is inverted
at any bit depth. A colour picture with equal channels is grey; others become luma (ITU-R BT.601). Alpha is dropped. The
EXIF orientation is applied, so that pictures look as in a viewer.
"""

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vwmm.data.readers.bounded import check_ratio
from vwmm.data.readers.image import ImageError, as_voxels, check_dtype, check_shape

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# A picture is unpacked in up to 12 bytes a pixel: 11,585 x 11,585; a mammogram has a quarter of them.
MAX_PIXELS = 2**27
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Parts of red, green and blue in 2**16, as Pillow's.
_LUMA = (19595, 38470, 7471)
_NOT_A_PICTURE = "this is not a PNG, JPEG or TIFF file, despite its name"
_ORIENTATION_TAG = 0x0112
_MAX_EXIF_BYTES, _MAX_CHUNKS = 2**16, 2**16


def read_picture(path: Path) -> np.ndarray:
    """(columns, rows), upright. Raises ImageError; other errors of the libraries are the caller's."""
    if _is_tiff(path):
        pixels, orientation = _read_tiff(path)
    else:
        with _open_picture(path) as picture:
            if _has_deep_colours(path):
                pixels = _as_grey(_decode_png(path, picture.size))
            else:
                is_grey = len(picture.getbands()) == 1 and picture.mode not in ("P", "1")
                pixels = np.asarray(picture if is_grey else picture.convert("L"))
            orientation = _orientation_of(picture, path)  # the pixels come first: damaged ones are an error there
    return as_voxels(_upright(pixels, orientation).T)


def picture_shape(path: Path) -> tuple[int, ...]:
    """(columns, rows) of the upright picture, from the header."""
    if _is_tiff(path):
        with _open_tiff(path) as page:
            columns, rows = int(page.imagewidth), int(page.imagelength)
            orientation = _tiff_orientation(page)
    else:
        with _open_picture(path) as picture:
            (columns, rows), orientation = picture.size, _orientation_of(picture, path)
    return (rows, columns) if orientation >= 5 else (columns, rows)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in _TIFF_STARTS


@functools.cache
def _quiet() -> None:
    """No warning of the libraries is shown: they would be printed past the log."""
    from PIL import Image as Pillow

    warnings.filterwarnings("ignore", module=r"PIL\b")
    for name in ("PIL", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    Pillow.MAX_IMAGE_PIXELS = None  # our own limit is checked, before anything is unpacked


@contextmanager
def _open_picture(path: Path) -> Iterator[Any]:
    """A PNG or JPEG, its size checked, its pixels not read."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    _quiet()
    # These formats only: for some others Pillow starts other programs.
    with path.open("rb") as stream:
        try:
            picture: Any = Pillow.open(stream, formats=["PNG", "JPEG"])
        except UnidentifiedImageError as error:
            raise ImageError(_NOT_A_PICTURE) from error
        columns, rows = picture.size
        _check_size(columns, rows, path.stat().st_size, is_binary=picture.mode == "1")
        if picture.mode == "CMYK":
            raise ImageError("the colours are CMYK, made for print; save the picture in grey", "unusable")
        if getattr(picture, "n_frames", 1) != 1:
            raise ImageError(f"the file has {picture.n_frames} pages; expected one picture", "dimension")
        yield picture


def _check_size(columns: int, rows: int, num_bytes: int, *, is_binary: bool) -> None:
    check_shape((columns, rows))
    pixels = columns * rows
    if pixels > MAX_PIXELS:
        raise ImageError(f"{columns} x {rows} pixels are more than {MAX_PIXELS:,}")
    check_ratio(num_bytes, pixels // 8 if is_binary else pixels)


def _orientation_of(picture: Any, path: Path) -> int:
    """As EXIF counts, from 1; 1 if the value is absent or damaged."""
    from PIL import Image as Pillow

    try:
        if picture.format == "PNG":  # Pillow would unpack the pixels to look behind them
            exif = Pillow.Exif()
            exif.load(_png_exif(path))
        else:
            exif = picture.getexif()
        found = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata beside pixels that may be whole: SyntaxError, struct.error, ...
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _png_exif(path: Path) -> bytes:
    """The eXIf chunk of a PNG, which may stand before or behind the pixels (PNG 11.3.4.5); empty: there is none."""
    with path.open("rb") as stream:
        stream.seek(len(_PNG_START))
        for _ in range(_MAX_CHUNKS):
            head = stream.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if not kind.isalpha() or kind == b"IEND":
                break
            if kind == b"eXIf" and length <= _MAX_EXIF_BYTES:
                return stream.read(length)
            stream.seek(length + 4, 1)
    return b""


def _has_deep_colours(path: Path) -> bool:
    """Whether a PNG has 16 bits in each of several channels, of which Pillow keeps eight (PNG 11.2.1: IHDR)."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return head[:8] == _PNG_START and len(head) == 26 and head[24] == 16 and head[25] in (2, 4, 6)


def _decode_png(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns, channels) uint16."""
    import imagecodecs

    pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    if pixels.shape[:2] != size[::-1] or pixels.ndim != 3:
        raise ImageError("the PNG is damaged: the size of its pixels differs from its header")
    return pixels


@contextmanager
def _open_tiff(path: Path) -> Iterator[Any]:
    """The one page of a TIFF, its size and the place of its pixels checked."""
    import tifffile

    _quiet()
    size = path.stat().st_size
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        _check_size(int(page.imagewidth), int(page.imagelength), size, is_binary=page.bitspersample == 1)
        count = len(tiff.pages)
        if tiff.is_imagej and tiff.imagej_metadata:
            count = max(count, int(tiff.imagej_metadata.get("images", 1)))
        if count != 1:
            raise ImageError(f"the file has {count} pages; expected one picture", "dimension")
        if page.imagedepth != 1:
            raise ImageError(f"the file has {page.imagedepth} planes; expected one picture")
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if not places or any(count <= 0 or start + count > size for start, count in places):
            raise ImageError("the file is truncated: some of its pixels are not there")
        _check_page(page)
        _check_plain_bytes(page)
        yield page


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    found = int(tag.value) if tag is not None else 1
    return found if 1 <= found <= 8 else 1


def _read_tiff(path: Path) -> tuple[np.ndarray, int]:
    """(rows, columns) and the orientation."""
    from tifffile import PHOTOMETRIC

    with _open_tiff(path) as page:
        pixels = np.asarray(page.asarray())
        if page.planarconfig == 2 and pixels.ndim == 3:  # each channel by itself
            pixels = np.moveaxis(pixels, 0, -1)
        if page.photometric == PHOTOMETRIC.PALETTE:
            colours = np.asarray(page.colormap)
            if not (colours % 257).any():  # eight bits, written as sixteen (TIFF 6.0, ColorMap)
                colours = (colours // 257).astype(np.uint8)
            pixels = np.moveaxis(colours, 0, -1)[pixels.reshape(pixels.shape[:2])]
        elif page.photometric == PHOTOMETRIC.MINISWHITE:
            pixels = _inverted(pixels, int(page.bitspersample))
        return _as_grey(pixels), _tiff_orientation(page)


def _check_page(page: Any) -> None:
    """ImageError for pixels that are no grey values, nor colours that have one meaning."""
    from tifffile import COMPRESSION, PHOTOMETRIC

    if page.dtype is None:
        raise ImageError(
            f"{page.bitspersample} bits a pixel cannot be read; save the picture with 8, 16 or 32", "unusable"
        )
    check_dtype(page.dtype)
    kind, channels = page.photometric, int(page.samplesperpixel)
    is_jpeg = page.compression == COMPRESSION.JPEG  # its YCbCr is unpacked to RGB
    known = [PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE]
    if kind not in (*known, *([PHOTOMETRIC.YCBCR] if is_jpeg else [])):
        raise ImageError(f"the colours are {getattr(kind, 'name', kind)}; save the picture in grey", "unusable")
    if kind in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE) and channels > 2:
        raise ImageError(f"a pixel has {channels} values that are no colours; save one of them", "unusable")
    if channels > 4:
        raise ImageError(f"a pixel has {channels} values; expected grey or RGB")
    if kind == PHOTOMETRIC.MINISWHITE and page.dtype.kind == "f":
        raise ImageError("floating-point pixels of which 0 is white; save the picture with 0 as black", "unusable")


def _check_plain_bytes(page: Any) -> None:
    """Pixels that are not packed must all be there: what lacks would be read as zeros."""
    if page.compression != 1:
        return
    row_bits = int(page.imagewidth) * int(page.samplesperpixel) * int(page.bitspersample)
    needed = -(-row_bits // 8) * int(page.imagelength)
    if (found := sum(page.databytecounts)) < needed:
        raise ImageError(f"the file is truncated: {found:,} bytes of pixels, expected {needed:,}")


def _inverted(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Pixels of which 0 is white (TIFF 6.0, PhotometricInterpretation), as DICOM's MONOCHROME1 is inverted."""
    if pixels.dtype.kind == "b":
        return ~pixels
    highest = -1 if pixels.dtype.kind == "i" else 2**bits - 1
    return (highest - pixels.astype(np.int64)).astype(pixels.dtype)


def _as_grey(pixels: np.ndarray) -> np.ndarray:
    """(rows, columns) of (rows, columns[, channels]): one or three channels, an alpha behind them left out."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] < 3:
        return np.asarray(pixels[..., 0])
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.asarray(red)
    if pixels.dtype.kind == "f":
        return np.asarray(pixels[..., :3].astype(np.float64) @ (np.array(_LUMA) / 2**16))
    total = pixels[..., :3].astype(np.int64) @ np.array(_LUMA)
    return np.asarray(((total + 2**15) >> 16).astype(pixels.dtype))


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(rows, columns) as EXIF's orientation wants them shown (CIPA DC-008, 4.6.4)."""
    turned = {
        2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
        6: lambda a: a[::-1].T, 7: lambda a: a[::-1, ::-1].T, 8: lambda a: a[:, ::-1].T,
    }.get(orientation, lambda a: a)  # fmt: skip
    return np.asarray(turned(pixels))
