"""A hash of the voxels and a thumbnail of an image in any format.

Formats differ in the order and the direction of the axes and in the type of the voxels. Neither changes the hash; the
miniature is compared in each direction that it may lie in.
"""

import hashlib

import numpy as np

MINIATURE = {2: (48, 48), 3: (24, 24, 8)}
# Values outside these percentiles, such as metal or a few hot voxels, would leave no grey levels to the rest.
_CLIPPED = (1.0, 99.0)
_NUM_SAMPLES = 200_000
# Of the way from the darkest to the brightest values.
_BRIGHT = 0.85


def voxel_hash(voxels: np.ndarray) -> str:
    """32 digits that are equal for images of the same values, whichever way their axes are ordered or flipped.

    voxels: (X, Y) or (X, Y, Z). As float32, each axis is turned so that its sums over the other axes begin with the
    smaller one, and the axes are sorted by length and sums. The sums are of the bit patterns as integers, so they do
    not depend on the order of addition. An image that is symmetric in its sums but not in itself (none is known) would
    only be missed.
    """
    values = np.squeeze(np.asarray(voxels)).astype(np.float32, order="K") + np.float32(0)  # + 0: no negative zero
    bits = np.atleast_1d(values).view(np.uint32)
    sums = []
    for axis in range(bits.ndim):
        profile = bits.sum(axis=tuple(other for other in range(bits.ndim) if other != axis), dtype=np.uint64).tolist()
        if profile[::-1] < profile:
            bits, profile = np.flip(bits, axis), profile[::-1]
        sums.append((len(profile), profile))
    order = sorted(range(bits.ndim), key=lambda axis: sums[axis])
    bits = np.ascontiguousarray(bits.transpose(order))
    return hashlib.sha256(repr(bits.shape).encode() + bits.tobytes()).hexdigest()[:32]


def miniature_of(voxels: np.ndarray) -> np.ndarray:
    """(48, 48) or (24, 24, 8) uint8: means over equal parts of the field of view, 0 to 255 for the middle 98 %.

    The axis with the fewest voxels comes last. The values are sums of parts of voxels, so neither a resampling nor a
    linear change of the values shows in them.
    """
    squeezed = np.atleast_2d(np.squeeze(voxels))
    if squeezed.ndim == 3:
        fewest = min(range(3), key=lambda axis: (squeezed.shape[axis], -axis))
        squeezed = np.moveaxis(squeezed, fewest, 2)
    small = squeezed.astype(np.float32)
    for axis, length in enumerate(MINIATURE[squeezed.ndim]):
        small = np.moveaxis(np.tensordot(part_means(small.shape[axis], length), small, (1, axis)), 0, axis)
    low, high = np.percentile(small, _CLIPPED)
    scaled = (small - low) / (high - low) if high > low else np.zeros_like(small)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def part_means(length: int, parts: int) -> np.ndarray:
    """(parts, length) float32: the mean over each of as many equal parts of an axis; a voxel may belong to several."""
    edges = np.linspace(0, length, parts + 1)
    starts = np.arange(length)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return (np.clip(overlap, 0, None) * (parts / length)).astype(np.float32)


def levels_of(voxels: np.ndarray) -> tuple[float, float, float, float, float]:
    """Minimum, 0.5 % and 99.5 % percentiles and maximum, then the share of voxels between -1100 and -900 (air in HU).

    The percentiles and the share are of at most 200,000 voxels, evenly taken.
    """
    flat = voxels.reshape(-1, order="A")
    sample = flat[:: 1 + flat.size // _NUM_SAMPLES].astype(np.float32)
    low, high = np.percentile(sample, (0.5, 99.5))
    air = float(np.mean((sample > -1100) & (sample < -900)))
    return float(flat.min()), float(low), float(high), float(flat.max()), air


def bright_border_of(voxels: np.ndarray) -> float:
    """The share of the outermost voxels of rows and columns that are nearly as bright as the image's brightest.

    voxels: (X, Y) or (X, Y, Z), the axis with the fewest voxels being the slices.
    """
    squeezed = np.atleast_2d(np.squeeze(voxels))
    if squeezed.ndim == 3:
        squeezed = np.moveaxis(squeezed, min(range(3), key=lambda axis: (squeezed.shape[axis], -axis)), 2)
    _, low, high, _, _ = levels_of(squeezed)
    edges = [squeezed[[0, -1]].reshape(-1), squeezed[1:-1, [0, -1]].reshape(-1)]
    return float(np.mean(np.concatenate(edges) >= low + _BRIGHT * (high - low))) if high > low else 0.0
