"""What an evaluation found: every number with its N and its interval, as evaluation.json and as a page for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis import tables
from vwmm.analysis.baseline import compare_with_commonest
from vwmm.analysis.calibration import Calibration, brier_scores, calibration_of, calibration_plot
from vwmm.analysis.document import results_of, svg_of, templates
from vwmm.analysis.intervals import (
    Interval,
    auroc_of,
    balanced_accuracy_of,
    bootstrap_interval,
    macro_auroc_of,
    mean_of,
)
from vwmm.analysis.metrics import classification_metrics, mean_loss, roc_curves
from vwmm.analysis.records import RecordedPredictions, log_losses, read_predictions

Number = dict[str, Any]
"""`value`, `n` and `interval`, [low, high]; null where one does not exist."""


@dataclass(frozen=True)
class Evaluated:
    """The results."""

    summary: dict[str, Any]
    """evaluation.json."""
    page: str
    """report.html."""


def evaluate_table(
    table: pd.DataFrame, classes: Sequence[str], modalities: Sequence[str], sites: Sequence[str], facts: dict[str, Any]
) -> Evaluated:
    """The results of a predictions table.

    table: as predictions_val.csv, all text, each case with a label; sites: of each case, or none at all; facts: what
    is known of the evaluation besides, such as `run`, `epoch`, `is_test` and `times_evaluated`.
    """
    predictions = read_predictions(table, list(classes), list(modalities), [])
    assert predictions is not None, "predictions_test.csv has these columns"
    assert len(predictions.labels) == len(table), "every case has a label and a finite prediction"
    calibration = calibration_of(predictions, classes)
    summary = {
        **facts,
        "cases": len(table),
        "patients": len(np.unique(predictions.patients)),
        "classes": list(classes),
        "metrics": overall(predictions, len(classes)),
        "by_class": by_class(predictions, classes),
        "confusion": tables.matrix_of(predictions, classes).tolist(),
        "calibration": _calibration(calibration),
        "by_site": by_site(predictions, np.array(sites), len(classes)) if sites else [],
    }
    page = {"summary": summary, "sentence": sentence(summary), "shown": _shown}
    page["calibration"] = svg_of(calibration_plot(calibration))
    page |= results_of(predictions, classes, "best checkpoint; none of these patients was learned from")
    return Evaluated(summary, templates().get_template("evaluation.html.jinja").render(page))


def overall(predictions: RecordedPredictions, num_classes: int) -> dict[str, Number]:
    """Accuracy, balanced accuracy, AUROC, loss and Brier score over all cases."""
    labels, probabilities, patients = predictions.labels, predictions.probabilities, predictions.patients
    values, losses = classification_metrics(labels, probabilities), log_losses(predictions)
    distances = brier_scores(predictions)
    n = len(labels)
    has_area = values["auroc"] is not None
    return {
        "accuracy": _share(predictions.predicted == labels, patients),
        "balanced_accuracy": _number(
            values["balanced_accuracy"],
            n,
            bootstrap_interval(balanced_accuracy_of(labels, predictions.predicted), patients),
        ),
        "auroc": _number(
            values["auroc"],
            n,
            bootstrap_interval(macro_auroc_of(labels, probabilities), patients) if has_area else None,
        ),
        "loss": _number(mean_loss(losses), n, bootstrap_interval(mean_of(losses), patients)),
        "brier": _number(mean_loss(distances), n, bootstrap_interval(mean_of(distances), patients)),
    }


def _calibration(found: Calibration) -> dict[str, Any]:
    groups = [
        {"probability": group.predicted, "came_true": _number(group.observed, group.num_cases, group.interval)}
        for group in found.groups
    ]
    excess = _number(found.excess, found.num_cases, found.excess_interval)
    return {"of": found.of_what, "excess": excess, "groups": groups}


def by_class(predictions: RecordedPredictions, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Sensitivity, specificity and one-vs-rest AUROC of each class; a class that does not occur has null."""
    labels, predicted, patients = predictions.labels, predictions.predicted, predictions.patients
    areas = {curve.label: curve.auroc for curve in roc_curves(labels, predictions.probabilities)}
    rows = []
    for number, name in enumerate(classes):
        of_class, called = labels == number, predicted == number
        scores = predictions.probabilities[:, number]
        interval = bootstrap_interval(auroc_of(of_class, scores), patients) if number in areas else None
        rows.append(
            {
                "class": name,
                "cases": int(of_class.sum()),
                "sensitivity": _share(called[of_class], patients[of_class]),
                "specificity": _share(~called[~of_class], patients[~of_class]),
                "precision": _share(of_class[called], patients[called]),
                "auroc": _number(areas.get(number), len(labels), interval),
            }
        )
    return rows


