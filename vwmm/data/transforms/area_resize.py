"""Area resize, as torch's adaptive average pooling computes it.

The bin of output voxel o of m over n voxels is [floor(o n / m), ceil((o + 1) n / m)): neighbours overlap where m
does not divide n, and share voxels where m is larger than n (ATen/native/AdaptivePooling.h).
"""

from collections.abc import Sequence

import numpy as np

from vwmm.data.transforms.jit import compiled

_NO_TABLE = np.empty(0, np.float32)
_TILE = 16  # float32 in a cache line


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
    starts, ends = bins([*view.shape, 1][:3], out.shape)
    along = order[-1]
    # The voxel of each bin at each step of the sum; behind a bin's end the zero after the line.
    steps = starts[along] + np.arange((ends[along] - starts[along]).max())[:, None]
    places = np.where(steps < ends[along], steps, view.shape[along]).astype(np.int32)
    table = _NO_TABLE if table is None else table
    _area_exact(memory.reshape(-1), offset, strides, along, starts, ends, places, table, first, out)
    return out.reshape(size)


def area_fast(view: np.ndarray, size: Sequence[int], *, low: float, high: float) -> np.ndarray:
    """(*size) float32 from a (H, W) or (H, W, D) view clipped to `low` and `high`, less `low`; in any order."""
    memory, order, flipped = in_memory_order(view)
    volume = memory.reshape((1, *memory.shape)[-3:])
    # Windows lie the same from both ends, so the small result is turned instead of the image.
    out = np.empty([size[axis] for axis in order], np.float32)
    solid = out.reshape((1, *out.shape)[-3:])
    _area_fast(volume, *bins(volume.shape, solid.shape), np.float32(low), np.float32(high), solid)
    turned: np.ndarray = out[_turn(flipped)].transpose(np.argsort(order))
    return turned


def in_memory_order(view: np.ndarray) -> tuple[np.ndarray, list[int], list[bool]]:
    """A view's voxels as a read-only C-contiguous array; the view's axis of each of its axes; which run backwards."""
    order = [int(axis) for axis in np.argsort([-abs(stride) for stride in view.strides], kind="stable")]
    flipped = [view.strides[axis] < 0 for axis in order]
    memory = np.ascontiguousarray(view.transpose(order)[_turn(flipped)]).view()
    memory.flags.writeable = False  # one kind of array, one compilation
    return memory, order, flipped


def bins(shape: Sequence[int], size: Sequence[int]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Where the bins of each axis start and end, when (*shape) voxels become (*size)."""
    starts = tuple(np.arange(m) * n // m for n, m in zip(shape, size, strict=True))
    ends = tuple(-(-np.arange(1, m + 1) * n // m) for n, m in zip(shape, size, strict=True))
    return starts, ends


def bin_size(shape: Sequence[int], size: Sequence[int]) -> int:
    """The most voxels that a bin has."""
    starts, ends = bins(shape, size)
    return int(np.prod([(end - start).max() for start, end in zip(starts, ends, strict=True)]))


def _turn(flipped: Sequence[bool]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in flipped)


@compiled()
def _area_exact(flat, offset, strides, along, starts, ends, places, table, first, out):  # type: ignore[no-untyped-def]
    """Adds up each bin in float32, the last axis fastest, and divides by its lengths in turn, as torch does.

    along: the axis that is contiguous in memory. All bins along it are summed at once: each in torch's
    order, and none waits for another.
    """
    p, q = (1, 2) if along == 0 else (0, 2) if along == 1 else (0, 1)
    length, count = ends[along][-1], out.shape[along]
    lines = np.zeros(((ends[p] - starts[p]).max(), (ends[q] - starts[q]).max(), length + 1), np.float32)
    widths = (ends[along] - starts[along]).astype(np.float32)
    # A tile of results fills whole cache lines of `out`, and takes its voxels from few pages of memory.
    tile = out.shape[q] if along == 2 else _TILE
    block = np.empty((tile, count), np.float32)
    for b0 in range(0, out.shape[q], tile):
        b1 = min(b0 + tile, out.shape[q])
        for a in range(out.shape[p]):
            for b in range(b0, b1):
                num_u, num_v, sums = ends[p][a] - starts[p][a], ends[q][b] - starts[q][b], block[b - b0]
                for u in range(num_u):
                    for v in range(num_v):
                        place = offset + (starts[p][a] + u) * strides[p] + (starts[q][b] + v) * strides[q]
                        _read_line(flat, place, strides[along], table, first, lines[u, v, :length])
                sums[:] = 0
                if along == 0:
                    for i in range(places.shape[0]):
                        for u in range(num_u):
                            for v in range(num_v):
                                _add_places(sums, lines[u, v], places[i])
                    sums[:] = sums / widths / np.float32(num_u) / np.float32(num_v)
                elif along == 1:
                    for u in range(num_u):
                        for i in range(places.shape[0]):
                            for v in range(num_v):
                                _add_places(sums, lines[u, v], places[i])
                    sums[:] = sums / np.float32(num_u) / widths / np.float32(num_v)
                else:
                    for u in range(num_u):
                        for v in range(num_v):
                            for i in range(places.shape[0]):
                                _add_places(sums, lines[u, v], places[i])
                    sums[:] = sums / np.float32(num_u) / np.float32(num_v) / widths
            if along == 2:
                out[a] = block
                continue
            for c in range(count):
                for b in range(b0, b1):
                    if along == 0:
                        out[c, a, b] = block[b - b0, c]
                    else:
                        out[a, c, b] = block[b - b0, c]


@compiled()
def _add_places(sums, line, places):  # type: ignore[no-untyped-def]
    """Adds one voxel to each bin."""
    for c in range(sums.size):
        sums[c] += line[np.uint32(places[c])]


@compiled()
def _read_line(flat, place, step, table, first, line):  # type: ignore[no-untyped-def]
    """Writes neighbouring voxels as float32, through the table if there is one."""
    if table.size > 0:
        for i in range(line.size):
            line[i] = table[np.uint32(np.int64(flat[place + i * step]) - first)]
    else:
        for i in range(line.size):
            line[i] = np.float32(flat[place + i * step])


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
