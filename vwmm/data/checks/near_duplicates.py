"""Nearly identical images of different patients.

In two steps, because all pairs are many. A signature of each image, of middle-sized structures, is compared with all
others; its best partners are then aligned and judged by their fine structure.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from vwmm.data.checks.registration import directions, likeness

# The correlation, after alignment, from which a pair counts. Of the pairs that resemble each other most in synthetic
# cohorts of 300 - people of the same sketched anatomy, more alike than real ones - the highest was 0.807. The least
# alike copies: 0.97 resized, 0.86 cropped by 3 % on each side, 0.93 by 3 % on one side, 0.89 with noise of 1 % of the
# range.
THRESHOLD = 0.85
# Partners of each image that are looked at closely if they choose it as well, and the least correlation of signatures.
_NUM_PARTNERS, _LEAST = 2, 0.8
# Of an image that has a copy, so many are looked at: there may be more of the same.
_NUM_OF_COPIED = 40
# A signature of this much less of the field of view on each side matches one of a cropped copy.
_CROPS = (0.0, 0.015, 0.03)
_CELLS, _BLUR, _SLICE_BLUR = 24, 2.0, 0.6
# With fewer images their common part cannot be distinguished from their own.
_MIN_FOR_MEAN = 12
# Above it, all pairs in all directions take too long: then images are compared as they lie, uncropped.
MANY = 4000
_ROWS = 512
_PAIRS_PER_JOB = 48
# Above MANY: rows at once, the main directions of the signatures, and how many images these are taken from.
_BOUNDED_ROWS, _NUM_MAIN, _NUM_SAMPLED = 128, 256, 1024
# Of a correlation in float32, from signatures kept in float16.
_ROUNDING = 1e-3


Pair = tuple[int, int]
"""Two images, the smaller number first."""
Candidate = tuple[int, int, int]
"""An image, another one, and the direction in which the first matches it."""


@dataclass(frozen=True)
class PairJob:
    """Pairs to be judged."""

    numbers: tuple[tuple[int, int], ...]
    """Of each pair, the two images."""
    firsts: np.ndarray
    """(P, ...) uint8, already turned."""
    seconds: np.ndarray
    """(P, ...) uint8."""


def judge(job: PairJob) -> np.ndarray:
    """(P,) float64: how alike the images of each pair are."""
    return likeness(job.firsts, job.seconds)


def pair_jobs(
    miniatures: np.ndarray, patients: Sequence[str], *, copied: Collection[int] = (), judged: Collection[Pair] = ()
) -> list[PairJob]:
    """The pairs of different patients that are worth a closer look.

    miniatures: (N, ...) uint8; patients: N names. copied: numbers of images that have a copy: of these the pairs with
    many others, less those that were `judged` already, are given instead.
    """
    return jobs_of(miniatures, candidates(miniatures, patients, copied=copied, judged=judged))


def candidates(
    miniatures: np.ndarray, patients: Sequence[str], *, copied: Collection[int] = (), judged: Collection[Pair] = ()
) -> list[Candidate]:
    """The same as `pair_jobs`, as pairs in order."""
    owners = np.unique(patients, return_inverse=True)[1]
    return [one for one in sorted(_candidates(miniatures, owners, copied)) if as_pair(*one[:2]) not in judged]


def jobs_of(miniatures: np.ndarray, pairs: Sequence[Candidate]) -> list[PairJob]:
    """The pairs in parts of a size for a worker process."""
    jobs = []
    for start in range(0, len(pairs), _PAIRS_PER_JOB):
        part = pairs[start : start + _PAIRS_PER_JOB]
        firsts = np.stack([directions(miniatures[first])[way] for first, _, way in part])
        seconds = miniatures[[second for _, second, _ in part]]
        jobs.append(PairJob(tuple((first, second) for first, second, _ in part), firsts, seconds))
    return jobs


def near_pairs(judged: Iterable[tuple[PairJob, np.ndarray]]) -> dict[Pair, float]:
    """The pairs of images, smaller number first, that are alike enough to be reported, and how alike they are."""
    best: dict[Pair, float] = {}
    for job, values in judged:
        for (first, second), value in zip(job.numbers, values.tolist(), strict=True):
            if value >= THRESHOLD:
                pair = as_pair(first, second)
                best[pair] = max(value, best.get(pair, 0.0))
    return dict(sorted(best.items()))


def as_pair(first: int, second: int) -> Pair:
    """Two images as their pair."""
    return min(first, second), max(first, second)


def _candidates(miniatures: np.ndarray, owners: np.ndarray, copied: Collection[int]) -> set[tuple[int, int, int]]:
    """(image, partner, direction in which the image matches it) of each image's best partners, or of each copied one's.

    Without `copied`: of those that choose each other.
    """
    wanted, num_partners = (sorted(copied), _NUM_OF_COPIED) if copied else (range(len(miniatures)), _NUM_PARTNERS)
    search = _partners if len(miniatures) <= MANY else _partners_of_many
    found = search(miniatures, owners, wanted, num_partners)
    # Copies choose each other; of those that do, one side's direction is enough.
    chosen = {(first, second) for first, second, _ in found}
    if copied:
        return {one for one in found if one[0] < one[1] or (one[1], one[0]) not in chosen}
    return {one for one in found if one[0] < one[1] and (one[1], one[0]) in chosen}


def _partners(
    miniatures: np.ndarray, owners: np.ndarray, wanted: Sequence[int], num_partners: int
) -> set[tuple[int, int, int]]:
    """(image, partner, direction) of the best partners of each wanted image, in all directions and crops."""
    count = len(miniatures)
    grids = np.stack([_grid(miniatures, crop) for crop in _CROPS])  # (crops, N, 24, 24[, 8])
    mean = grids[0].mean(axis=0) if count >= _MIN_FOR_MEAN else np.zeros_like(grids[0, 0])
    plain = [_signatures(grid - mean) for grid in grids]
    found: set[tuple[int, int, int]] = set()
    ways = len(directions(miniatures[0])) if count else 0
    for start in range(0, len(wanted), _ROWS):
        rows = np.array(wanted[start : start + _ROWS])
        best = np.full((ways, len(rows), count), -1, np.float32)
        for way in range(ways):
            turned = [_signatures(np.stack([directions(one)[way] for one in grid[rows]]) - mean) for grid in grids]
            for number in range(len(_CROPS)):
                for own, other in {(number, 0), (0, number)}:
                    np.maximum(best[way], turned[own] @ plain[other].T, out=best[way])
        way_of, value = best.argmax(axis=0), best.max(axis=0)
        value[owners[rows, None] == owners[None]] = -1
        partners = np.argsort(-value, axis=1, kind="stable")[:, :num_partners]
        for row, others in enumerate(partners.tolist()):
            found |= {
                (int(rows[row]), other, int(way_of[row, other])) for other in others if value[row, other] >= _LEAST
            }
    return found


def _partners_of_many(
    miniatures: np.ndarray, owners: np.ndarray, wanted: Sequence[int], num_partners: int
) -> set[tuple[int, int, int]]:
    """The same for images as they lie, uncropped.

    Few pairs are worth a whole correlation: of two vectors of length 1 it is at most the product of what lies in some
    directions, plus that of the lengths of what is left (Cauchy and Schwarz). So no pair is missed.
    """
    signatures = _signatures_of_many(miniatures)
    sample = signatures[:: 1 + len(signatures) // _NUM_SAMPLED].astype(np.float32)
    main = np.linalg.svd(sample, full_matrices=False)[2][:_NUM_MAIN].T  # (cells, main directions)
    bounds = np.empty((len(signatures), main.shape[1] + 1), np.float32)
    for start in range(0, len(signatures), _ROWS):
        own = signatures[start : start + _ROWS].astype(np.float32)
        bounds[start : start + _ROWS, :-1] = own @ main
        left = (own * own).sum(axis=1) - (bounds[start : start + _ROWS, :-1] ** 2).sum(axis=1)
        bounds[start : start + _ROWS, -1] = np.sqrt(np.clip(left, 0, None))
    found: set[tuple[int, int, int]] = set()
    for start in range(0, len(wanted), _BOUNDED_ROWS):
        rows = np.array(wanted[start : start + _BOUNDED_ROWS])
        is_possible = bounds[rows] @ bounds.T >= _LEAST - _ROUNDING
        is_possible &= owners[rows, None] != owners[None]
        row, other = np.nonzero(is_possible)
        value = _correlations(signatures, rows, row, other)
        is_alike = value >= _LEAST
        row, other, value = row[is_alike], other[is_alike], value[is_alike]
        in_order = np.lexsort((other, -value, row))
        row, other = row[in_order], other[in_order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        best = place < num_partners
        found |= {
            (one, partner, 0) for one, partner in zip(rows[row[best]].tolist(), other[best].tolist(), strict=True)
        }
    return found


def _correlations(signatures: np.ndarray, rows: np.ndarray, row: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) float32: those of the pairs (rows[row], other)."""
    firsts, values = signatures[rows].astype(np.float32), np.empty(len(row), np.float32)
    columns, column = np.unique(other, return_inverse=True)
    for start in range(0, len(columns), _ROWS):
        seconds = signatures[columns[start : start + _ROWS]].astype(np.float32)
        is_here = (column >= start) & (column < start + _ROWS)
        values[is_here] = (firsts @ seconds.T)[row[is_here], column[is_here] - start]
    return values


