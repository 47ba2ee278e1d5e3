"""The header of one DICOM file, without names of persons.

pydicom reads it, up to the pixel data and only the tags listed here. What the header promises is held against the size
of the file before any pixel is read (DICOM PS3.3, PS3.5 and PS3.10).
"""

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vwmm.data.readers.dicom.meaning import with_meaning
from vwmm.data.readers.dicom.planes import Plane, planes_of
from vwmm.data.readers.dicom.stream import (
    MAGIC_START,
    SLACK,
    UNDEFINED,
    BoundedFile,
    check_length,
    end_of_fragments,
    looks_like_dicom,
    only_image_errors,
    pixel_element,
)
from vwmm.data.readers.image import ImageError, check_shape

TAGS = [
    "SpecificCharacterSet", "SOPClassUID", "Modality", "SeriesDescription", "SeriesInstanceUID", "ImageType",
    "SpacingBetweenSlices", "PixelSpacing", "ImagerPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "FrameIncrementPointer", "FrameTime", "FrameTimeVector", "GridFrameOffsetVector",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "RealWorldValueMappingSequence",
    "SegmentSequence", "SegmentationType", "MaximumFractionalValue", "DoseGridScaling",
]  # fmt: skip
DEFLATED = "1.2.840.10008.1.2.1.99"
DIRECTORY = "1.2.840.10008.1.3.10"
CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
UNITS = ("HU", "inverted", "unknown")
# A deflated file is unpacked this far to read its header.
MAX_HEADER_BYTES = 2**22
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Header:
    """The header values of a DICOM image."""

    path: Path
    """The file."""
    series: str
    """Its SeriesInstanceUID; empty where there is none."""
    description: str
    """Its SeriesDescription; empty where there is none."""
    is_localizer: bool
    """Whether ImageType has this value."""
    rows: int
    """Rows of a frame."""
    columns: int
    """Columns of a frame."""
    num_bits: int
    """BitsAllocated of a voxel."""
    syntax: str
    """UID of the transfer syntax: how the pixels are kept."""
    is_compressed: bool
    """Whether the pixel data are fragments of undefined length."""
    num_bytes: int
    """Of the file, up to the end of its pixel data: what follows is not read."""
    is_inverted: bool
    """Whether the lowest value is white (MONOCHROME1)."""
    unit: str
    """`HU`, `inverted` or `unknown`: as of `Image`."""
    planes: tuple[Plane, ...]
    """Where each frame lies, and what its values mean."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, frames."""
        return self.columns, self.rows, len(self.planes)


def read_header(path: Path) -> Header | None:
    """The header of a DICOM image; None of a file that is something else. Raises ImageError, OSError."""
    with open_dicom(path) as stream:
        if stream is None:
            return None
        with only_image_errors("the DICOM header is damaged"):
            return _header(path, stream)


@contextmanager
def open_dicom(path: Path) -> Iterator[BinaryIO | None]:
    """The file as a stream that pydicom reads, unpacked where it is deflated; None where it is no DICOM file."""
    with BoundedFile(path) as stream:
        head = stream.read(MAGIC_START + 512)
        stream.seek(0)
        if not looks_like_dicom(head):
            yield None
        elif DEFLATED.encode() in head[MAGIC_START:]:
            yield _inflated(path, stream)
        else:
            yield stream


def _inflated(path: Path, stream: BinaryIO) -> BinaryIO:
    """A deflated file as a plain one (PS3.5 A.5); no more is read and unpacked than its header and its pixels need."""
    with only_image_errors("the deflated DICOM file is damaged"):
        start = MAGIC_START + 16
        start += int.from_bytes(stream.read(start)[-4:], "little")
        stream.seek(0)
        meta = stream.read(start).replace(DEFLATED.encode(), DEFLATED[:-3].encode() + b"\0\0\0")
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        head = meta + _unpacked(stream, engine, MAX_HEADER_BYTES)
        if engine.eof:
            return io.BytesIO(head)
        header = _header(path, io.BytesIO(head), is_whole=False)
        needed = 0 if header is None else math.prod(header.shape) * header.num_bits // 8
        rest = _unpacked(stream, engine, needed + SLACK)
        if not engine.eof and len(rest) < needed + SLACK:
            raise ImageError("the deflated DICOM file is truncated")
        return io.BytesIO(head + rest)


