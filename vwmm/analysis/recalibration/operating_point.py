"""The operating point of two classes: from which probability of the second class on it is given to a case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.statistics.intervals import LEVEL
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number, share

assert LEVEL == 0.95, "the pages show 95 %"
DEFAULT = "youden"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it reached on the cases that it was fitted on."""

    kind: str
    """`0.5`, `youden`, `sensitivity=0.9` or `specificity=0.9`."""
    threshold: float
    """Cases with this probability of the second class, or more, are given it."""
    sensitivity: float
    specificity: float


def check_kind(text: str) -> str:
    """The kind of an operating point as it was typed. Raises ValueError in words."""
    name, _, share_text = text.partition("=")
    if text in ("0.5", DEFAULT):
        return text
    try:
        wanted = float(share_text)
    except ValueError:
        wanted = -1.0
    if name not in ("sensitivity", "specificity") or not 0 < wanted <= 1:
        raise ValueError(f"{text}: expected 0.5, youden, sensitivity=0.9 or specificity=0.9")
    return text


def fit_operating_point(is_class: np.ndarray, scores: np.ndarray, kind: str) -> tuple[OperatingPoint | None, str]:
    """The operating point, or None and why there is none. is_class: (N,) bool; scores: (N,) float64; kind: checked.

    Thresholds are scores that occur. Youden's has the largest sensitivity + specificity (1950,
    doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3), of several the one nearest to 0.5. A wanted
    sensitivity has the highest threshold that reaches it, a wanted specificity the lowest.
    """
    if is_class.all() or not is_class.any():
        return None, "the validation cases are of one class"
    values = np.unique(scores)
    positives, negatives = np.sort(scores[is_class]), np.sort(scores[~is_class])
    # The last threshold is above all scores: nothing is given the class.
    thresholds = np.append(values, np.nextafter(values[-1], np.inf))
    sensitivity = (len(positives) - np.searchsorted(positives, thresholds, "left")) / len(positives)
    specificity = np.searchsorted(negatives, thresholds, "left") / len(negatives)
    name, _, wanted = kind.partition("=")
    if kind == "0.5":
        found = float(np.nextafter(0.5, 1))  # two equal probabilities are the first class, as without a point
        sensitivity, specificity = np.array([np.mean(positives >= found)]), np.array([np.mean(negatives < found)])
        at = 0
    elif name == "sensitivity":
        at = int(np.flatnonzero(sensitivity >= float(wanted) - 1e-12)[-1])
        found = float(thresholds[at])
    elif name == "specificity":
        at = int(np.flatnonzero(specificity >= float(wanted) - 1e-12)[0])
        found = float(thresholds[at])
    else:
        gain = sensitivity + specificity
        best = np.flatnonzero(gain >= gain.max() - 1e-12)
        at = int(best[np.argmin(np.abs(thresholds[best] - 0.5))])
        found = float(thresholds[at])
    return OperatingPoint(kind, found, float(sensitivity[at]), float(specificity[at])), ""


def numbers_at(predictions: RecordedPredictions, point: OperatingPoint) -> dict[str, Number]:
    """What the operating point reaches on these cases, each with its interval."""
    called, of_class, patients = (
        at_point(predictions.probabilities, point) == 1,
        predictions.labels == 1,
        predictions.patients,
    )
    return {
        "sensitivity": share(called[of_class], patients[of_class]),
        "specificity": share(~called[~of_class], patients[~of_class]),
        "precision": share(of_class[called], patients[called]),
        "npv": share(~of_class[~called], patients[~called]),
        "accuracy": share(called == of_class, patients),
    }


def at_point(probabilities: np.ndarray, point: OperatingPoint) -> np.ndarray:
    """(N,) int64: the class of each case at the operating point; probabilities: (N, 2) float64."""
    return np.asarray(probabilities[:, 1] >= point.threshold).astype(np.int64)


def names_at(probabilities: np.ndarray, point: OperatingPoint, classes: Sequence[str]) -> list[str]:
    """The names of `at_point`."""
    return [classes[label] for label in at_point(probabilities, point)]
