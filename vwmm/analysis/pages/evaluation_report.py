"""The page and JSON of an evaluation, each number with N and interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.figures.decision_curve import decision_curve
from vwmm.analysis.figures.risk_coverage import risk_coverage
from vwmm.analysis.pages import result_tables
from vwmm.analysis.pages.baseline import compare_with_commonest
from vwmm.analysis.pages.markup import templates
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.pages.run_report import recipe_of, results_of
from vwmm.analysis.run_record import RunRecord
from vwmm.analysis.statistics import results
from vwmm.analysis.statistics.calibration import Calibration, calibration_of
from vwmm.analysis.statistics.intervals import Interval, Limits
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions, read_predictions
from vwmm.analysis.statistics.results import Number
from vwmm.config.split_record import SplitRecord

JsonNumber = dict[str, Any]
"""`value`, `n`, `events` and `interval`, [low, high], null where one does not exist; `method` of the interval, or
`no_interval`: why a value has none; `no_value`: why it is not defined; `baseline`: of always answering the commonest
class."""


@dataclass(frozen=True)
class Evaluated:
    """The results."""

    summary: dict[str, Any]
    """evaluation.json."""
    page: str
    """report.html."""


def evaluate_table(
    table: pd.DataFrame,
    classes: Sequence[str],
    modalities: Sequence[str],
    sites: Sequence[str],
    facts: dict[str, Any],
    *,
    origin: Origin,
    record: RunRecord | None = None,
) -> Evaluated:
    """The results of a predictions table.

    table: as predictions_val.csv, all text, each case with a label; sites: of each case, or none at all; facts: what
    is known of the evaluation besides, such as `run`, `epoch`, `is_test` and `times_evaluated`; origin: for the
    page; record: the run; the page shows its configuration.
    """
    predictions = read_predictions(table, list(classes), list(modalities), [])
    assert predictions is not None, "predictions_test.csv has these columns"
    assert len(predictions.labels) == len(table), "every case has a label and a finite prediction"
    summary = {
        **facts,
        "cases": len(table),
        "patients": len(np.unique(predictions.patients)),
        "classes": list(classes),
        "metrics": numbers_json(results.overall(predictions)),
        "warnings": results.size_warnings(predictions, classes),
        "by_class": by_class(predictions, classes),
        "confusion": result_tables.matrix_of(predictions, classes).tolist(),
        "calibration": calibration_json(calibration_of(predictions, classes)),
        "decision_curve": decision_json(predictions),
        "risk_coverage": risk_json(predictions),
        "by_site": by_site(predictions, np.array(sites)) if sites else [],
    }
    split = SplitRecord.of_json(facts.get("split"))
    page = {"summary": summary, "sentence": sentence(summary), "split": split, "origin": origin}
    page |= recipe_of(record) | results_of(
        predictions, classes, "best checkpoint; none of these patients was used in training",
        sites=np.array(sites) if sites else None,
    )  # fmt: skip
    return Evaluated(summary, templates().get_template("evaluation.html.jinja").render(page))


def calibration_json(found: Calibration) -> dict[str, Any]:
    groups = [
        {"probability": group.predicted, "came_true": _json(Number(group.observed, group.num_cases, group.limits))}
        for group in found.groups
    ]
    excess = _json(Number(found.excess, found.num_cases, found.excess_limits))
    return {"of": found.of_what, "excess": excess, "groups": groups}


def decision_json(predictions: RecordedPredictions) -> list[dict[str, float]]:
    """Of two classes the net benefits at thresholds 0.05, 0.1, ... 0.95; of more none."""
    if predictions.probabilities.shape[1] != 2:
        return []
    curve = decision_curve(predictions.labels == 1, predictions.probabilities[:, 1], np.arange(1, 20) / 20)
    rows = zip(curve.thresholds.tolist(), curve.model.tolist(), curve.everybody.tolist(), strict=True)
    return [{"threshold": at, "net_benefit": model, "act_on_all": everybody} for at, model, everybody in rows]


def risk_json(predictions: RecordedPredictions) -> list[dict[str, Any]]:
    """How many of the surest tenth of the cases, two tenths, ..., all are wrong."""
    return [
        {"coverage": one.coverage, "confidence": one.confidence, "wrong": _json(one.wrong)}
        for one in risk_coverage(predictions)
    ]


def by_class(predictions: RecordedPredictions, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics of each class against the rest; a class that does not occur has null."""
    numbers = ("sensitivity", "specificity", "precision", "npv", "f1", "auroc", "auprc")
    return [
        {"class": row.name, "cases": row.cases} | numbers_json({name: getattr(row, name) for name in numbers})
        for row in results.by_class(predictions, classes)
    ]


def by_site(predictions: RecordedPredictions, sites: np.ndarray) -> list[dict[str, Any]]:
    """The overall metrics of each site by itself; sites: (N,) str."""
    return [
        {"site": row.name, "cases": row.cases, "patients": row.patients, **numbers_json(row.numbers)}
        for row in results.by_site(predictions, sites)
    ]


def sentence(summary: Mapping[str, Any]) -> str:
    """The result in a plain sentence, compared with always predicting the most frequent class."""
    accuracy = summary["metrics"]["accuracy"]
    bounds = accuracy["interval"]
    interval = "" if bounds is None else f", 95 % interval {result_tables.percent_span(Interval(*bounds))}"
    kind = "test case" if summary["is_test"] else "case"
    which = "set aside before training" if summary["is_test"] else "that the run has never seen"
    cases, patients = (
        result_tables.counted(summary["cases"], kind),
        result_tables.counted(summary["patients"], "patient"),
    )
    result = (
        f"On {cases} of {patients}, {which}, the best checkpoint (epoch {summary['epoch']}) was right in "
        f"{accuracy['right']:,} ({result_tables.percent(accuracy['value'])}{interval})."
    )
    return f"{result} {compare_with_commonest(summary['confusion'], summary['classes'])}".rstrip()


def describe(summary: Mapping[str, Any]) -> str:
    """A few lines for people: each metric with its interval, over all cases and by site."""
    widths = {name: max(28 if one.is_share else 24, len(one.column) + 2) for name, one in METRICS.items()}
    lines = [f"{'':22}{'cases':>7}" + "".join(f"{one.column:>{widths[name]}}" for name, one in METRICS.items())]
    rows = [("all", summary["cases"], summary["metrics"])]
    rows += [(row["site"], row["cases"], row) for row in summary["by_site"]]
    for name, cases, numbers in rows:
        texts = []
        for key, one in METRICS.items():
            value, span = _shown(numbers[key], is_share=one.is_share)
            text = value if numbers[key]["interval"] is None else f"{value} ({span})"
            texts.append(f"{text:>{widths[key]}}")
        lines.append(f"{name:22.22}{cases:7}{''.join(texts)}".rstrip())
    return "\n".join(lines)


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


def _shown(number: JsonNumber, *, is_share: bool = True) -> tuple[str, str]:
    """Value and interval as text, or why there is no interval."""
    interval = None if number["interval"] is None else Interval(*number["interval"])
    value, span = (
        (result_tables.percent, result_tables.percent_span)
        if is_share
        else (result_tables.decimal, result_tables.decimal_span)
    )
    return value(number["value"]), result_tables.limits_text(
        Limits(interval, reason=number.get("no_interval", "")), span
    )
