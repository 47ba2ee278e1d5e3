"""Reads compressed bytes within bounds."""

import bz2
import zlib
from pathlib import Path

from vwmm.data.readers.image import ImageError

# Bytes that may follow the voxels: some programs round up.
SLACK = 2**20
# Deflate shrinks zeros by a factor of 1032 (https://zlib.net/zlib_tech.html): such an image has no content.
MAX_RATIO = 1000
# An image of fewer bytes is never suspicious, at any compression.
PLAIN_BYTES = 2**25
_GZIP_START = b"\x1f\x8b"


def check_ratio(packed: int, needed: int) -> None:
    """ImageError where so few packed bytes cannot be an image of so many."""
    if needed > max(PLAIN_BYTES, MAX_RATIO * packed):
        raise ImageError(
            f"the header declares {needed:,} bytes of voxels, but they are packed into {packed:,}: "
            "the file is truncated, or its header is damaged"
        )


def check_truncated(found: int, needed: int) -> None:
    """ImageError if there are fewer bytes of voxels than in the header."""
    if found < needed:
        raise ImageError(f"the file is truncated: {max(found, 0):,} bytes of voxels, expected {needed:,}")


def read_part(path: Path, start: int, length: int) -> bytes:
    """Bytes of a file from `start`, as many as there are of `length`. Raises OSError."""
    length = min(length, max(path.stat().st_size - start, 0))
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


def read_packed(path: Path, start: int, needed: int, kind: str = "zlib") -> bytes:
    """`needed` bytes that were packed by `zlib` (or gzip, its checksum verified) or `bzip2`, and no more.

    Raises ImageError, EOFError where they end too early, OSError.
    """
    packed = read_part(path, start, needed + needed // 64 + SLACK)
    check_ratio(len(packed), needed)
    unpacked = _unpacked(packed, needed, kind)
    if len(unpacked) > needed:
        raise ImageError(f"the voxels unpack to more than the {needed:,} bytes that the header declares")
    check_truncated(len(unpacked), needed)
    return unpacked


def _unpacked(packed: bytes, needed: int, kind: str) -> bytes:
    """One member after the other, as some programs write them; a byte more than needed at most."""
    unpacked = b""
    while True:
        engine = bz2.BZ2Decompressor() if kind == "bzip2" else zlib.decompressobj(wbits=47)
        unpacked += engine.decompress(packed, needed + 1 - len(unpacked))
        if len(unpacked) > needed:
            return unpacked
        if not engine.eof:
            raise EOFError
        packed = engine.unused_data
        if len(unpacked) == needed or not packed.startswith(b"BZh" if kind == "bzip2" else _GZIP_START):
            return unpacked