def by_site(predictions: RecordedPredictions, sites: np.ndarray, num_classes: int) -> list[dict[str, Any]]:
    """The overall metrics of each site by itself; sites: (N,) str."""
    rows = []
    for name in sorted(set(sites.tolist())):
        inside = sites == name
        part = RecordedPredictions(
            predictions.labels[inside],
            predictions.probabilities[inside],
            predictions.patients[inside],
            predictions.present[inside],
        )
        patients = len(np.unique(part.patients))
        rows.append({"site": name, "cases": int(inside.sum()), "patients": patients, **overall(part, num_classes)})
    return rows


def sentence(summary: Mapping[str, Any]) -> str:
    """The result in a plain sentence, and what always answering the commonest class would have reached."""
    accuracy = summary["metrics"]["accuracy"]
    bounds = accuracy["interval"]
    interval = "" if bounds is None else f", 95 % interval {tables.percent_span(Interval(*bounds))}"
    kind = "test case" if summary["is_test"] else "case"
    whose = "set aside before training" if summary["is_test"] else "that the run has never seen"
    cases, patients = tables.counted(summary["cases"], kind), tables.counted(summary["patients"], "patient")
    result = (
        f"On {cases} of {patients}, {whose}, the best checkpoint (epoch {summary['epoch']}) was right in "
        f"{accuracy['right']:,} ({tables.percent(accuracy['value'])}{interval})."
    )
    return f"{result} {compare_with_commonest(summary['confusion'], summary['classes'])}".rstrip()


def describe(summary: Mapping[str, Any]) -> str:
    """A few lines for people: each metric with its interval, over all cases and by site."""
    lines = [f"{'':22}{'cases':>7}{'accuracy':>28}{'balanced':>28}{'auroc':>24}"]
    rows = [("all", summary["cases"], summary["metrics"])]
    rows += [(row["site"], row["cases"], row) for row in summary["by_site"]]
    for name, cases, metrics in rows:
        cells = [_shown(metrics[key], is_share=key != "auroc") for key in ("accuracy", "balanced_accuracy", "auroc")]
        texts = [f"{value} ({span})" if span != tables.NONE else value for value, span in cells]
        lines.append(f"{name:22.22}{cases:7}{texts[0]:>28}{texts[1]:>28}{texts[2]:>24}".rstrip())
    return "\n".join(lines)


def _share(hits: np.ndarray, patients: np.ndarray) -> Number:
    found = tables.share(hits, patients)
    value = found.num_right / found.num_cases if found.num_cases else None
    return {**_number(value, found.num_cases, found.interval), "right": found.num_right}


def _number(value: float | None, n: int, interval: Interval | None) -> Number:
    return {"value": value, "n": n, "interval": None if interval is None else list(interval)}


def _shown(number: Number, *, is_share: bool = True) -> tuple[str, str]:
    """Value and interval as text."""
    interval = None if number["interval"] is None else Interval(*number["interval"])
    if is_share:
        return tables.percent(number["value"]), tables.percent_span(interval)
    return tables.decimal(number["value"]), tables.decimal_span(interval)
