"""Aligns pairs of thumbnails (crop, scale) and scores their similarity.

The fine structure counts: what is left when a blurred copy is taken away, divided by its own local strength. Two
scans of different people share anatomy, which is coarse; texture and noise they do not share.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

# Standard deviations of the blurs, in cells of the miniature: the coarse one first, to find the way.
COARSE, MIDDLE, FINE = 3.0, 1.5, 1.0
_COARSE_STEPS, _MIDDLE_STEPS = 4, 5
# Pairs that are less alike than this when the coarse structure fits are not looked at any further. Of synthetic copies
# with noise, cropped by 5 % and resized, the least alike had 0.83; of other people's pairs, 80 of 100 had less (MR).
_WORTH_IT = 0.75
# Local strengths below this, in grey levels of 0..1, are not raised to one: they are rounding. With 0.01 the edges of
# air count for more in CT, and other people were alike by 0.83 instead of 0.79.
_FLOOR = 0.003
# How far a crop may move an edge, as a share of the field of view.
MAX_MOVE = 0.12
_STEP = 0.004
_EPS = 1e-9


def likeness(firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """(P,) float64 correlations, 1 for the same image; 0 where the coarse structure differs already.

    firsts, seconds: (P, 48, 48) or (P, 24, 24, 8) uint8. Each first one is moved and stretched along each axis by up to
    `MAX_MOVE`, so that it fits the second one (Gauss-Newton on the squared difference of the standardised images; Baker
    and Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd), and what lies within both is correlated.
    """
    edges = np.tile(np.array([0.0, 1.0]), (len(firsts), firsts.ndim - 1))  # (P, 2 * axes): where each axis begins, ends
    first, second = structure(firsts, COARSE), structure(seconds, COARSE)
    for _ in range(_COARSE_STEPS):
        edges = _improved(first, second, edges)
    found = np.zeros(len(firsts))
    kept = np.flatnonzero(_correlation(first, second, edges) >= _WORTH_IT)
    if kept.size:
        found[kept] = _fine_likeness(firsts[kept], seconds[kept], edges[kept])
    return found


def _fine_likeness(firsts: np.ndarray, seconds: np.ndarray, edges: np.ndarray) -> np.ndarray:
    first, second = structure(firsts, MIDDLE), structure(seconds, MIDDLE)
    for _ in range(_MIDDLE_STEPS):
        edges = _improved(first, second, edges)
    first, second = structure(firsts, FINE), structure(seconds, FINE)
    unmoved = np.tile(np.array([0.0, 1.0]), (len(firsts), firsts.ndim - 1))
    return np.maximum(_correlation(first, second, edges), _correlation(first, second, unmoved))


def structure(miniatures: np.ndarray, width: float) -> np.ndarray:
    """The structure finer than a blur of `width` cells, locally normalised; (P, ...) uint8 to float32."""
    values = miniatures.astype(np.float32) / 255
    widths = [0.0, *(width * length / miniatures.shape[1] for length in miniatures.shape[1:])]
    fine = values - gaussian_filter(values, widths)
    strength = np.sqrt(gaussian_filter(fine * fine, [2 * one for one in widths]))
    return np.asarray(fine / (strength + _FLOOR))


def _improved(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """One step of Gauss and Newton, damped; a step that makes it worse is not taken."""
    moved, target = _standardised(first, second, edges)
    slopes = []
    for number in range(edges.shape[1]):
        other = edges.copy()
        other[:, number] += _STEP
        slopes.append((_standardised(first, second, other)[0] - moved) / _STEP)
    jacobian = np.stack(slopes, axis=2)  # (P, cells, 2 * axes)
    square = np.einsum("pci,pcj->pij", jacobian, jacobian)
    square += np.eye(edges.shape[1]) * (1e-2 * np.trace(square, axis1=1, axis2=2)[:, None, None] + _EPS)
    right = np.einsum("pci,pc->pi", jacobian, target - moved)
    step = np.clip(np.linalg.solve(square, right[..., None])[..., 0], -0.04, 0.04)
    home = np.tile(np.array([0.0, 1.0]), edges.shape[1] // 2)
    tried = np.clip(edges + step, home - MAX_MOVE, home + MAX_MOVE)
    better = _correlation(first, second, tried) > _correlation(first, second, edges)
    return np.where(better[:, None], tried, edges)


def _moved(images: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images between the edges, as large as before, and which cells lie within them: both (P, cells)."""
    inside = np.ones((len(images), *(1,) * (images.ndim - 1)), dtype=bool)
    for axis in range(images.ndim - 1):
        length = images.shape[axis + 1]
        low, high = edges[:, 2 * axis, None], edges[:, 2 * axis + 1, None]
        place = (low + (high - low) * (np.arange(length) + 0.5) / length) * length - 0.5  # (P, length)
        start = np.floor(place)
        weight = (place - start).astype(np.float32)
        below = np.clip(start, 0, length - 1).astype(np.int64)
        above = np.clip(start + 1, 0, length - 1).astype(np.int64)
        shape = [len(images), *(length if other == axis else 1 for other in range(images.ndim - 1))]
        lower = np.take_along_axis(images, below.reshape(shape), axis + 1)
        upper = np.take_along_axis(images, above.reshape(shape), axis + 1)
        images = lower + weight.reshape(shape) * (upper - lower)
        inside = inside & ((place >= -0.5) & (place <= length - 0.5)).reshape(shape)
    return images.reshape(len(images), -1), np.broadcast_to(inside, images.shape).reshape(len(images), -1)


def _standardised(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, (P, cells), with mean 0 and length 1 over what lies within both; 0 elsewhere."""
    moved, inside = _moved(first, edges)
    return _unit(moved, inside), _unit(second.reshape(len(second), -1), inside)


def _unit(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    centred = np.where(inside, values - (values * inside).sum(axis=1, keepdims=True) / count, 0)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + _EPS))


def _correlation(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> np.ndarray:
    moved, target = _standardised(first, second, edges)
    return np.einsum("pc,pc->p", moved, target, dtype=np.float64)


def directions(miniature: np.ndarray) -> Sequence[np.ndarray]:
    """A miniature in each orientation of its axes: 8 of a slice, 16 of a volume (its last axis stays last)."""
    turned = [miniature, miniature.swapaxes(0, 1)]
    for axis in range(miniature.ndim):
        turned += [np.flip(one, axis) for one in turned]
    return turned
