"""Decodes and rescales DICOM pixels.

Compressed pixels are unpacked by one decoder for each syntax, the same on every machine: decoders differ in what they
make of lossy ones. The size declared in a compressed frame is read before any memory is reserved for it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vwmm.data.readers.dicom.header import Header, open_dicom, transfer_syntax
from vwmm.data.readers.dicom.planes import Plane
from vwmm.data.readers.dicom.stream import only_image_errors
from vwmm.data.readers.image import ImageError

_JPEG = (
    "1.2.840.10008.1.2.4.50",  # baseline
    "1.2.840.10008.1.2.4.51",  # extended
    "1.2.840.10008.1.2.4.57",  # lossless
    "1.2.840.10008.1.2.4.70",  # lossless, first-order prediction
)
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_RLE = "1.2.840.10008.1.2.5"
# pydicom's name of the decoder of each syntax. Its own for RLE: it raises what can be caught.
DECODERS = {
    **dict.fromkeys((*_JPEG, *_JPEG_2000), "pylibjpeg"),
    **dict.fromkeys(_JPEG_LS, "pyjpegls"),
    _RLE: "pydicom",
}
# A frame of fewer bytes than this is never suspicious, at any compression.
_PLAIN_FRAME_BYTES = 2**25
_MAX_RATIO = 1000


@dataclass(frozen=True)
class Frames:
    """The pixels of a file, frames in its order."""

    values: np.ndarray
    """(frames, rows, columns), rescaled frame by frame."""
    is_padding: np.ndarray | None
    """(frames, rows, columns) bool: which of them are no data; None: none are."""


def read_frames(header: Header) -> Frames:
    """The frames of a file. Raises ImageError, OSError."""
    import pydicom

    with open_dicom(header.path) as stream:
        if stream is None:
            raise ImageError("the file was changed while it was read; start again when it is complete", "unusable")
        with only_image_errors("the pixel data are damaged"):
            dataset = pydicom.dcmread(io.BytesIO(stream.read(header.num_bytes)), force=True)
            stored = _decoded(dataset, header)
            is_padding = _padding(stored, dataset)
            if header.is_inverted:
                stored = _inverted(stored, dataset)
            if "ModalityLUTSequence" in dataset:
                return Frames(np.asarray(pydicom.pixels.apply_modality_lut(stored, dataset)), is_padding)
    return Frames(rescaled(stored, header.planes), is_padding)


def _padding(stored: np.ndarray, dataset: Any) -> np.ndarray | None:
    """Which pixels are PixelPaddingValue, or from there to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    if stored.dtype.kind == "f":
        keyword = "FloatPixelPadding" if stored.dtype.itemsize == 4 else "DoubleFloatPixelPadding"
        value, limit = dataset.get(f"{keyword}Value"), dataset.get(f"{keyword}RangeLimit")
    else:
        value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None or value == "":
        return None
    found = [_as_stored(end, stored.dtype) for end in (value, value if limit in (None, "") else limit)]
    if None in found:  # a tag that was left behind when the pixels got another type
        return None
    ends = sorted(found)
    is_padding = (stored >= ends[0]) & (stored <= ends[1])
    return is_padding if is_padding.any() else None


def _as_stored(value: Any, dtype: np.dtype) -> Any:
    """A value of a tag as a pixel: its sign may be written as the pixels' is, or not. None: no pixel has it."""
    if dtype.kind == "f":
        return dtype.type(value)
    count = 2 ** (8 * dtype.itemsize)
    if not -count // 2 <= int(value) < count:
        return None
    number = int(value) % count
    return number - count if number > np.iinfo(dtype).max else number


def _decoded(dataset: Any, header: Header) -> np.ndarray:
    """(frames, rows, columns) as stored."""
    from pydicom.pixels import get_decoder

    frames = len(header.planes)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax(dataset)
    for keyword, value in (("SamplesPerPixel", 1), ("PhotometricInterpretation", "MONOCHROME2"),
                           ("BitsStored", header.num_bits), ("PixelRepresentation", 0)):  # fmt: skip
        if dataset.get(keyword) is None:
            setattr(dataset, keyword, value)
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except NotImplementedError:
        raise ImageError(
            f"transfer syntax {header.syntax} is no image's that can be read; export it again", "unusable"
        ) from None
    if not header.is_compressed:
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            raise ImageError("the pixel data are declared as compressed, but are not: the header is damaged")
        array, _ = decoder.as_array(dataset, raw=True)
        return np.asarray(array).reshape(frames, header.rows, header.columns)
    plugin = DECODERS.get(header.syntax)
    if plugin not in decoder.available_plugins:
        raise ImageError(
            f"its pixels are compressed ({header.syntax}); to read them: pip install 'vwmm[dicom]'", "unusable"
        )
    _check_compressed(dataset, header)
    stored: np.ndarray | None = None
    for number, (frame, _) in enumerate(decoder.iter_array(dataset, raw=True, decoding_plugin=plugin)):
        if stored is None:
            stored = np.empty((frames, *frame.shape), frame.dtype)
        stored[number] = frame
    if stored is None or number + 1 != frames or stored.shape[1:] != (header.rows, header.columns):
        raise ImageError(f"expected {frames} frames of pixels: the file is truncated, or damaged")
    return stored


