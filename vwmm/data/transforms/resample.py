"""Resampling and area resize in one pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vwmm.data.transforms.area_resize import bins, in_memory_order
from vwmm.data.transforms.jit import compiled


def respace_area(
    view: np.ndarray,
    coordinates: Sequence[np.ndarray],
    size: Sequence[int],
    *,
    low: float,
    high: float,
    has_moments: bool = True,
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """(*size) float32: linear between voxels, clipped to `low` and `high`, less `low`, then the mean of each bin.

    view: (H, W) or (H, W, D). coordinates: where the respaced image samples each axis, in voxels. Also returns the
    respaced, clipped image's smallest and largest value, and its mean and standard deviation where `has_moments`, all
    less `low`.
    """
    memory, order, flipped = in_memory_order(view)
    volume = memory.reshape((1, *memory.shape)[-3:])
    out = np.zeros([size[axis] for axis in order], np.float32)
    places = [np.zeros(1)] * (3 - view.ndim)
    for axis, is_flipped in zip(order, flipped, strict=True):
        places.append(view.shape[axis] - 1 - coordinates[axis] if is_flipped else coordinates[axis])
    below = tuple(np.floor(place).astype(np.int64) for place in places)
    share = tuple((place - index).astype(np.float32) for place, index in zip(places, below, strict=True))
    solid = out.reshape((1, *out.shape)[-3:])
    starts, ends = bins([len(place) for place in places], solid.shape)
    limits = np.float32(low), np.float32(high)
    smallest, largest, mean, deviation = _respace_area(
        volume, below, share, starts[2], ends[2], *limits, has_moments, solid
    )
    lengths = [(end - start).astype(np.float32) for start, end in zip(starts, ends, strict=True)]
    solid /= lengths[0][:, None, None] * lengths[1][:, None] * lengths[2]
    return out.transpose(np.argsort(order)), (smallest, largest), (mean, deviation)


@compiled(fastmath=True)
def _blend_planes(volume, i, after, f, low, plane):  # type: ignore[no-untyped-def]
    """Writes what lies between two planes."""
    for j in range(plane.shape[0]):
        for k in range(plane.shape[1]):
            value = np.float32(volume[i, j, k]) - low
            plane[j, k] = value + (np.float32(volume[after, j, k]) - low - value) * f


@compiled(fastmath=True)
def _blend_rows(one, other, f, row):  # type: ignore[no-untyped-def]
    """Writes what lies between two rows."""
    for k in range(row.size):
        row[k] = one[k] + (other[k] - one[k]) * f


@compiled(fastmath=True)
def _add_between(row, below, share, fine):  # type: ignore[no-untyped-def]
    """Adds what lies between neighbours of the row."""
    last = row.size - 1
    for c in range(fine.size):
        k = below[c]
        fine[c] += row[k] + (row[min(k + 1, last)] - row[k]) * share[c]


@compiled(fastmath=True)
def _add_bins(fine, starts, ends, out):  # type: ignore[no-untyped-def]
    """Adds the sum of each bin."""
    for o in range(out.size):
        total = np.float32(0)
        for c in range(starts[o], ends[o]):
            total += fine[c]
        out[o] += total


@compiled(fastmath=True)
def _add_to_rows(row, first, last, rows):  # type: ignore[no-untyped-def]
    """Adds the row to each of the rows from `first` to `last`."""
    for o in range(first, last + 1):
        for k in range(row.size):
            rows[o, k] += row[k]


@compiled(fastmath=True)
def _add_slab(slab, bent, has_bent, starts, ends, rows, out):  # type: ignore[no-untyped-def]
    """Adds the rows of a plane that are blended later, and the bins of those that are blended already."""
    for b in range(slab.shape[0]):
        for k in range(slab.shape[1]):
            rows[b, k] += slab[b, k]
        if has_bent:
            _add_bins(bent[b], starts, ends, out[b])


@compiled(fastmath=True)
def _clip(row, highest):  # type: ignore[no-untyped-def]
    """Clips the row to 0 and the highest value."""
    for c in range(row.size):
        row[c] = min(max(row[c], np.float32(0)), highest)


@compiled()
def _bounds(bits):  # type: ignore[no-untyped-def]
    """The smallest and largest of float32 values, as their bits in int32, which the compiler takes eight at a time.

    Bits are in the order of the values, but for those below zero: there only the sign of the smallest is right.
    """
    smallest = largest = bits[0]
    for k in range(bits.size):
        smallest, largest = min(smallest, bits[k]), max(largest, bits[k])
    return smallest, largest


@compiled(fastmath=True)
def _respace_area(volume, below, share, starts, ends, low, high, has_moments, out):  # type: ignore[no-untyped-def]
    """Blends two planes, two rows of the blend, and neighbours in the row.

    The last blend and the bin's sum commute, so most rows are added up before they are blended. Not those which may
    hold a new smallest or largest value, or one to be clipped, and none where the squares are needed.
    """
    (na, nb, nc), (ma, mb) = volume.shape, out.shape[:2]
    la, lb, lc = below[0].size, below[1].size, below[2].size
    plane, row, fine = np.empty((nb, nc), np.float32), np.empty(nc, np.float32), np.empty(lc, np.float32)
    rows, bent = np.zeros((ma, mb, nc), np.float32), np.empty((mb, lc), np.float32)
    slab = np.empty((mb, nc), np.float32)
    row_bits, fine_bits = row.view(np.int32), fine.view(np.int32)
    ends_of = np.array([high - low, np.float32(0)], np.float32)  # smallest and largest so far
    end_bits = ends_of.view(np.int32)
    total, squares = 0.0, 0.0
    for a in range(la):
        _blend_planes(volume, below[0][a], min(below[0][a] + 1, na - 1), share[0][a], low, plane)
        slab[:], bent[:], has_bent = 0, 0, False
        for b in range(lb):
            j = below[1][b]
            _blend_rows(plane[j], plane[min(j + 1, nb - 1)], share[1][b], row)
            smallest, largest = _bounds(row_bits)
            first, last = (b * mb) // lb, ((b + 1) * mb - 1) // lb
            if smallest >= end_bits[0] and largest <= end_bits[1] and not has_moments:
                _add_to_rows(row, first, last, slab)
                continue
            fine[:] = 0
            _add_between(row, below[2], share[2], fine)
            _clip(fine, high - low)
            smallest, largest = _bounds(fine_bits)
            end_bits[0], end_bits[1] = min(max(smallest, 0), end_bits[0]), max(largest, end_bits[1])
            if has_moments:
                row_total: Any = np.float32(0)
                row_squares: Any = np.float32(0)
                for c in range(lc):
                    row_total += fine[c]
                    row_squares += fine[c] * fine[c]
                total += row_total
                squares += row_squares
            _add_to_rows(fine, first, last, bent)
            has_bent = True
        for o in range((a * ma) // la, ((a + 1) * ma - 1) // la + 1):
            _add_slab(slab, bent, has_bent, starts, ends, rows[o], out[o])
    for a in range(ma):
        for b in range(mb):
            fine[:] = 0
            _add_between(rows[a, b], below[2], share[2], fine)
            _add_bins(fine, starts, ends, out[a, b])
    mean = total / (la * lb * lc)
    return ends_of[0], ends_of[1], mean, np.sqrt(max(squares / (la * lb * lc) - mean * mean, 0.0))