def _unpacked(stream: BinaryIO, engine: Any, limit: int) -> bytes:
    """What the stream holds, up to `limit` bytes."""
    parts, size = [], 0
    while size < limit and not engine.eof and (packed := engine.unconsumed_tail or stream.read(CHUNK_BYTES)):
        parts.append(engine.decompress(packed, limit - size))
        size += len(parts[-1])
    return b"".join(parts)


def _header(path: Path, stream: BinaryIO, *, is_whole: bool = True) -> Header | None:
    import pydicom

    dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=TAGS)
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    if kind == DIRECTORY:
        return None
    if not dataset.get("Rows") or not dataset.get("Columns"):
        if kind and not pydicom.uid.UID(kind).name.endswith("Image Storage"):
            return None  # a report, a plan, a presentation state
        raise ImageError("the DICOM header ends before its image: the file is truncated, or damaged")
    image_type = _text(dataset, "ImageType").upper()
    if "MOSAIC" in image_type:
        raise ImageError(
            "a mosaic: its slices are tiles of one picture; convert it to NIfTI (dcm2niix), or export slices",
            "unusable",
        )
    rows, columns, num_bits = _check_pixels(dataset)
    start, length = pixel_element(stream, dataset)
    is_compressed = length == UNDEFINED
    planes = with_meaning(dataset, kind, planes_of(dataset))
    check_shape((columns, rows, len(planes)))
    end = end_of_fragments(stream, len(planes)) if is_compressed else start + length
    if not is_compressed:
        check_length(length, (columns, rows, len(planes)), num_bits)
        if is_whole and end > (size := stream.seek(0, io.SEEK_END)):
            raise ImageError(f"the file is truncated: {max(size - start, 0):,} bytes of pixels, expected {length:,}")
    is_inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return Header(
        path=path,
        series=_text(dataset, "SeriesInstanceUID"),
        description=_text(dataset, "SeriesDescription"),
        is_localizer="LOCALIZER" in image_type,
        rows=rows,
        columns=columns,
        num_bits=num_bits,
        syntax=transfer_syntax(dataset),
        is_compressed=is_compressed,
        num_bytes=end,
        is_inverted=is_inverted,
        unit=_unit(dataset, kind, planes, is_inverted=is_inverted),
        planes=planes,
    )


def _text(dataset: Any, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip("\0 ")


def _unit(dataset: Any, kind: str, planes: tuple[Plane, ...], *, is_inverted: bool) -> str:
    """Hounsfield units for a rescaled CT, unless the header names another unit."""
    is_ct = dataset.get("Modality") == "CT" or ("Modality" not in dataset and kind in CT_CLASSES)
    is_hu = all(plane.slope is not None and plane.rescale_type in ("", "HU") for plane in planes)
    if not is_ct or not is_hu or "ModalityLUTSequence" in dataset:
        return "unknown"
    return "inverted" if is_inverted else "HU"


def transfer_syntax(dataset: Any) -> str:
    """The UID; of a file that lacks it, the one that pydicom guessed it by."""
    found = dataset.file_meta.get("TransferSyntaxUID")
    if found:
        return str(found)
    is_implicit, is_little = dataset.original_encoding
    return "1.2.840.10008.1.2" if is_implicit else "1.2.840.10008.1.2.1" if is_little else "1.2.840.10008.1.2.2"


def _or_else(value: Any, default: Any) -> Any:
    return default if value is None else value


def _check_pixels(dataset: Any) -> tuple[int, int, int]:
    """Rows, columns, bits of a voxel; ImageError for voxels that are not one number each."""
    photometric = dataset.get("PhotometricInterpretation") or "MONOCHROME2"
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError("the voxels are colours or vectors; expected one number per voxel")
    allocated = int(dataset.get("BitsAllocated") or 0)
    stored = int(_or_else(dataset.get("BitsStored"), allocated))
    high = int(_or_else(dataset.get("HighBit"), stored - 1))
    if allocated not in (1, 8, 16, 32, 64) or not 0 < stored <= allocated or high != stored - 1:
        raise ImageError(f"{stored} bits of {allocated}, the highest one {high}: the DICOM header is damaged")
    return int(dataset.Rows), int(dataset.Columns), allocated
