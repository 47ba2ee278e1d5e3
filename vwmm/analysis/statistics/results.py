"""Metrics of a predictions table, each with N and interval, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vwmm.analysis.statistics.auroc_intervals import auroc_limits
from vwmm.analysis.statistics.bootstrap import mean_limits
from vwmm.analysis.statistics.calibration import brier_scores
from vwmm.analysis.statistics.intervals import Limits, share_limits
from vwmm.analysis.statistics.metrics import METRICS, class_ranks, classification_metrics, mean_loss, roc_curves
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

NO_VALUE = Limits(None)
# Losses have no upper limit: a resample cannot know of the large ones that the cases at hand happen to lack. Of
# log-normal losses (sigma 1.5), bootstrap-t covers 0.87 at 20 cases and 0.92 at 200.
NO_INTERVAL_OF_LOSS = Limits(None, reason="a few large losses decide it")


@dataclass(frozen=True)
class Number:
    """A value over N cases."""

    value: float | None
    """None where it is not defined."""
    n: int
    """Cases."""
    limits: Limits
    """Its 95 % interval."""
    right: int | None = None
    """Of a share: how many of the N."""


@dataclass(frozen=True)
class ClassResult:
    """One class against the rest."""

    name: str
    cases: int
    """Cases of the class."""
    sensitivity: Number
    """Of its cases, the share that is given the class."""
    specificity: Number
    """Of the other cases, the share that is not."""
    precision: Number
    """Of the cases that are given the class, the share that is of it."""
    auroc: Number


@dataclass(frozen=True)
class SiteResult:
    """The cases of one site."""

    name: str
    """Empty: not known."""
    cases: int
    patients: int
    numbers: dict[str, Number]
    """As `overall` has them."""


def share(hits: np.ndarray, patients: np.ndarray) -> Number:
    """A share of cases. hits: (N,) bool; patients: (N,)."""
    right, n = int(hits.sum()), len(hits)
    return Number(right / n if n else None, n, share_limits(hits, patients) if n else NO_VALUE, right)


def overall(predictions: RecordedPredictions) -> dict[str, Number]:
    """Each of `METRICS`, the loss and the Brier score over all cases."""
    labels, probabilities, patients = predictions.labels, predictions.probabilities, predictions.patients
    values, n = classification_metrics(labels, probabilities), len(labels)
    losses, distances = predictions.losses(), brier_scores(predictions)
    found = {}
    for name, metric in METRICS.items():
        limits = NO_VALUE if values[name] is None else metric.limits(labels, probabilities, patients)
        right = None if metric.hits is None else int(metric.hits(labels, probabilities).sum())
        found[name] = Number(values[name], n, limits, right)
    return found | {
        "loss": Number(mean_loss(losses), n, NO_INTERVAL_OF_LOSS),
        "brier": Number(mean_loss(distances), n, mean_limits(distances, patients)),
    }


def by_class(predictions: RecordedPredictions, classes: Sequence[str]) -> list[ClassResult]:
    """Sensitivity, specificity, precision and one-vs-rest AUROC of each class."""
    labels, predicted, patients = predictions.labels, predictions.predicted, predictions.patients
    areas = {curve.label: curve.auroc for curve in roc_curves(labels, predictions.probabilities)}
    ranks = class_ranks(predictions.probabilities)
    found = []
    for number, name in enumerate(classes):
        of_class, called = labels == number, predicted == number
        limits = auroc_limits(of_class, ranks[:, number], patients) if number in areas else NO_VALUE
        found.append(
            ClassResult(
                name=name,
                cases=int(of_class.sum()),
                sensitivity=share(called[of_class], patients[of_class]),
                specificity=share(~called[~of_class], patients[~of_class]),
                precision=share(of_class[called], patients[called]),
                auroc=Number(areas.get(number), len(labels), limits),
            )
        )
    return found


def by_site(predictions: RecordedPredictions, sites: np.ndarray) -> list[SiteResult]:
    """The overall metrics of each site by itself; sites: (N,) str."""
    rows = []
    for name in sorted(set(sites.tolist())):
        inside = sites == name
        part = predictions.part(inside)
        rows.append(SiteResult(name, int(inside.sum()), len(np.unique(part.patients)), overall(part)))
    return rows