def _signatures_of_many(miniatures: np.ndarray) -> np.ndarray:
    """(N, cells) float16, made in parts: in float32, all at once, 50,000 volumes take gigabytes."""
    starts = range(0, len(miniatures), _ROWS)
    mean = sum(_grid(miniatures[start : start + _ROWS], 0.0).sum(axis=0, dtype=np.float64) for start in starts)
    mean = (mean / len(miniatures)).astype(np.float32)
    parts = (_signatures(_grid(miniatures[start : start + _ROWS], 0.0) - mean) for start in starts)
    return np.concatenate([part.astype(np.float16) for part in parts])


def _grid(miniatures: np.ndarray, crop: float) -> np.ndarray:
    """(N, 24, 24[, 8]) float32: the part within a crop, without what a blur leaves of it."""
    grid = miniatures.astype(np.float32) / 255
    for axis in range(1, grid.ndim):
        length = grid.shape[axis]
        places = (crop + (1 - 2 * crop) * (np.arange(_cells(length)) + 0.5) / _cells(length)) * length
        weights = np.clip(length / _cells(length) - np.abs(np.arange(length) + 0.5 - places[:, None]), 0, None)
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        grid = np.moveaxis(np.tensordot(weights, grid, (1, axis)), 0, axis)
    widths = (0.0, _BLUR, _BLUR, _SLICE_BLUR)[: grid.ndim]
    return np.asarray(grid - gaussian_filter(grid, widths))


def _cells(length: int) -> int:
    return min(length, _CELLS)


def _signatures(grids: np.ndarray) -> np.ndarray:
    """(N, cells) float32 with mean 0 and length 1."""
    flat = grids.reshape(len(grids), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9))
