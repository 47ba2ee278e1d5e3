"""Parses a DICOM file within bounds (PS3.5, PS3.10)."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vwmm.data.readers.image import ImageError

MAGIC, MAGIC_START = b"DICM", 128
UNDEFINED = 0xFFFFFFFF
# Bytes that may follow the pixels within their element: some programs round up.
PADDING = 512
# Bytes that may be asked for without a look at the file's size.
SLACK = 4096
# Of elements, three for each: the header of ten thousand frames needs less than half of them.
MAX_READS = 2**21
LIBRARIES = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg")
_PIXELS = ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009))


def quiet() -> None:
    """No warning of pydicom is shown or logged: they quote the values of tags, and of damaged files any tag's."""
    for library in LIBRARIES:
        logger = logging.getLogger(library)
        if logger.level <= logging.CRITICAL:  # each change makes all loggers forget what they have looked up
            logger.setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    warnings.filterwarnings("ignore", module=r"vwmm\.data\.readers\.dicom")


@contextmanager
def only_image_errors(what: str) -> Iterator[None]:
    """Turns any error of pydicom or a decoder into an ImageError without its text, which may quote a patient's name."""
    quiet()
    try:
        yield
    except (ImageError, OSError):
        raise
    except Exception as error:  # damaged bytes: ValueError, KeyError, struct.error, RecursionError, MemoryError, ...
        raise ImageError(f"{what} ({error.__class__.__name__})") from None


def is_marked(path: Path) -> bool:
    """Whether a file has the mark of DICOM."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAGIC_START + 4)[MAGIC_START:] == MAGIC
    except OSError:
        return False


class BoundedFile(io.BufferedReader):
    """A file that is never asked for more than it has, nor without end.

    A damaged length would reserve gigabytes, and gigabytes of zeros, as a crash leaves them, be read as empty elements.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size, self.num_reads = path.stat().st_size, 0

    def read(self, size: int | None = -1) -> bytes:
        self.num_reads += 1
        if self.num_reads > MAX_READS:
            raise ImageError("the DICOM header has no end: the file is damaged")
        if size is not None and size > SLACK:
            size = min(size, max(self.size - self.tell(), 0))
        return super().read(size)


def looks_like_dicom(head: bytes) -> bool:
    """By the mark of PS3.10; old files lack it and begin with an element of group 2 or 8."""
    if head[MAGIC_START : MAGIC_START + 4] == MAGIC:
        return True
    return (
        len(head) > 8 and head[:2] in (b"\x02\0", b"\x08\0", b"\0\x08") and head[2:4] != b"\0\0\0\0" and 0 in head[2:4]
    )


def pixel_element(stream: BinaryIO, dataset: Any) -> tuple[int, int]:
    """Where the pixels begin, and how many bytes they have; the stream is where pydicom stopped (PS3.5 7.1)."""
    is_implicit, is_little = dataset.original_encoding
    element = stream.read(8 if is_implicit else 12)
    order = "<" if is_little else ">"
    tag = tuple(np.frombuffer(element[:4], f"{order}u2").tolist())
    if tag not in _PIXELS or len(element) < (8 if is_implicit else 12):
        raise ImageError("the file has no pixel data: it is truncated, or its image was removed")
    return stream.tell(), int(np.frombuffer(element[-4:], f"{order}u4")[0])


def end_of_fragments(stream: BinaryIO, frames: int) -> int:
    """Where compressed pixels end: behind their table of offsets, one fragment or more a frame, and a mark (PS3.5 A.4).

    Raises ImageError where they do not get that far.
    """
    place, size, fragments = stream.tell(), stream.seek(0, io.SEEK_END), -1
    while True:
        stream.seek(place)
        item = stream.read(8)
        length = int.from_bytes(item[4:], "little")
        place += 8 + length
        if item[:4] == b"\xfe\xff\xdd\xe0" and len(item) == 8:
            break
        if item[:4] != b"\xfe\xff\x00\xe0" or place > size:
            raise ImageError("the compressed pixels have no end: the file is truncated, or damaged")
        fragments += 1
    if fragments < frames:
        raise ImageError(
            f"{max(fragments, 0)} of {frames} compressed frames are there: the file is truncated, or damaged"
        )
    return place


def check_length(length: int, shape: tuple[int, int, int], num_bits: int) -> None:
    columns, rows, frames = shape
    needed = -(-columns * rows * frames * num_bits // 8)
    if not needed <= length <= needed + PADDING:
        text = f"{columns} x {rows}" + (f" x {frames}" if frames > 1 else "")
        raise ImageError(
            f"the pixel data have {length:,} bytes, but {text} voxels of {num_bits} bits have {needed:,}: "
            "the file is truncated, or its header is damaged"
        )
