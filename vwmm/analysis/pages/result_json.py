"""Results as the values of evaluation.json and cross_validation.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vwmm.analysis.figures.decision_curve import decision_curve
from vwmm.analysis.figures.risk_coverage import risk_coverage
from vwmm.analysis.recalibration.applied import Applied
from vwmm.analysis.statistics import results
from vwmm.analysis.statistics.bootstrap import mean_limits
from vwmm.analysis.statistics.calibration import Calibration
from vwmm.analysis.statistics.intervals import Interval, Limits
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number
from vwmm.analysis.subgroups import TEST, Grouping, GroupTest, results_by_group

JsonNumber = dict[str, Any]
"""`value`, `n`, `events` and `interval`, [low, high], null where one does not exist; `method` of the interval, or
`no_interval`: why a value has none; `no_value`: why it is not defined; `baseline`: of always answering the commonest
class."""


def calibration_json(found: Calibration) -> dict[str, Any]:
    groups = [
        {"probability": group.predicted, "came_true": _json(Number(group.observed, group.num_cases, group.limits))}
        for group in found.groups
    ]
    excess = _json(Number(found.excess, found.num_cases, found.excess_limits))
    return {"of": found.of_what, "excess": excess, "groups": groups}


def shapley_json(values: np.ndarray, modalities: Sequence[str], patients: np.ndarray) -> dict[str, JsonNumber]:
    """By modality, the mean of what its image adds to the true class's probability. values: (N, M), -1 to 1."""
    found = {}
    for m, name in enumerate(modalities):
        limits = mean_limits((values[:, m] + 1) / 2, patients)
        if limits.interval is not None:
            interval = Interval(2 * limits.interval.low - 1, 2 * limits.interval.high - 1)
            limits = Limits(interval, limits.method)
        found[name] = _json(Number(float(values[:, m].mean()), len(values), limits))
    return found


def fitted_json(found: Applied | None, reason: str) -> dict[str, Any]:
    """What was fitted on validation cases, and what it reaches on these."""
    if found is None:
        return {"none": reason}
    point = found.point
    return {
        "fitted_on": found.fitted_on,
        "temperature": found.temperature,
        **({"no_temperature": found.no_temperature} if found.no_temperature else {}),
        "recalibrated": numbers_json(found.recalibrated),
        "operating_point": {"none": found.no_point}
        if point is None
        else {
            "kind": point.kind,
            "threshold": point.threshold,
            "in_validation": {"sensitivity": point.sensitivity, "specificity": point.specificity},
            **numbers_json(found.at_point),
        },
        "prediction_sets": [
            {
                "promised": one.rule.level,
                "class_conditional": one.rule.is_class_conditional,
                "thresholds": one.rule.thresholds.tolist(),
                "validation_patients": one.rule.num_patients.tolist(),
                "covered": _json(one.covered),
                "covered_by_class": [_json(number) for number in one.by_class],
                "mean_size": one.mean_size,
                "single": one.num_single,
                "empty": one.num_empty,
            }
            for one in found.sets
        ],
    }


def decision_json(predictions: RecordedPredictions) -> list[dict[str, Any]]:
    """Of two classes the net benefits at thresholds 0.05, 0.1, ... 0.95; of more none."""
    if predictions.probabilities.shape[1] != 2:
        return []
    is_class, scores = predictions.labels == 1, predictions.probabilities[:, 1]
    curve = decision_curve(is_class, scores, predictions.patients, np.arange(1, 20) / 20)
    rows = zip(curve.thresholds.tolist(), curve.model.tolist(), curve.everybody.tolist(), curve.limits, strict=True)
    return [
        {"threshold": at, "net_benefit": _json(Number(model, len(scores), limits)), "act_on_all": everybody}
        for at, model, everybody, limits in rows
    ]


def risk_json(predictions: RecordedPredictions) -> list[dict[str, Any]]:
    """How many of the surest tenth of the cases, two tenths, ..., all are wrong."""
    return [
        {"coverage": one.coverage, "confidence": one.confidence, "wrong": _json(one.wrong)}
        for one in risk_coverage(predictions)
    ]


def by_class(predictions: RecordedPredictions, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics of each class against the rest; a class that does not occur has null."""
    return classes_json(results.by_class(predictions, classes))


def classes_json(rows: Sequence[results.ClassResult]) -> list[dict[str, Any]]:
    numbers = ("sensitivity", "specificity", "precision", "npv", "f1", "auroc", "auprc")
    return [
        {"class": row.name, "cases": row.cases} | numbers_json({name: getattr(row, name) for name in numbers})
        for row in rows
    ]


def by_site(predictions: RecordedPredictions, sites: np.ndarray) -> list[dict[str, Any]]:
    """The overall metrics of each site by itself; sites: (N,) str."""
    return [
        {"site": row.name, "cases": row.cases, "patients": row.patients, **numbers_json(row.numbers)}
        for row in results.by_site(predictions, sites)
    ]


def by_group(
    predictions: RecordedPredictions, classes: Sequence[str], groupings: Sequence[Grouping], tests: Sequence[GroupTest]
) -> list[dict[str, Any]]:
    """The metrics of each sub-group, and whether the groups of a grouping differ."""
    return [
        {
            "by": grouping.name,
            "test": TEST,
            "p": test.p,
            "p_adjusted": test.p_adjusted,
            **({"no_test": test.reason} if test.reason else {}),
            "groups": [
                {
                    "group": one.name,
                    "cases": one.cases,
                    "patients": one.patients,
                    "metrics": numbers_json(one.numbers),
                    "by_class": classes_json(one.classes),
                }
                for one in results_by_group(predictions, classes, grouping)
            ],
        }
        for grouping, test in zip(groupings, tests, strict=True)
    ]


def numbers_json(numbers: Mapping[str, Number]) -> dict[str, JsonNumber]:
    return {name: _json(number) for name, number in numbers.items()}


def _json(number: Number) -> JsonNumber:
    limits = number.limits
    found: JsonNumber = {
        "value": number.value,
        "n": number.n,
        "interval": None if limits.interval is None else [*limits.interval],
    }
    optional = {"right": number.right, "events": number.events, "baseline": number.baseline}
    found |= {key: value for key, value in optional.items() if value is not None}
    texts = {"method": limits.method, "no_interval": limits.reason, "no_value": number.no_value}
    found |= {key: text for key, text in texts.items() if text}
    return found
