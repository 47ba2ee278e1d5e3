"""Simultaneous confidence band of a ROC curve (Campbell 1994).

Simultaneous, not pointwise: sensitivity and specificity at every threshold at once lie within d and e of what was
found, d and e being quantiles of the distribution of Kolmogorov and Smirnov for so many positives and so many
negatives. No shape of the scores' distributions is supposed. Source: Campbell 1994, "Advances in statistical
methodology for the evaluation of diagnostic and laboratory tests", Stat. Med. 13:499-508, doi:10.1002/sim.4780130513.
The share of error is halved between the two (Bonferroni), since a patient may have cases of both kinds.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import kstwo
from sklearn.metrics import roc_curve

from vwmm.analysis.statistics.intervals import LEVEL, MIN_OF_CLASS, too_few

_NUM_CELLS = 100


@dataclass(frozen=True)
class RocBand:
    """The band by cells of the false-positive rate."""

    false_positive_rate: np.ndarray
    """(C,) float64: where each cell begins; the last one ends at 1."""
    low: np.ndarray
    """(C,) float64: least sensitivity in the cell."""
    high: np.ndarray
    """(C,) float64: greatest sensitivity in the cell."""


def roc_band(is_positive: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> RocBand | None:
    """The band; None with fewer than five patients of either kind. is_positive: (N,) bool; scores, patients: (N,).

    Patients with several cases are counted by their cases, (sum n)^2 / sum n^2, as if the cases of a patient were one.
    """
    reaches = []
    for is_chosen in (is_positive, ~is_positive):
        sizes = np.unique(patients[is_chosen], return_counts=True)[1]
        if too_few(sizes, MIN_OF_CLASS):
            return None
        number = int(sizes.sum() ** 2 / (sizes**2).sum() + 1e-9)
        reaches.append(float(kstwo.ppf((1 + LEVEL) / 2, number)))
    up, aside = reaches
    x, y, _ = roc_curve(is_positive, scores, drop_intermediate=False)  # both rise
    edges = np.linspace(0, 1, _NUM_CELLS + 1)
    # The greatest sensitivity at thresholds with a false-positive rate up to that of the cell's end, and the least
    # at thresholds with a rate from that of its beginning.
    highest = y[np.searchsorted(x, edges[1:] + aside + 1e-12, "right") - 1]
    lowest = y[np.searchsorted(x, edges[:-1] - aside - 1e-12, "left")]
    return RocBand(edges[:-1], np.maximum(0.0, lowest - up), np.minimum(1.0, highest + up))
