"""Metrics of a predictions table, each with N, events and interval, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vwmm.analysis.statistics import class_metrics
from vwmm.analysis.statistics.auroc_intervals import auroc_limits
from vwmm.analysis.statistics.bootstrap import mean_limits
from vwmm.analysis.statistics.calibration import MIN_CASES, brier_scores, debiased_ece
from vwmm.analysis.statistics.intervals import MIN_FOR_SHARE, Limits, share_limits, too_few
from vwmm.analysis.statistics.logistic_calibration import calibration_intercept, calibration_slope, log_odds
from vwmm.analysis.statistics.metrics import METRICS, class_ranks, classification_metrics, mean_loss, roc_curves
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

NO_VALUE = Limits(None)
# Losses have no upper limit: a resample cannot know of the large ones that the cases at hand happen to lack. Of
# log-normal losses (sigma 1.5), bootstrap-t covers 0.87 at 20 cases and 0.92 at 200.
NO_INTERVAL_OF_LOSS = Limits(None, reason="a few large losses decide it")
NO_INTERVAL_OF_ECE = Limits(None, reason="no interval is known to cover it near 0")
# For an external validation: Vergouwe et al. 2005, doi:10.1016/j.jclinepi.2004.06.017; Collins et al. 2016,
# doi:10.1002/sim.6787.
EVENTS_FOR_VALIDATION = 100


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
    events: int | None = None
    """Of the N, the cases of the class that is judged: class 1 of two, the smallest of more."""
    baseline: float | None = None
    """Of always answering the shares of the classes, and so the commonest one."""
    no_value: str = ""
    """Why it is not defined."""


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
    """The positive predictive value: of the cases that are given the class, the share that is of it."""
    npv: Number
    """The negative predictive value: of the cases that are not given the class, the share that is not of it."""
    f1: Number
    auroc: Number
    auprc: Number


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
    if n == 0:
        return Number(None, 0, NO_VALUE, right, no_value="no such case")
    return Number(right / n, n, share_limits(hits, patients), right)


def overall(predictions: RecordedPredictions) -> dict[str, Number]:
    """All metrics over all cases, each with that of always answering the classes' shares beside it."""
    labels, (n, num_classes) = predictions.labels, predictions.probabilities.shape
    found = _class_numbers(predictions) | _probability_numbers(predictions)
    counts = np.bincount(labels, minlength=num_classes)
    events = int(counts[1] if num_classes == 2 else counts.min())
    # Each case is given the shares of the classes among these cases: what is known without any image.
    naive = replace(predictions, probabilities=np.tile(counts / max(1, n), (n, 1)))
    baselines = _baselines(naive) if n else {}
    return {name: replace(one, events=events, baseline=baselines.get(name)) for name, one in found.items()}


def _class_numbers(predictions: RecordedPredictions) -> dict[str, Number]:
    """Of the predicted classes and of their order."""
    labels, probabilities, patients = predictions.labels, predictions.probabilities, predictions.patients
    predicted, (n, num_classes) = predictions.predicted, probabilities.shape
    values, found = classification_metrics(labels, probabilities), dict[str, Number]()
    absent = "a class has no case" if len(np.unique(labels)) < num_classes else ""
    for name, metric in METRICS.items():
        limits = NO_VALUE if values[name] is None else metric.limits(labels, probabilities, patients)
        right = None if metric.hits is None else int(metric.hits(labels, probabilities).sum())
        found[name] = Number(values[name], n, limits, right, no_value=absent if values[name] is None else "")
    ranks = class_ranks(probabilities)
    area = class_metrics.macro_average_precision(labels, ranks)
    found["auprc"] = Number(
        area, n,
        NO_VALUE if area is None else class_metrics.macro_average_precision_limits(labels, ranks, patients),
        no_value=absent if area is None else "",
    )  # fmt: skip
    f1 = class_metrics.macro_f1(labels, predicted, num_classes)
    found["f1"] = Number(
        f1, n,
        NO_VALUE if f1 is None else class_metrics.macro_f1_limits(labels, predicted, patients, num_classes),
        no_value="no case is of the class or given it" if f1 is None else "",
    )  # fmt: skip
    correlation = class_metrics.matthews(labels, predicted, num_classes)
    found["mcc"] = Number(
        correlation, n,
        NO_VALUE if correlation is None else class_metrics.matthews_limits(labels, predicted, patients, num_classes),
        no_value="all cases are of one class, or given one" if correlation is None else "",
    )  # fmt: skip
    return found


