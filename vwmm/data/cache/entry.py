"""The file of one cached image: an .npy with key and checksum behind it.

Written under a temporary name and renamed, without a flush to the disk: what a power failure tears is found by the
size, the key or the checksum, and built again.
"""

import io
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

Dtype = Literal["float32", "float16", "uint8"]
# Magic, key, step and lowest value of uint8, then the checksum (XXH3, 128 bit) of everything before it.
_TRAILER = struct.Struct("<8s16sdd8x")
_MAGIC = b"vwmm-2\r\n"
_CHECKSUM_BYTES = 16
TRAILER_BYTES = _TRAILER.size + _CHECKSUM_BYTES


class EntryError(ValueError):
    """A file of the cache that is not what it should be."""


@dataclass(frozen=True)
class Layout:
    """Where things are in the entries of one shape and dtype."""

    shape: tuple[int, ...]
    """(1, *size)."""
    dtype: Dtype
    """How the voxels are kept."""

    @cached_property
    def header(self) -> bytes:
        """The .npy header."""
        stream = io.BytesIO()
        fields = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, fields)
        return stream.getvalue()

    @property
    def voxel_bytes(self) -> int:
        """Bytes of the voxels."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.voxel_bytes + TRAILER_BYTES


@dataclass(frozen=True)
class Levels:
    """What uint8 voxels stand for: value = lowest + step * voxel; 0 and 1 for the other dtypes."""

    step: float = 1.0
    """Difference between two levels."""
    lowest: float = 0.0
    """Value of voxel 0."""


def encode(array: np.ndarray, dtype: Dtype) -> tuple[np.ndarray, Levels]:
    """Float32 voxels as they are kept. Raises EntryError where float16 cannot hold them."""
    if dtype == "uint8":
        lowest, highest = float(array.min()), float(array.max())
        step = (highest - lowest) / 255 if highest > lowest else 1.0
        levels = np.rint((array.astype(np.float64) - lowest) / step)
        return levels.clip(0, 255).astype(np.uint8), Levels(step, lowest)
    with np.errstate(over="ignore"):
        kept = array.astype(dtype, copy=False)
    if dtype == "float16" and not np.isfinite(kept).all():
        extreme = float(array.flat[np.abs(array).argmax()])
        raise EntryError(f"float16 holds values up to 65504, found {extreme:g}; use cache.dtype=float32")
    return kept, Levels()


def write_entry(path: Path, array: np.ndarray, *, key: str, dtype: Dtype, temporary: Path | None = None) -> None:
    """Writes a (1, *size) float32 array, whole or not at all. Raises EntryError, OSError."""
    kept, levels = encode(array, dtype)
    header = Layout(array.shape, dtype).header
    trailer = _TRAILER.pack(_MAGIC, bytes.fromhex(key), levels.step, levels.lowest)
    voxels = np.ascontiguousarray(kept).data.cast("B")
    digest = _checksum([header, voxels, trailer])
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.building")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb", buffering=0) as stream:
            for part in (header, voxels, trailer + digest):
                _write_all(stream, part)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_whole(path: Path, layout: Layout, key: str) -> bool:
    """Whether the entry is there with the size, header and key that it should have; its voxels are not read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        header, size = layout.header, layout.file_bytes
        if os.fstat(descriptor).st_size != size or os.pread(descriptor, len(header), 0) != header:
            return False
        magic, found, _, _ = _TRAILER.unpack(os.pread(descriptor, _TRAILER.size, size - TRAILER_BYTES))
    except (OSError, struct.error):
        return False
    finally:
        os.close(descriptor)
    return bool(magic == _MAGIC and found == bytes.fromhex(key))


def verify(content: memoryview, layout: Layout, key: str) -> Levels:
    """The levels of an intact entry. Raises EntryError."""
    if len(content) != layout.file_bytes:
        raise EntryError(f"{len(content):,} bytes, expected {layout.file_bytes:,}")
    magic, found, step, lowest = _TRAILER.unpack(content[-TRAILER_BYTES:-_CHECKSUM_BYTES])
    if magic != _MAGIC or found != bytes.fromhex(key) or content[: len(layout.header)] != layout.header:
        raise EntryError("this is another entry")
    if _checksum([content[:-_CHECKSUM_BYTES]]) != content[-_CHECKSUM_BYTES:]:
        raise EntryError("the checksum is wrong")
    return Levels(step, lowest)


def _checksum(parts: Sequence[bytes | memoryview]) -> bytes:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _write_all(stream: io.RawIOBase | io.FileIO, content: bytes | memoryview) -> None:
    """A raw write may end early, for example on a full disk; the next one then raises the error."""
    view = memoryview(content)
    while view:
        view = view[stream.write(view) or 0 :]
