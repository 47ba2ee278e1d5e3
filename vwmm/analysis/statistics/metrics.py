"""Classification metrics, each computed once over all cases.

Undefined is None, never NaN: a value that does not exist becomes null in `metrics.jsonl` and a dash in the report. The
values are scikit-learn's to the last bit; computed here, they spare each training the 0.7 s of CPU time of its import.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.statistics.auroc_intervals import macro_auroc_limits
from vwmm.analysis.statistics.intervals import Limits, balanced_accuracy_limits, share_limits


@dataclass(frozen=True)
class Metric:
    """One validation metric, the higher the better, over N >= 1 cases; a curve of it is drawn from 0 to 1."""

    name: str
    """Its name within a sentence."""
    value: Callable[[np.ndarray, np.ndarray], float | None]
    """From labels (N,) int64 and probabilities (N, K) float64; None where it is not defined."""
    limits: Callable[[np.ndarray, np.ndarray, np.ndarray], Limits]
    """The 95 % interval of a defined value, from the same and patients (N,)."""
    describe: Callable[[Sequence[str]], str] = lambda classes: ""
    """What it is, for the reader of a page, from the names of the classes."""
    hits: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """(N,) bool where it is a share of the cases: those that count."""
    is_share: bool = True
    """Whether it is written in percent."""
    heading: str = ""
    """At the head of a column in the terminal; empty: its name."""

    @property
    def column(self) -> str:
        """The head of its column in the terminal."""
        return self.heading or self.name

    @property
    def title(self) -> str:
        """Its name at the beginning of a line."""
        return self.name[0].upper() + self.name[1:]


@dataclass(frozen=True)
class RocCurve:
    """The one-vs-rest ROC curve of one class."""

    label: int
    """Index of the class."""
    false_positive_rate: np.ndarray
    """(T,) float64, rising from 0 to 1."""
    true_positive_rate: np.ndarray
    """(T,) float64, rising from 0 to 1."""
    auroc: float
    """Area under the curve."""


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """The value of each of `METRICS`; None where it is not defined, as none is without cases.

    labels: (N,) int64, classes from 0; probabilities: (N, K) float64. The prediction is the first maximum of a row.
    """
    _check_shapes(labels, probabilities)
    return {name: one.value(labels, probabilities) if len(labels) else None for name, one in METRICS.items()}


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of the cases whose prediction is right."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall of the classes that occur in `labels` (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764)."""
    occurring = np.unique(labels)
    is_right = probabilities.argmax(axis=1) == labels
    recalls = [np.count_nonzero(is_right[labels == label]) / np.count_nonzero(labels == label) for label in occurring]
    return float(np.mean(recalls))


def macro_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """AUROC of class 1 (two classes) or the mean one-vs-rest AUROC (more); None where it is not defined.

    labels: (N,) int64; probabilities: (N, K) float64. The areas are averaged here rather than by scikit-learn's
    `multi_class="ovr"`, which refuses rows that do not add up to 1 in float64, as those of half precision do.
    """
    _check_shapes(labels, probabilities)
    num_classes = probabilities.shape[1]
    if num_classes < 2 or len(np.unique(labels)) < num_classes or not np.isfinite(probabilities).all():
        return None
    judged, ranks = [1] if num_classes == 2 else range(num_classes), class_ranks(probabilities)
    areas = [_area(*_roc_curve(labels == label, ranks[:, label])) for label in judged]
    return math.fsum(areas) / len(areas)


def class_ranks(probabilities: np.ndarray) -> np.ndarray:
    """The order of the cases by their logit of each class, from 0, equal ones equal: (N, K) int64.

    probabilities: (N, K) float64. The logit of class k is ln p(k) less ln of the sum of the others. Where p(k) has
    become 1.0 (from a logit of 37 on), the others still differ, down to 1e-308, so that cases keep their order;
    `predictions_val.csv` has all digits of them.
    """
    ranks = np.empty(probabilities.shape, dtype=np.int64)
    for label in range(probabilities.shape[1]):
        others = np.delete(probabilities, label, axis=1).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a probability of 0 is a logit of infinity
            logits = np.log(probabilities[:, label]) - np.log(others)
        ranks[:, label] = np.unique(logits, return_inverse=True)[1]
    return ranks


