"""Bootstrap-t interval of a mean of values in 0..1, by patient."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from vwmm.analysis.statistics.intervals import LEVEL, MIN_FOR_MEAN, Interval, Limits, too_few

NUM_RESAMPLES = 2000
# Numbers held at once while resampling: 4 million float64 are 32 MB.
CHUNK_NUMBERS = 4_000_000


def mean_limits(values: np.ndarray, patients: np.ndarray, *, seed: int = 0) -> Limits:
    """The interval of the mean over cases. values: (N,) float64 from 0 to 1; patients: (N,) any identifiers.

    Patients are drawn with replacement, with all their cases; of each resample the difference from the mean is divided
    by the resample's own standard error, and these ratios stand in the place of Student's t. So the interval leans as
    far to one side as the numbers do: a percentile interval of the means covers 0.83 instead of 0.95 for a good
    classifier of 20 patients. Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", 12.5; over
    patients: Cameron, Gelbach and Miller 2008, doi:10.1162/rest.90.3.414.
    """
    groups = np.unique(patients, return_inverse=True)[1]
    sizes = np.bincount(groups).astype(np.float64)
    if reason := too_few(sizes, MIN_FOR_MEAN):
        return Limits(None, reason=reason)
    mean = float(values.mean())
    sums = np.bincount(groups, weights=values - mean)  # (P,)
    error = float(np.sqrt(sums @ sums)) / len(values)
    if error < 1e-12:
        return Limits(None, reason="all cases have the same value")
    low, high = np.quantile(studentized_resamples(sums, sizes, seed=seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = Interval(max(0.0, mean - float(high) * error), min(1.0, mean - float(low) * error))
    return Limits(found, "bootstrap-t over patients")


def studentized_resamples(sums: np.ndarray, sizes: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(R,) float64: of each resample, the difference from the mean in its own standard errors; sums, sizes: (P,)."""
    terms = np.stack([sums, sizes, sums**2, sums * sizes, sizes**2], axis=1)
    parts = [drawn @ terms for drawn in _resamples(len(sums), NUM_RESAMPLES, seed)]  # (R, P) @ (P, 5)
    total, count, squares, products, counts = np.concatenate(parts).T
    difference = total / count
    # A resample in which nothing varies has no error of its own; the smallest one keeps its sign.
    variance = np.maximum(squares - 2 * difference * products + difference**2 * counts, 1e-24)
    return np.asarray(difference * count / np.sqrt(variance))


def _resamples(num_clusters: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `num_clusters` was drawn in each resample: (R, P) float64, in parts; a row adds up to P."""
    if num_clusters * num_resamples <= CHUNK_NUMBERS:
        yield _whole(num_clusters, num_resamples, seed)
        return
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_NUMBERS // num_clusters)
    for start in range(0, num_resamples, chunk):
        yield _draw(generator, min(chunk, num_resamples - start), num_clusters)


@lru_cache(maxsize=2)
def _whole(num_clusters: int, num_resamples: int, seed: int) -> np.ndarray:
    """Kept, since the numbers of one cohort are resampled alike."""
    return _draw(np.random.default_rng(seed), num_resamples, num_clusters)


def _draw(generator: np.random.Generator, num_resamples: int, num_clusters: int) -> np.ndarray:
    draws = generator.integers(num_clusters, size=(num_resamples, num_clusters))
    draws += np.arange(num_resamples)[:, None] * num_clusters
    counts = np.bincount(draws.ravel(), minlength=num_resamples * num_clusters)
    return counts.reshape(num_resamples, num_clusters).astype(np.float64)