def _check_compressed(dataset: Any, header: Header) -> None:
    """ImageError if a compressed frame is larger, or much smaller, than in the header."""
    from pydicom.encaps import generate_frames

    frames, size = len(header.planes), header.rows * header.columns * header.num_bits // 8
    packed = generate_frames(
        dataset.PixelData,
        number_of_frames=frames,
        extended_offsets=_extended_offsets(dataset),
    )
    for number, frame in enumerate(packed, 1):
        found = None if header.syntax == _RLE else frame_size(frame)
        if header.syntax != _RLE and found != (header.rows, header.columns):
            what = "is no image" if found is None else f"has {found[1]} x {found[0]} voxels"
            raise ImageError(
                f"compressed frame {number} {what}, expected {header.columns} x {header.rows}: the file is damaged"
            )
        if size > max(_PLAIN_FRAME_BYTES, _MAX_RATIO * len(frame)):
            raise ImageError(f"compressed frame {number} has {len(frame):,} bytes for {size:,}: the file is damaged")


def _extended_offsets(dataset: Any) -> tuple[bytes, bytes] | None:
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return (offsets, lengths) if offsets and lengths else None


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 frame itself declares; None where it is none.

    From the SIZ marker (ISO/IEC 15444-1 A.5.1) or the start of frame (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2).
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 1024)  # behind the boxes of a JP2 file, if it is one
    if start >= 0 and len(frame) >= start + 24:
        right, bottom, left, top = np.frombuffer(frame, ">u4", 4, start + 8).tolist()
        return bottom - top, right - left
    place = 2
    while frame[:2] == b"\xff\xd8" and len(frame) >= place + 9 and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(frame[place + 5 : place + 7]), int.from_bytes(frame[place + 7 : place + 9])
        place += 1 if marker == 0xFF else 2 + int.from_bytes(frame[place + 2 : place + 4])
    return None


def _inverted(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """MONOCHROME1 (PS3.3 C.7.6.3.1.2) as MONOCHROME2: the lowest of the values that can be stored is the highest."""
    if stored.dtype.kind not in "iu":
        raise ImageError("floating-point voxels with the lowest value as white; export them as MONOCHROME2", "unusable")
    highest = -1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1
    return (highest - stored.astype(np.int64)).astype(stored.dtype)


def rescaled(stored: np.ndarray, planes: Sequence[Plane]) -> np.ndarray:
    """Each frame times its slope plus its intercept: integers that fit 16 bits stay integers, else float32."""
    parts = [_rescaled(frame, plane.slope, plane.intercept) for frame, plane in zip(stored, planes, strict=True)]
    return np.stack(parts).astype(common_dtype([part.dtype for part in parts]), copy=False)


def common_dtype(dtypes: Sequence[np.dtype]) -> np.dtype:
    """The one dtype, or float32, which holds what the others of KEPT_DTYPES hold."""
    return dtypes[0] if len(set(dtypes)) == 1 else np.dtype(np.float32)


def _rescaled(frame: np.ndarray, slope: float | None, intercept: float) -> np.ndarray:
    if slope == 0:
        raise ImageError("RescaleSlope is 0: every voxel would have the same value")
    is_whole = frame.dtype.kind in "iu" and (slope is None or (slope.is_integer() and intercept.is_integer()))
    scale, offset = (1.0, 0.0) if slope is None else (slope, intercept)
    if is_whole:
        ends = sorted(int(end) * int(scale) + int(offset) for end in (frame.min(), frame.max()))
        for dtype in (np.int16, np.uint16):
            if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
                return (frame.astype(np.int64) * int(scale) + int(offset)).astype(dtype)
    return (frame * np.float64(scale) + offset).astype(np.float32)
