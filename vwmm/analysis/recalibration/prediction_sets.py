"""Split-conformal prediction sets: sets of classes that hold the true one in as many cases as promised.

Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random world"; with the probability of a class as its score
Sadinle, Lei and Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels",
doi:10.1080/01621459.2017.1395341. The promise is for a new patient of the same kind as those that the thresholds are
from. A patient counts once, by its least probable true class, so that it holds with several cases of a patient too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = (0.8, 0.9, 0.95)
DEFAULT_LEVEL = 0.9


@dataclass(frozen=True)
class SetRule:
    """Which classes are in a set."""

    level: float
    """The share of patients whose true class is in the set, at least."""
    is_class_conditional: bool
    """Whether that holds in each class by itself."""
    thresholds: np.ndarray
    """(K,) float64: a class is in the set from this probability on; 0: always."""
    num_patients: np.ndarray
    """(K,) int64: how many each threshold is from."""

    def always(self, classes: Sequence[str]) -> list[str]:
        """The classes that are in every set, since n patients can promise n / (n + 1) at most."""
        return [name for name, threshold in zip(classes, self.thresholds, strict=True) if threshold <= 0]


def fit_sets(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, level: float, *, by_class: bool
) -> SetRule:
    """The thresholds. labels: (N,) int64; probabilities: (N, K) float64; patients: (N,); level: between 0 and 1."""
    num_classes = probabilities.shape[1]
    of_true = probabilities[np.arange(len(labels)), labels]
    if not by_class:
        threshold, number = _threshold(of_true, patients, level)
        return SetRule(level, False, np.full(num_classes, threshold), np.full(num_classes, number))
    found = [_threshold(of_true[labels == k], patients[labels == k], level) for k in range(num_classes)]
    return SetRule(
        level, True, np.array([one[0] for one in found]), np.array([one[1] for one in found], dtype=np.int64)
    )


def _threshold(of_true: np.ndarray, patients: np.ndarray, level: float) -> tuple[float, int]:
    """The ceil((n + 1) level)-th largest of the n patients' least probabilities; 0 where that is more than n."""
    names, patient_of = np.unique(patients, return_inverse=True)
    least = np.full(len(names), np.inf)
    np.minimum.at(least, patient_of, of_true)
    rank = math.ceil((len(names) + 1) * level - 1e-9)
    return (float(np.sort(least)[::-1][rank - 1]) if rank <= len(names) else 0.0), len(names)


def sets_of(probabilities: np.ndarray, rule: SetRule) -> np.ndarray:
    """(N, K) bool: which classes are in the set of each case; a set may be empty."""
    return np.asarray(probabilities >= rule.thresholds)


def names_of_sets(probabilities: np.ndarray, rule: SetRule, classes: Sequence[str]) -> list[str]:
    """The sets as text, `a|b`."""
    return [
        "|".join(name for name, has in zip(classes, row, strict=True) if has) for row in sets_of(probabilities, rule)
    ]
