"""Augmentation on a CPU as one compiled loop without a grid tensor.

The same formulas as `augment.apply_on_device`, which is what a GPU runs and what the tests compare this with.
"""

import math

import numpy as np
from numba import njit

from vwmm.data.transforms.jit import compiled

# splitmix64 (Steele, Lea and Flood 2014): the noise of a voxel follows from a key and its position alone.
_GOLDEN, _MIX_1, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S16 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(16)
_LOW_16 = np.uint64(0xFFFF)
# Eight uniform 16-bit numbers have this mean and standard deviation; their sum is normal to the eye (kurtosis 2.85).
_SUM_MEAN, _SUM_STD = 8 * 32767.5, math.sqrt(8 * (65536.0**2 - 1) / 12)


@njit(inline="always")
def _mixed(x):  # type: ignore[no-untyped-def]  # compiled by numba
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@njit(inline="always")
def _sum_16(bits):  # type: ignore[no-untyped-def]  # compiled by numba
    return (
        np.float32(bits & _LOW_16)
        + np.float32((bits >> _S16) & _LOW_16)
        + np.float32((bits >> (_S16 + _S16)) & _LOW_16)
        + np.float32(bits >> (_S16 + _S16 + _S16))
    )


@njit(inline="always")
def _normal(key, position):  # type: ignore[no-untyped-def]  # compiled by numba
    """A number that is normal to good approximation, from a key and a position."""
    bits = key + np.uint64(2 * position + 1) * _GOLDEN
    total = _sum_16(_mixed(bits)) + _sum_16(_mixed(bits + _GOLDEN))
    return np.float32((total - _SUM_MEAN) / _SUM_STD)


@compiled(fastmath=True)
def _place(start, step, slices, length, stride, corners, shares):  # type: ignore[no-untyped-def]
    """Adds the lower neighbour's place along one axis to `corners`, and writes the share of the upper one."""
    last, highest = length - 1.0, np.int32(max(length - 2, 0))
    for z in range(slices.size):
        position = min(max(start + step * slices[z], 0.0), last)
        lower = min(np.int32(position), highest)
        corners[z] += lower * stride
        shares[z] = np.float32(position - lower)


@compiled(fastmath=True)
def _sample(flat, corners, shares, up, right, deep, line):  # type: ignore[no-untyped-def]
    """Writes a row of samples, linear between the eight neighbours. up, right, deep: steps to the next on each axis."""
    for z in range(line.size):
        corner = np.uint32(corners[z])
        a, a1 = flat[corner], flat[corner + deep]
        b, b1 = flat[corner + right], flat[corner + right + deep]
        c, c1 = flat[corner + up], flat[corner + up + deep]
        d, d1 = flat[corner + up + right], flat[corner + up + right + deep]
        fz = shares[2, z]
        a += (a1 - a) * fz
        b += (b1 - b) * fz
        c += (c1 - c) * fz
        d += (d1 - d) * fz
        a += (b - a) * shares[1, z]
        c += (d - c) * shares[1, z]
        line[z] = a + (c - a) * shares[0, z]


@compiled()
def _is_straight(matrix, rows, columns, slices):  # type: ignore[no-untyped-def]
    """Whether each voxel comes from a voxel: nothing is turned, scaled, shifted or coarsened, mirrored at most."""
    for axis in range(3):
        for other in range(3):
            if abs(matrix[axis, other]) != (1.0 if axis == other else 0.0):
                return False
    return rows[0] == 0 and columns[0] == 0 and slices[0] == 0 and _last(rows) and _last(columns) and _last(slices)


@compiled()
def _last(coordinates):  # type: ignore[no-untyped-def]
    return coordinates[-1] == coordinates.size - 1


@compiled(fastmath=True)
def _change(line, field, low, span, gamma, gain, shift):  # type: ignore[no-untyped-def]
    """Bias field, gamma, gain and shift of a row."""
    if field.size > 0:
        for z in range(line.size):
            line[z] = low + (line[z] - low) * field[z]
    if gamma != 1.0 and span > 0:
        for z in range(line.size):
            share = min(max((line[z] - low) / span, np.float32(0)), np.float32(1))
            line[z] = low + span * share**gamma
    for z in range(line.size):
        line[z] = line[z] * gain + shift


@compiled()
def _add_noise(line, deviation, key, place):  # type: ignore[no-untyped-def]
    """Adds each voxel's own noise to a row; place: position of its first voxel in the image."""
    for z in range(line.size):
        line[z] += deviation * _normal(key, place + z)


@compiled()
def warp(image, out, matrix, rows, columns, slices, field, gamma, bounds, gain, shift, noise, key):  # type: ignore[no-untyped-def]
    """Writes the augmented `image` to `out`, both (H, W, D) float32 and C-contiguous; a slice is (1, H, W).

    matrix: (3, 4) float64, output to input voxels. rows, columns, slices: the (perhaps coarsened) output coordinates of
    each axis, float64. field: three float32 vectors, multiplied to the bias field, or empty ones. gamma: 1 for none,
    between `bounds`, the image's minimum and maximum. gain, shift: intensity. noise: standard deviation, 0 for none.
    """
    height, width, depth = image.shape
    flat, is_straight = image.reshape(-1), _is_straight(matrix, rows, columns, slices)
    low, span = np.float32(bounds[0]), np.float32(bounds[1] - bounds[0])
    is_changed = field[0].size > 0 or gamma != 1.0 or gain != 1.0 or shift != 0.0
    row_field = field[2].copy()
    corners, shares = np.empty(depth, np.int32), np.empty((3, depth), np.float32)
    strides = (np.int32(width * depth), np.int32(depth), np.int32(1))
    up, right, deep = np.uint32(height > 1) * strides[0], np.uint32(width > 1) * strides[1], np.uint32(depth > 1)
    for x in range(height):
        for y in range(width):
            line = out[x, y]
            if is_straight:
                from_row = image[x if matrix[0, 0] > 0 else height - 1 - x, y if matrix[1, 1] > 0 else width - 1 - y]
                line[:] = from_row if matrix[2, 2] > 0 else from_row[::-1]
            else:
                corners[:] = 0
                for axis in range(3):
                    start = matrix[axis, 0] * rows[x] + matrix[axis, 1] * columns[y] + matrix[axis, 3]
                    _place(start, matrix[axis, 2], slices, image.shape[axis], strides[axis], corners, shares[axis])
                _sample(flat, corners, shares, np.uint32(up), np.uint32(right), np.uint32(deep), line)
            if is_changed:
                if row_field.size > 0:
                    row_field[:] = field[0][x] * field[1][y] * field[2]
                _change(line, row_field, low, span, np.float32(gamma), np.float32(gain), np.float32(shift))
            if noise > 0:
                _add_noise(line, np.float32(noise), key, (x * width + y) * depth)
