"""What a run's temperature, operating point and prediction sets reach on other cases, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.recalibration.operating_point import OperatingPoint, numbers_at
from vwmm.analysis.recalibration.prediction_sets import LEVELS, SetRule, fit_sets, sets_of
from vwmm.analysis.recalibration.temperature import rescale
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number, overall, share

RECALIBRATED = ("loss", "brier", "ece", "calibration_slope", "calibration_intercept")


@dataclass(frozen=True)
class SetResult:
    """Prediction sets by one rule."""

    rule: SetRule
    covered: Number
    """The share of cases whose class is in the set."""
    by_class: tuple[Number, ...]
    """The same of each class."""
    mean_size: float
    """Classes in a set."""
    num_single: int
    """Sets of one class: these cases have a clear answer, the others are for a person."""
    num_empty: int


@dataclass(frozen=True)
class Applied:
    """A run's calibration on other cases."""

    fitted_on: dict[str, Any]
    """The cases that it is from."""
    temperature: float | None
    no_temperature: str
    recalibrated: dict[str, Number]
    """`RECALIBRATED` at the temperature; empty without one."""
    point: OperatingPoint | None
    no_point: str
    at_point: dict[str, Number]
    """As `operating_point.numbers_at`; empty without one."""
    sets: tuple[SetResult, ...]
    """Of each of `LEVELS`, for all cases and by class."""


def apply_record(predictions: RecordedPredictions, record: CalibrationRecord, kind: str) -> Applied:
    """kind: of the operating point, as `operating_point.check_kind` returns it."""
    recalibrated = dict[str, Number]()
    if record.temperature is not None:
        scaled = replace(predictions, probabilities=rescale(predictions.probabilities, record.temperature))
        found = overall(scaled)
        recalibrated = {name: found[name] for name in RECALIBRATED}
    point, no_point = record.operating_point(kind)
    sets = [
        _judge(predictions, fit_sets(record.labels, record.probabilities, record.patients, level, by_class=by_class))
        for by_class in (False, True)
        for level in LEVELS
    ]
    return Applied(
        fitted_on=record.fitted_on(),
        temperature=record.temperature,
        no_temperature=record.no_temperature,
        recalibrated=recalibrated,
        point=point,
        no_point=no_point,
        at_point={} if point is None else numbers_at(predictions, point),
        sets=tuple(sets),
    )


def _judge(predictions: RecordedPredictions, rule: SetRule) -> SetResult:
    inside = sets_of(predictions.probabilities, rule)
    labels, patients, sizes = predictions.labels, predictions.patients, inside.sum(axis=1)
    hits = inside[np.arange(len(labels)), labels]
    by_class = [share(hits[labels == k], patients[labels == k]) for k in range(inside.shape[1])]
    single, empty = int((sizes == 1).sum()), int((sizes == 0).sum())
    return SetResult(rule, share(hits, patients), tuple(by_class), float(sizes.mean()), single, empty)


def words_of_sets(result: SetResult, classes: Sequence[str]) -> str:
    """Which classes are always in the set, and why; or nothing."""
    names = result.rule.always(classes)
    if not names:
        return ""
    counts = dict(zip(classes, result.rule.num_patients.tolist(), strict=True))
    return "always in the set: " + ", ".join(f"{name} ({counts[name]} validation patients)" for name in names)
