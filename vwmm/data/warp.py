"""The compiled loop of augmentation on a CPU: every voxel is computed once, without a grid tensor.

The same formulas as `augment.apply_on_device`, which is what a GPU runs and what the tests compare this with.
"""

import math

import numpy as np
from numba import njit

from vwmm.data.compiled import compiled

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


@compiled()
def warp(image, out, matrix, rows, columns, slices, field, gamma, bounds, gain, shift, noise, key):  # type: ignore[no-untyped-def]
    """Writes the augmented `image` to `out`, both (H, W, D) float32; a 2D image has D = 1.

    matrix: (3, 4) float64, output to input voxels. rows, columns, slices: the (perhaps coarsened) output coordinates of
    each axis, float64. field: three float32 vectors whose product is the bias field, or empty ones. gamma: 1 for none,
    between `bounds`, the image's minimum and maximum. gain, shift: intensity. noise: standard deviation, 0 for none.
    """
    height, width, depth = image.shape
    has_field = field[0].size > 0
    low, span = np.float32(bounds[0]), np.float32(bounds[1] - bounds[0])
    for x in range(height):
        for y in range(width):
            base_x = matrix[0, 0] * rows[x] + matrix[0, 1] * columns[y] + matrix[0, 3]
            base_y = matrix[1, 0] * rows[x] + matrix[1, 1] * columns[y] + matrix[1, 3]
            base_z = matrix[2, 0] * rows[x] + matrix[2, 1] * columns[y] + matrix[2, 3]
            for z in range(depth):
                sx = min(max(base_x + matrix[0, 2] * slices[z], 0.0), height - 1.0)
                sy = min(max(base_y + matrix[1, 2] * slices[z], 0.0), width - 1.0)
                sz = min(max(base_z + matrix[2, 2] * slices[z], 0.0), depth - 1.0)
                x0, y0, z0 = int(sx), int(sy), int(sz)
                x1, y1, z1 = min(x0 + 1, height - 1), min(y0 + 1, width - 1), min(z0 + 1, depth - 1)
                fx, fy, fz = np.float32(sx - x0), np.float32(sy - y0), np.float32(sz - z0)
                a = image[x0, y0, z0] + (image[x0, y0, z1] - image[x0, y0, z0]) * fz
                b = image[x0, y1, z0] + (image[x0, y1, z1] - image[x0, y1, z0]) * fz
                c = image[x1, y0, z0] + (image[x1, y0, z1] - image[x1, y0, z0]) * fz
                d = image[x1, y1, z0] + (image[x1, y1, z1] - image[x1, y1, z0]) * fz
                a += (b - a) * fy
                c += (d - c) * fy
                value = a + (c - a) * fx
                if has_field:
                    value = low + (value - low) * (field[0][x] * field[1][y] * field[2][z])
                if gamma != 1.0 and span > 0:
                    share = min(max((value - low) / span, np.float32(0)), np.float32(1))
                    value = low + span * share ** np.float32(gamma)
                value = value * np.float32(gain) + np.float32(shift)
                if noise > 0:
                    value += np.float32(noise) * _normal(key, (x * width + y) * depth + z)
                out[x, y, z] = value