def _probability_numbers(predictions: RecordedPredictions) -> dict[str, Number]:
    """Of the probabilities themselves."""
    patients, (n, num_classes) = predictions.patients, predictions.probabilities.shape
    distances = brier_scores(predictions)
    judged = np.ones(n, dtype=np.int64) if num_classes == 2 else predictions.predicted
    hits = predictions.labels == judged
    ece = debiased_ece(predictions.probabilities[np.arange(n), judged], hits)
    few = f"fewer than {2 * MIN_CASES} cases" if ece is None else ""
    found = {
        "loss": Number(mean_loss(predictions.losses()), n, NO_INTERVAL_OF_LOSS),
        "brier": Number(mean_loss(distances), n, mean_limits(distances, patients) if n else NO_VALUE),
        "ece": Number(ece, n, NO_VALUE if ece is None else NO_INTERVAL_OF_ECE, no_value=few),
    }
    odds = log_odds(predictions.probabilities, judged)
    for name, estimate in (("slope", calibration_slope), ("intercept", calibration_intercept)):
        one = estimate(odds, hits, patients)
        found[f"calibration_{name}"] = Number(one.value, n, one.limits, no_value=one.reason)
    return found


def _baselines(naive: RecordedPredictions) -> dict[str, float | None]:
    """Without what a constant prediction has no value for: Matthews' correlation and the calibration."""
    labels, num_classes = naive.labels, naive.probabilities.shape[1]
    return {
        **classification_metrics(labels, naive.probabilities),
        "auprc": class_metrics.macro_average_precision(labels, class_ranks(naive.probabilities)),
        "f1": class_metrics.macro_f1(labels, naive.predicted, num_classes),
        "loss": mean_loss(naive.losses()),
        "brier": mean_loss(brier_scores(naive)),
    }


def by_class(predictions: RecordedPredictions, classes: Sequence[str]) -> list[ClassResult]:
    """Each class against the rest."""
    labels, predicted, patients = predictions.labels, predictions.predicted, predictions.patients
    areas = {curve.label: curve.auroc for curve in roc_curves(labels, predictions.probabilities)}
    ranks = class_ranks(predictions.probabilities)
    found = []
    for number, name in enumerate(classes):
        of_class, called = labels == number, predicted == number
        events = int(of_class.sum())
        one_kind = "" if number in areas else "no case is of the class" if not events else "all cases are of the class"
        limits = auroc_limits(of_class, ranks[:, number], patients) if number in areas else NO_VALUE
        area, f1 = class_metrics.average_precision(of_class, ranks[:, number]), class_metrics.f1(of_class, called)
        precision = NO_VALUE if area is None else class_metrics.average_precision_limits(area, patients[of_class])
        of_f1 = NO_VALUE if f1 is None else class_metrics.f1_limits(of_class, called, patients)
        no_f1 = "no case is of the class or given it" if f1 is None else ""
        found.append(
            ClassResult(
                name=name,
                cases=events,
                sensitivity=share(called[of_class], patients[of_class]),
                specificity=share(~called[~of_class], patients[~of_class]),
                precision=share(of_class[called], patients[called]),
                npv=share(~of_class[~called], patients[~called]),
                f1=Number(f1, len(labels), of_f1, events=events, no_value=no_f1),
                auroc=Number(areas.get(number), len(labels), limits, events=events, no_value=one_kind),
                auprc=Number(area, len(labels), precision, events=events, no_value=one_kind if area is None else ""),
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


def size_warnings(predictions: RecordedPredictions, classes: Sequence[str]) -> list[str]:
    """What the cases are too few for, in sentences; names of classes as they stand in the table."""
    found = list[str]()
    cases = [int((predictions.labels == number).sum()) for number in range(len(classes))]
    for number, name in enumerate(classes):
        sizes = np.unique(predictions.patients[predictions.labels == number], return_counts=True)[1]
        if cases[number] == 0:
            found.append(f"No case is {name}: what needs every class is not defined.")
        elif too_few(sizes, MIN_FOR_SHARE):
            patients = "1 patient" if len(sizes) == 1 else f"{len(sizes)} patients"
            found.append(f"{name}: {patients} only; its sensitivity cannot be told with any certainty.")
    if 0 < min(cases) < EVENTS_FOR_VALIDATION:
        found.append(
            f"The smallest class has {min(cases)} cases; {EVENTS_FOR_VALIDATION} of each are recommended to validate a "
            "model, above all its calibration (Vergouwe 2005, Collins 2016)."
        )
    return found
