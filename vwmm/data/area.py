"""Resize by area: the mean over each output voxel's window, as torch's adaptive average pooling computes it.

The window of output voxel o of m over n voxels is [floor(o n / m), ceil((o + 1) n / m)): neighbours overlap where m
does not divide n, and share voxels where m is larger than n (ATen/native/AdaptivePooling.h).
"""

from collections.abc import Sequence

import numpy as np

from vwmm.data.compiled import compiled

_NO_TABLE = np.empty(0, np.float32)


def area_exact(view: np.ndarray, size: Sequence[int], *, table: np.ndarray | None = None, first: int = 0) -> np.ndarray:
    """(*size) float32 from a (H, W) or (H, W, D) view, bit for bit as `torch.nn.functional.interpolate(mode="area")`.

    table: what each value of an integer view becomes before the mean, from the value `first` on; float32.
    """
    memory, order, flipped = in_memory_order(view)
    strides, offset = np.zeros(3, np.int64), 0
    for position, axis in enumerate(order):
        step = memory.strides[position] // memory.itemsize
        strides[axis] = -step if flipped[position] else step
        offset += step * (view.shape[axis] - 1) if flipped[position] else 0
    out = np.empty([*size, 1][:3], np.float32)
    starts, ends = windows([*view.shape, 1][:3], out.shape)
    _area_exact(memory.reshape(-1), offset, strides, starts, ends, _NO_TABLE if table is None else table, first, out)
    return out.reshape(size)


def area_fast(view: np.ndarray, size: Sequence[int], *, low: float, high: float) -> np.ndarray:
    """(*size) float32 from a (H, W) or (H, W, D) view clipped to `low` and `high`, less `low`; in any order."""
    memory, order, flipped = in_memory_order(view)
    volume = memory.reshape((1, *memory.shape)[-3:])
    # Windows lie the same from both ends, so the small result is turned instead of the image.
    out = np.empty([size[axis] for axis in order], np.float32)
    solid = out.reshape((1, *out.shape)[-3:])
    _area_fast(volume, *windows(volume.shape, solid.shape), np.float32(low), np.float32(high), solid)
    turned: np.ndarray = out[_turn(flipped)].transpose(np.argsort(order))
    return turned


def in_memory_order(view: np.ndarray) -> tuple[np.ndarray, list[int], list[bool]]:
    """A view's voxels as a read-only C-contiguous array; the view's axis of each of its axes; which run backwards."""
    order = [int(axis) for axis in np.argsort([-abs(stride) for stride in view.strides], kind="stable")]
    flipped = [view.strides[axis] < 0 for axis in order]
    memory = np.ascontiguousarray(view.transpose(order)[_turn(flipped)]).view()
    memory.flags.writeable = False  # one kind of array, one compilation
    return memory, order, flipped


def windows(shape: Sequence[int], size: Sequence[int]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Where the windows of each axis start and end, when (*shape) voxels become (*size)."""
    starts = tuple(np.arange(m) * n // m for n, m in zip(shape, size, strict=True))
    ends = tuple(-(-np.arange(1, m + 1) * n // m) for n, m in zip(shape, size, strict=True))
    return starts, ends


def window_size(shape: Sequence[int], size: Sequence[int]) -> int:
    """The most voxels that a window has."""
    starts, ends = windows(shape, size)
    return int(np.prod([(end - start).max() for start, end in zip(starts, ends, strict=True)]))


def _turn(flipped: Sequence[bool]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in flipped)


@compiled()
def _area_exact(flat, offset, strides, starts, ends, table, first, out):  # type: ignore[no-untyped-def]
    """Adds up each window in float32, the last axis fastest, and divides by its lengths in turn, as torch does."""
    sx, sy, sz = strides[0], strides[1], strides[2]
    has_table = table.size > 0
    for z in range(out.shape[2]):
        z0, z1 = starts[2][z], ends[2][z]
        for y in range(out.shape[1]):
            y0, y1 = starts[1][y], ends[1][y]
            for x in range(out.shape[0]):
                x0, x1 = starts[0][x], ends[0][x]
                total = np.float32(0)
                for i in range(x0, x1):
                    for j in range(y0, y1):
                        place = offset + i * sx + j * sy
                        for k in range(z0, z1):
                            value = flat[place + k * sz]
                            total += table[np.int64(value) - first] if has_table else np.float32(value)
                out[x, y, z] = total / np.float32(x1 - x0) / np.float32(y1 - y0) / np.float32(z1 - z0)


@compiled(fastmath=True)
def _area_fast(volume, starts, ends, low, high, out):  # type: ignore[no-untyped-def]
    """Adds whole rows, which are contiguous, then within the row."""
    row = np.empty(volume.shape[2], np.float32)
    for a in range(out.shape[0]):
        a0, a1 = starts[0][a], ends[0][a]
        for b in range(out.shape[1]):
            b0, b1 = starts[1][b], ends[1][b]
            row[:] = 0
            for i in range(a0, a1):
                for j in range(b0, b1):
                    for k in range(row.size):
                        row[k] += min(max(np.float32(volume[i, j, k]), low), high) - low
            for c in range(out.shape[2]):
                total = np.float32(0)
                for k in range(starts[2][c], ends[2][c]):
                    total += row[k]
                out[a, b, c] = total / np.float32((a1 - a0) * (b1 - b0) * (ends[2][c] - starts[2][c]))


@compiled(fastmath=True)
def moments(flat, low, high):  # type: ignore[no-untyped-def]
    """Mean and standard deviation of (N,) voxels clipped to `low` and `high`, less `low`; float64."""
    total, squares = 0.0, 0.0
    for place in range(flat.size):
        value = np.float64(min(max(np.float32(flat[place]), low), high) - low)
        total += value
        squares += value * value
    mean = total / flat.size
    return mean, np.sqrt(max(squares / flat.size - mean * mean, 0.0))
