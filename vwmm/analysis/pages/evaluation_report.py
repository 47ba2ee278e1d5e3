"""The page and JSON of an evaluation, each number with N and interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.figures.differences import shapley_plot
from vwmm.analysis.pages import result_tables
from vwmm.analysis.pages.baseline import compare_with_commonest
from vwmm.analysis.pages.markup import image_tag, templates
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.pages.result_json import (
    JsonNumber,
    by_class,
    by_group,
    by_site,
    calibration_json,
    decision_json,
    fitted_json,
    numbers_json,
    risk_json,
    shapley_json,
)
from vwmm.analysis.pages.result_tables import cell_of
from vwmm.analysis.pages.run_report import recipe_of, results_of
from vwmm.analysis.recalibration.applied import RECALIBRATED, Applied, apply_record, words_of_sets
from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.recalibration.operating_point import DEFAULT
from vwmm.analysis.run_record import RunRecord
from vwmm.analysis.statistics import results
from vwmm.analysis.statistics.calibration import calibration_of
from vwmm.analysis.statistics.intervals import Interval, Limits
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions, read_predictions
from vwmm.analysis.subgroups import PATTERN, Grouping, GroupTest, compare_groups, group_pattern, results_by_group
from vwmm.config.split_record import SplitRecord

RECALIBRATED_NAMES = ("Log loss", "Brier score", "ECE, debiased", "Calibration slope", "Calibration intercept")


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
    groupings: Sequence[Grouping] = (),
    calibration: CalibrationRecord | str = "the run has no calibration.json",
    operating_point: str = DEFAULT,
    shapley: np.ndarray | None = None,
) -> Evaluated:
    """The results of a predictions table.

    table: as predictions_val.csv, all text, each case with a label; sites: of each case, or none at all; facts: what
    is known of the evaluation besides, such as `run`, `epoch`, `is_test` and `times_evaluated`; origin: for the
    page; record: the run; the page shows its configuration; groupings: further sub-groups of the cases, beside those by
    which images they have; calibration: the run's, or why there is none; operating_point: its kind; shapley:
    (N, M), what each image adds to the probability of the true class.
    """
    predictions = read_predictions(table, list(classes), list(modalities), [])
    assert predictions is not None, "predictions_test.csv has these columns"
    assert len(predictions.labels) == len(table), "every case has a label and a finite prediction"
    applied = None if isinstance(calibration, str) else apply_record(predictions, calibration, operating_point)
    why = calibration if isinstance(calibration, str) else ""
    pattern = group_pattern(predictions.present)
    groupings = [*groupings, *([pattern] if len(pattern.groups) > 1 else [])]
    tests = compare_groups(predictions, groupings)
    summary = facts | _numbers(predictions, classes) | {
        "by_site": by_site(predictions, np.array(sites)) if sites else [],
        "fitted": fitted_json(applied, why),
        "shapley": {} if shapley is None else shapley_json(shapley, modalities, predictions.patients),
        "by_group": by_group(predictions, classes, groupings, tests),
    }  # fmt: skip
    page = _page(summary, predictions, classes, sites, origin, record)
    page |= {"fitted": None if applied is None else fitted_tables(predictions, classes, applied), "no_fit": why}
    page["groupings"] = grouping_tables(predictions, classes, groupings, tests)
    page["shapley"] = None if shapley is None else image_tag(shapley_plot(shapley, modalities))
    page["presence_rows"] = []  # they are among the groupings
    return Evaluated(summary, templates().get_template("evaluation.html.jinja").render(page))


def _numbers(predictions: RecordedPredictions, classes: Sequence[str]) -> dict[str, Any]:
    """What evaluation.json has of the cases as a whole."""
    return {
        "cases": len(predictions.labels),
        "patients": len(np.unique(predictions.patients)),
        "classes": list(classes),
        "metrics": numbers_json(results.overall(predictions)),
        "warnings": results.size_warnings(predictions, classes),
        "by_class": by_class(predictions, classes),
        "confusion": result_tables.matrix_of(predictions, classes).tolist(),
        "calibration": calibration_json(calibration_of(predictions, classes)),
        "decision_curve": decision_json(predictions),
        "risk_coverage": risk_json(predictions),
    }


def grouping_tables(
    predictions: RecordedPredictions, classes: Sequence[str], groupings: Sequence[Grouping], tests: Sequence[GroupTest]
) -> list[dict[str, Any]]:
    """A table of each grouping: `METRICS` of each group, of two classes sensitivity and specificity, and the test."""
    found = list[dict[str, Any]]()
    for grouping, test in zip(groupings, tests, strict=True):
        rows = []
        for one in results_by_group(predictions, classes, grouping):
            cells = [cell_of(m.title, one.numbers[name], is_share=m.is_share) for name, m in METRICS.items()]
            if len(classes) == 2:
                of_class = one.classes[1]
                cells += [
                    cell_of("Sensitivity", of_class.sensitivity),
                    cell_of("Specificity", of_class.specificity),
                ]
            count = f"{one.cases}; {one.patients}; {one.numbers['accuracy'].events}"
            rows.append({"name": one.name, "count": count, "cells": cells})
        corrected = len([each for each in tests if each.p is not None])
        words = f"No test of the difference: {test.reason}."
        if test.p is not None and test.p_adjusted is not None:
            of_several = f"; after Holm\u2019s correction over {corrected} groupings p {_probability(test.p_adjusted)}"
            words = f"Test of a difference between the groups: p {_probability(test.p)}"
            words += f"{of_several if corrected > 1 else ''}."
        title = "the modalities that are present" if grouping.name == PATTERN else grouping.name
        found.append({"title": title, "name": grouping.name, "rows": rows, "test": words})
    return found


def _page(
    summary: Mapping[str, Any], predictions: RecordedPredictions, classes: Sequence[str], sites: Sequence[str],
    origin: Origin, record: RunRecord | None,
) -> dict[str, Any]:  # fmt: skip
    """What the page shows besides sub-groups and what was fitted."""
    split = SplitRecord.of_json(summary.get("split"))
    page: dict[str, Any] = {"summary": summary, "sentence": sentence(summary), "split": split, "origin": origin}
    what = "mean of the runs" if summary.get("members") else "best checkpoint"
    of_what = f"{what}; none of these patients was used in training"
    found = results_of(predictions, classes, of_what, sites=np.array(sites) if sites else None)
    return page | recipe_of(record) | found


def fitted_tables(predictions: RecordedPredictions, classes: Sequence[str], applied: Applied) -> dict[str, Any]:
    """The rows of the page's tables of what was fitted on validation cases."""
    raw, names = results.overall(predictions), dict(zip(RECALIBRATED, RECALIBRATED_NAMES, strict=True))
    recalibrated = [
        {"name": names[key], "cells": [cell_of("as predicted", raw[key], is_share=False),
                                       cell_of("at the temperature", number, is_share=False)]}
        for key, number in applied.recalibrated.items()
    ]  # fmt: skip
    point = ""
    if applied.point is not None:
        kind = "Youden\u2019s index" if applied.point.kind == DEFAULT else applied.point.kind
        reached = f"sensitivity {applied.point.sensitivity:.3f}, specificity {applied.point.specificity:.3f}"
        point = (
            f"{classes[1]} from a probability of {applied.point.threshold:.4g} on ({kind}); on the "
            f"validation cases {reached}."
        )
    titles = {"sensitivity": "Sensitivity", "specificity": "Specificity", "precision": "PPV", "npv": "NPV"}
    sets = [
        {
            "promised": f"{100 * one.rule.level:g} % {'of each class' if one.rule.is_class_conditional else 'of all'}",
            "covered": cell_of("", one.covered),
            "by_class": "; ".join(
                f"{name} {result_tables.percent(number.value)}"
                for name, number in zip(classes, one.by_class, strict=True)
            ),
            "always": words_of_sets(one, classes),
            "size": f"{one.mean_size:.2f}",
            "single": f"{one.num_single:,}",
            "empty": f"{one.num_empty:,}",
        }
        for one in applied.sets
    ]
    return {
        "cases": result_tables.counted(applied.fitted_on["cases"], "validation case"),
        "patients": result_tables.counted(applied.fitted_on["patients"], "patient"),
        "temperature": "" if applied.temperature is None else f"{applied.temperature:.3g}",
        "no_temperature": applied.no_temperature,
        "recalibrated": recalibrated,
        "point": point,
        "at_point": [cell_of(titles.get(key, "Accuracy"), number) for key, number in applied.at_point.items()],
        "sets": sets,
    }


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def sentence(summary: Mapping[str, Any]) -> str:
    """The result in a plain sentence, compared with always predicting the most frequent class."""
    accuracy = summary["metrics"]["accuracy"]
    bounds = accuracy["interval"]
    interval = "" if bounds is None else f", 95 % interval {result_tables.percent_span(Interval(*bounds))}"
    kind = "test case" if summary["is_test"] else "case"
    members = summary.get("members") or []
    by = f"the mean of {len(members)} runs" if members else f"the best checkpoint (epoch {summary['epoch']})"
    unseen = f"that none of the {len(members)} runs has seen" if members else "that the run has never seen"
    which = "set aside before training" if summary["is_test"] else unseen
    cases, patients = (
        result_tables.counted(summary["cases"], kind),
        result_tables.counted(summary["patients"], "patient"),
    )
    result = (
        f"On {cases} of {patients}, {which}, {by} was right in "
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