def mean_loss(losses: np.ndarray) -> float | None:
    """The mean over cases; None without cases.

    losses: (N,) float64. `math.fsum` rounds once (Shewchuk 1997, doi:10.1007/PL00009321), so the same cases give the
    same bits in any order; a plain sum would not.
    """
    assert losses.ndim == 1, f"expected losses of shape (N,), got {losses.shape}"
    values = np.asarray(losses, dtype=np.float64)
    if len(values) == 0:
        return None
    # fsum raises on opposite infinities; a loss that is not finite has no mean to be exact about.
    return math.fsum(values) / len(values) if np.isfinite(values).all() else float(values.mean())


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of cases, (K, K) int64: rows are the true classes, columns the predicted ones.

    labels, predicted: (N,) int64, classes from 0.
    """
    assert labels.shape == predicted.shape, f"labels {labels.shape} and predicted {predicted.shape} differ"
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def roc_curves(labels: np.ndarray, probabilities: np.ndarray) -> list[RocCurve]:
    """One-vs-rest ROC curves, one per class; a class that no case or every case has is left out.

    labels: (N,) int64; probabilities: (N, K) float64. No curve exists where a probability is not finite.
    """
    _check_shapes(labels, probabilities)
    curves: list[RocCurve] = []
    if not np.isfinite(probabilities).all():
        return curves
    ranks = class_ranks(probabilities)
    for label in range(probabilities.shape[1]):
        is_class = labels == label
        if is_class.any() and not is_class.all():
            false_positive, true_positive = _roc_curve(is_class, ranks[:, label])
            curves.append(RocCurve(label, false_positive, true_positive, _area(false_positive, true_positive)))
    return curves


def _roc_curve(is_class: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, (T,) float64 each, rising from 0 to 1, without points on a line between others.

    is_class: (N,) bool, of both kinds; ranks: (N,) int64, the higher the likelier.
    """
    order = np.argsort(ranks, kind="stable")[::-1]
    ends = np.append(np.flatnonzero(np.diff(ranks[order])), len(ranks) - 1)  # equal ranks are one point
    true_positives = np.cumsum(is_class[order], dtype=np.float64)[ends]
    false_positives = 1 + ends - true_positives
    if len(ends) > 2:
        is_corner = np.logical_or(np.diff(false_positives, 2), np.diff(true_positives, 2))
        kept = np.concatenate(([True], is_corner, [True]))
        true_positives, false_positives = true_positives[kept], false_positives[kept]
    start = np.zeros(1)
    return (
        np.concatenate((start, false_positives)) / false_positives[-1],
        np.concatenate((start, true_positives)) / true_positives[-1],
    )


def _area(false_positive_rate: np.ndarray, true_positive_rate: np.ndarray) -> float:
    return float(np.trapezoid(true_positive_rate, false_positive_rate))


def _check_shapes(labels: np.ndarray, probabilities: np.ndarray) -> None:
    shapes = f"expected labels (N,) and probabilities (N, K), got {labels.shape} and {probabilities.shape}"
    assert (labels.ndim, probabilities.ndim) == (1, 2), shapes
    assert len(labels) == len(probabilities), shapes
    assert len(labels) == 0 or 0 <= labels.min() <= labels.max() < probabilities.shape[1], "a label is out of range"


def _describe_auroc(classes: Sequence[str]) -> str:
    return f"of {classes[1]}" if len(classes) == 2 else f"mean of {len(classes)}, each class against the rest"


# By the name in metrics.jsonl and `train.monitor`, in the order of the pages.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        "accuracy", accuracy,
        limits=lambda labels, scores, patients: share_limits(scores.argmax(axis=1) == labels, patients),
        hits=lambda labels, scores: scores.argmax(axis=1) == labels,
        describe=lambda classes: "cases right",
    ),
    "balanced_accuracy": Metric(
        "balanced accuracy", balanced_accuracy,
        limits=lambda labels, scores, patients: balanced_accuracy_limits(labels, scores.argmax(axis=1), patients),
        describe=lambda classes: "mean sensitivity of the classes",
        heading="balanced",
    ),
    "auroc": Metric(
        "AUROC", macro_auroc,
        limits=lambda labels, scores, patients: macro_auroc_limits(labels, class_ranks(scores), patients),
        describe=_describe_auroc,
        is_share=False,
    ),
}  # fmt: skip
