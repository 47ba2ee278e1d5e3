"""How well acquisition parameters alone predict the label.

A model that is given the images may learn this instead of the disease (Zech et al. 2018,
doi:10.1371/journal.pmed.1002683: the hospital, told from the radiograph, told the diagnosis).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vwmm.analysis.statistics.intervals import Interval, balanced_accuracy_limits

NUM_FOLDS = 5
# A warning needs both: a score that no more than one shuffled cohort in 1,000 reaches, and one this much above chance.
LEVEL, LEAST_GAIN = 0.001, 0.1
NUM_SHUFFLES = 999
# Shuffling ends when as many had reached the score (Besag and Clifford 1991, doi:10.1093/biomet/78.2.301).
_ENOUGH = 10
_DEPTH, _MIN_LEAF = 4, 3
_MIN_PER_CLASS = 5


@dataclass(frozen=True)
class Shortcut:
    """Results of a decision tree on the acquisition facts, for patients that it has not seen."""

    score: float
    """Balanced accuracy, cross-validated by patient."""
    interval: Interval | None
    """95 % of it, over the patients."""
    chance: float
    """Balanced accuracy of a guess."""
    auroc: float
    """Area under the ROC curve, each class against the others."""
    probability: float
    """Of a score as high with shuffled labels."""
    num_rows: int
    """Patients, one for each of their labels."""
    telling: tuple[str, ...]
    """The facts that the tree asks for, the most important one first."""

    @property
    def is_suspicious(self) -> bool:
        """Whether it is worth a warning."""
        return self.probability <= LEVEL and self.score >= self.chance + LEAST_GAIN


def shortcut_score(
    labels: Sequence[str], patients: Sequence[str], facts: Mapping[str, Sequence[Any]], *, seed: int = 0
) -> Shortcut | None:
    """The score; None where no fact differs, or a class has too few patients to tell.

    labels, patients: (N,) texts. facts: each (N,) texts, taken as categories, or numbers, NaN where there is none.
    """
    table, names = _columns(facts)
    classes, numbers = np.unique(labels, return_inverse=True)
    groups = np.unique(patients, return_inverse=True)[1]
    counts = np.bincount(numbers)
    if not names or len(classes) < 2 or counts.min() < _MIN_PER_CLASS:
        return None
    folds = _folds(groups, seed)
    probabilities = _out_of_fold(table, numbers, folds, seed)
    predicted = probabilities.argmax(axis=1)
    score = _balanced_accuracy(numbers, predicted)
    chance = 1 / len(classes)
    return Shortcut(
        score=score,
        interval=balanced_accuracy_limits(numbers, predicted, np.asarray(patients)).interval,
        chance=chance,
        auroc=_auroc(numbers, probabilities),
        probability=_probability(table, numbers, folds, score, seed),
        num_rows=len(numbers),
        telling=_telling(table, numbers, names, seed),
    )


def _columns(facts: Mapping[str, Sequence[Any]]) -> tuple[np.ndarray, list[str]]:
    """(N, F) float32 and the fact behind each column: a number as it is, a category as one column for each value."""
    columns, names = list[np.ndarray](), list[str]()
    for name, values in facts.items():
        if all(isinstance(value, str) for value in values):
            kinds, counts = np.unique(values, return_counts=True)
            parts = [np.equal(values, kind) for kind, count in zip(kinds, counts, strict=True) if count >= _MIN_LEAF]
        else:
            numbers = np.asarray(values, dtype=np.float64)
            parts = [np.where(np.isfinite(numbers), numbers, -1.0)]
        for part in parts:
            if np.ptp(part.astype(np.float64)) > 0:
                columns.append(part.astype(np.float32))
                names.append(name)
    return (np.stack(columns, axis=1) if columns else np.zeros((0, 0), np.float32)), names


def _fitted(table: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """A small tree that gives each class the same weight."""
    from sklearn import config_context
    from sklearn.tree import DecisionTreeClassifier

    weights = 1 / np.maximum(np.bincount(labels), 1)[labels]
    tree = DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=_MIN_LEAF, random_state=seed)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # a half of the time of a small tree
        return tree.fit(table, labels, sample_weight=weights, check_input=False)


Folds = list[tuple[np.ndarray, np.ndarray]]
"""For each fold, the rows to train on and those to predict."""


def _folds(groups: np.ndarray, seed: int) -> Folds:
    """Drawn by patient and without a look at the labels, so that they hold for shuffled labels as well."""
    generator = np.random.default_rng(np.random.SeedSequence((seed, 0)))
    number_of = (generator.permutation(int(groups.max()) + 1) % NUM_FOLDS)[groups]
    return [(np.flatnonzero(number_of != number), np.flatnonzero(number_of == number)) for number in range(NUM_FOLDS)]


def _out_of_fold(table: np.ndarray, labels: np.ndarray, folds: Folds, seed: int) -> np.ndarray:
    """(N, K) float64: each row predicted by a tree that has seen no row of its patient."""
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    for train, test in folds:
        tree = _fitted(table[train], labels[train], seed)
        shares = tree.tree_.predict(table[test]).reshape(len(test), -1)  # (rows, classes that were learned)
        probabilities[np.ix_(test, tree.classes_)] = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def _probability(table: np.ndarray, labels: np.ndarray, folds: Folds, score: float, seed: int) -> float:
    """The share of shuffled cohorts, this one among them, that reach the score."""
    generator = np.random.default_rng(np.random.SeedSequence((seed, 1)))
    reached = 0
    for number in range(1, NUM_SHUFFLES + 1):
        shuffled = generator.permutation(labels)
        predicted = _out_of_fold(table, shuffled, folds, seed).argmax(axis=1)
        reached += _balanced_accuracy(shuffled, predicted) >= score - 1e-9
        if reached >= _ENOUGH:
            return float(reached / number)
    return float((1 + reached) / (1 + NUM_SHUFFLES))


def _balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    right = np.bincount(labels[labels == predicted], minlength=int(labels.max()) + 1)
    return float(np.mean(right / np.bincount(labels)))


def _auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    from vwmm.analysis.statistics.metrics import macro_auroc

    value = macro_auroc(labels, probabilities)
    return float("nan") if value is None else float(value)


def _telling(table: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int) -> tuple[str, ...]:
    importance: dict[str, float] = {}
    tree = _fitted(table, labels, seed)
    for name, value in zip(names, tree.feature_importances_.tolist(), strict=True):
        importance[name] = importance.get(name, 0.0) + value
    order = sorted(importance, key=lambda name: -importance[name])
    return tuple(name for name in order if importance[name] >= 0.1)[:3]
