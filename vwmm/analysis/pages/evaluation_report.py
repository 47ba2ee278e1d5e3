"""The page and JSON of an evaluation, each number with N and interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.pages import result_tables
from vwmm.analysis.pages.baseline import compare_with_commonest
from vwmm.analysis.pages.markup import templates
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.pages.result_json import (
    JsonNumber,
    by_class,
    by_group,
    by_site,
    calibration_json,
    decision_json,
    numbers_json,
    risk_json,
)
from vwmm.analysis.pages.result_tables import cell_of
from vwmm.analysis.pages.run_report import recipe_of, results_of
from vwmm.analysis.run_record import RunRecord
from vwmm.analysis.statistics import results
from vwmm.analysis.statistics.calibration import calibration_of
from vwmm.analysis.statistics.intervals import Interval, Limits
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions, read_predictions
from vwmm.analysis.subgroups import PATTERN, Grouping, GroupTest, compare_groups, group_pattern, results_by_group
from vwmm.config.split_record import SplitRecord


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
) -> Evaluated:
    """The results of a predictions table.

    table: as predictions_val.csv, all text, each case with a label; sites: of each case, or none at all; facts: what
    is known of the evaluation besides, such as `run`, `epoch`, `is_test` and `times_evaluated`; origin: for the
    page; record: the run; the page shows its configuration; groupings: further sub-groups of the cases, beside those by
    which images they have.
    """
    predictions = read_predictions(table, list(classes), list(modalities), [])
    assert predictions is not None, "predictions_test.csv has these columns"
    assert len(predictions.labels) == len(table), "every case has a label and a finite prediction"
    pattern = group_pattern(predictions.present)
    groupings = [*groupings, *([pattern] if len(pattern.groups) > 1 else [])]
    tests = compare_groups(predictions, groupings)
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
        "by_group": by_group(predictions, classes, groupings, tests),
    }
    split = SplitRecord.of_json(facts.get("split"))
    page: dict[str, Any] = {"summary": summary, "sentence": sentence(summary), "split": split, "origin": origin}
    page |= recipe_of(record) | results_of(
        predictions, classes, "best checkpoint; none of these patients was used in training",
        sites=np.array(sites) if sites else None,
    )  # fmt: skip
    page["groupings"] = grouping_tables(predictions, classes, groupings, tests)
    page["presence_rows"] = []  # they are among the groupings
    return Evaluated(summary, templates().get_template("evaluation.html.jinja").render(page))


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


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


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
