"""Classification metrics, each computed once over all cases.

Undefined is None, never NaN: a value that does not exist becomes null in `metrics.jsonl` and a dash in the report.
"""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import recall_score, roc_auc_score, roc_curve


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
    """Accuracy, balanced accuracy and AUROC; None where a metric is not defined.

    labels: (N,) int64, classes from 0; probabilities: (N, K) float64. The prediction is the first maximum of a row.
    `balanced_accuracy` is the mean recall of the classes that occur in `labels` (Brodersen et al. 2010,
    doi:10.1109/ICPR.2010.764). `auroc` is that of class 1 for two classes, else the unweighted mean of the K
    one-vs-rest areas, and exists only where all K classes occur.
    """
    _check_shapes(labels, probabilities)
    if len(labels) == 0:
        return {"accuracy": None, "balanced_accuracy": None, "auroc": None}
    predicted = probabilities.argmax(axis=1)
    occurring = np.unique(labels)
    recall = recall_score(labels, predicted, labels=occurring, average="macro", zero_division=0)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "balanced_accuracy": float(recall),
        "auroc": macro_auroc(labels, probabilities),
    }


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
    areas = [float(roc_auc_score(labels == label, ranks[:, label])) for label in judged]
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
            scores = ranks[:, label]
            false_positive, true_positive, _ = roc_curve(is_class, scores)
            curves.append(RocCurve(label, false_positive, true_positive, float(roc_auc_score(is_class, scores))))
    return curves


def _check_shapes(labels: np.ndarray, probabilities: np.ndarray) -> None:
    shapes = f"expected labels (N,) and probabilities (N, K), got {labels.shape} and {probabilities.shape}"
    assert (labels.ndim, probabilities.ndim) == (1, 2), shapes
    assert len(labels) == len(probabilities), shapes
    assert len(labels) == 0 or 0 <= labels.min() <= labels.max() < probabilities.shape[1], "a label is out of range"
