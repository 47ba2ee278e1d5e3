"""The page and JSON of a cross-validation, from out-of-fold predictions.

Each case is predicted once, by the model that did not see its patient. Two summaries are given, because neither is the
other: the metrics of all predictions together, with intervals over patients, and the mean and standard deviation of the
folds' own metrics. The scores of different models need not be on one scale, so a pooled AUROC can differ from the
mean of the folds' (Forman and Scholz 2010, doi:10.1145/1882471.1882479).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.pages import result_tables
from vwmm.analysis.pages.baseline import compare_with_commonest
from vwmm.analysis.pages.markup import templates
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.pages.result_json import by_class, by_site, calibration_json, numbers_json
from vwmm.analysis.pages.run_report import recipe_of, results_of
from vwmm.analysis.pages.unimodal import summed_scores, unimodal_notes
from vwmm.analysis.run_record import RunRecord
from vwmm.analysis.statistics.calibration import calibration_of
from vwmm.analysis.statistics.intervals import accuracy_interval
from vwmm.analysis.statistics.metrics import METRICS, classification_metrics
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions, read_predictions
from vwmm.analysis.statistics.results import overall, size_warnings
from vwmm.config.split_record import SplitRecord


@dataclass(frozen=True)
class FoldResult:
    """The results of one fold."""

    number: int
    """The fold's number."""
    run: str
    """The name of its run folder."""
    predictions: pd.DataFrame
    """Its `predictions_val.csv`, all text."""
    validation: Mapping[str, Any]
    """The validation record of its best checkpoint: epoch, cases, loss, accuracy, ..."""
    split: SplitRecord
    """The origin of its split."""


@dataclass(frozen=True)
class Pooled:
    """The folds together."""

    table: pd.DataFrame
    """A row a case, sorted by case, all text; `fold` is the last column."""
    summary: dict[str, Any]
    """cross_validation.json."""
    page: str
    """report.html."""


def pool(
    name: str,
    folds: Sequence[FoldResult],
    classes: Sequence[str],
    modalities: Sequence[str],
    *,
    origin: Origin,
    notes: Sequence[str] = (),
    record: RunRecord | None = None,
    site_column: str = "site",
) -> Pooled:
    """Everything that is known once all folds are finished. Raises ValueError where a case is predicted twice.

    origin, notes: for the page, the latter as further remarks; record: the run of the first fold, for the page's
    configuration; site_column: the column of the predictions with the site of each case, if there is one.
    """
    table = _table(folds)
    predictions = read_predictions(table, list(classes), list(modalities), [])
    assert predictions is not None, "a run writes these columns"
    sites = table[site_column].to_numpy(dtype=str) if site_column in table else None
    sites = None if sites is None or not (sites != "").any() else sites
    summary = _summary(folds, table, predictions, classes, sites)
    page: dict[str, Any] = {"name": name, "summary": summary, "shown": _shown(summary), "sentence": _sentence(summary)}
    page |= {"notes": notes, "origin": origin, "metric_titles": [*(one.title for one in METRICS.values()), "Loss"]}
    unimodal = summed_scores(fold.validation for fold in folds)
    page["modality_notes"] = unimodal_notes(predictions, classes, unimodal)
    naive = compare_with_commonest(result_tables.matrix_of(predictions, classes), classes)
    page["sentence"] = f"{page['sentence']} {naive}".rstrip()
    page |= {"split": _split_words(folds[0].split)}
    page |= results_of(predictions, classes, "each by the model that did not see its patient",
                       folds=table["fold"].to_numpy(), sites=sites) | recipe_of(record)  # fmt: skip
    return Pooled(table, summary, templates().get_template("cross_validation.html.jinja").render(page))


def _summary(
    folds: Sequence[FoldResult],
    table: pd.DataFrame,
    predictions: RecordedPredictions,
    classes: Sequence[str],
    sites: np.ndarray | None,
) -> dict[str, Any]:
    """The content of cross_validation.json."""
    rows = [
        {
            "fold": fold.number,
            "run": fold.run,
            "best_epoch": fold.validation["epoch"],
            "cases": fold.validation["cases"],
        }
        | {key: fold.validation.get(key) for key in ("loss", *METRICS)}
        | {"parts": fold.split.to_json()["parts"]}
        for fold in folds
    ]
    right = predictions.predicted == predictions.labels
    interval = accuracy_interval(right, predictions.patients)
    losses = [row["loss"] * row["cases"] for row in rows if row["loss"] is not None]
    pooled = {
        "cases": len(table),
        "patients": table["patient"].nunique(),
        "right": int(right.sum()),
        "loss": math.fsum(losses) / len(table) if len(losses) == len(rows) else None,
        **classification_metrics(predictions.labels, predictions.probabilities),
        "accuracy_interval": None if interval is None else list(interval),
    }
    return {
        "folds": rows,
        "pooled": pooled,
        "mean": _over(rows, statistics.fmean),
        "std": _over(rows, _deviation),
        "metrics": numbers_json(overall(predictions)),
        "warnings": size_warnings(predictions, classes),
        "by_class": by_class(predictions, classes),
        "calibration": calibration_json(calibration_of(predictions, classes)),
        "by_site": [] if sites is None else by_site(predictions, sites),
    }


def describe(summary: Mapping[str, Any]) -> str:
    """A table for people: a line a fold, mean and deviation, and all cases together."""
    heads = {name: one.column for name, one in METRICS.items()} | {"loss": "loss"}
    widths = {key: max(9, len(head) + 2) for key, head in heads.items()}
    lines = [f"{'fold':>9}{'cases':>8}{''.join(f'{heads[key]:>{widths[key]}}' for key in heads)}{'best epoch':>12}"]

    def line(head: str, cases: Any, row: Mapping[str, Any], tail: str = "") -> str:
        cells = "".join(
            f"{'-' if row[key] is None else format(row[key], '.4f' if key == 'loss' else '.3f'):>{width}}"
            for key, width in widths.items()
        )
        return f"{head:>9}{cases:>8}{cells}{tail:>12}".rstrip()

    lines += [line(str(row["fold"]), row["cases"], row, str(row["best_epoch"])) for row in summary["folds"]]
    lines += [line("mean", "", summary["mean"]), line("std", "", summary["std"])]
    lines.append(line("pooled", summary["pooled"]["cases"], summary["pooled"]))
    return "\n".join(lines)


def _table(folds: Sequence[FoldResult]) -> pd.DataFrame:
    parts = []
    for fold in folds:
        part = fold.predictions
        parts.append(part.rename(columns={"fold": "cohort_fold"}).assign(fold=str(fold.number)))
    table = pd.concat(parts, ignore_index=True)
    if table["case"].duplicated().any():
        raise ValueError("a case was validated in two folds")
    return table.sort_values("case", kind="stable", ignore_index=True)


def _over(rows: Sequence[Mapping[str, Any]], statistic: Any) -> dict[str, float | None]:
    """A statistic of each metric over the folds; None where a fold has no value."""
    values = {key: [row[key] for row in rows] for key in ("loss", *METRICS)}
    return {key: None if None in found else statistic(found) for key, found in values.items()}


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _sentence(summary: Mapping[str, Any]) -> str:
    """The result in one plain sentence."""
    pooled = summary["pooled"]
    bounds = pooled["accuracy_interval"]
    interval = "" if bounds is None else f", 95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"
    return (
        f"Over {len(summary['folds'])} folds, {pooled['right']:,} of "
        f"{result_tables.counted(pooled['cases'], 'case')} of {result_tables.counted(pooled['patients'], 'patient')} "
        "were predicted right by models that had not seen the patient "
        f"({result_tables.percent(pooled['accuracy'])}{interval})."
    )


def _split_words(split: SplitRecord) -> str:
    """The origin of the folds, and the cases in none."""
    aside = f" In no fold: {split.parts['test']}, set aside to test." if "test" in split.parts else ""
    words = split.words_of_folds()
    return f"{words[0].upper()}{words[1:]}.{aside}"


def _shown(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the page's table of folds."""

    def cells(row: Mapping[str, Any]) -> dict[str, list[str]]:
        texts = [
            (result_tables.percent if one.is_share else result_tables.decimal)(row[key]) for key, one in METRICS.items()
        ]
        return {"cells": [*texts, result_tables.decimal(row["loss"])]}

    rows = [
        {"name": f"Fold {row['fold']}", "link": f"{row['run']}/report.html",
         "trained": _size(row["parts"]["train"]), "validated": _size(row["parts"]["val"]),
         "best_epoch": str(row["best_epoch"]), **cells(row)} for row in summary["folds"]
    ]  # fmt: skip
    for name, key in (("Mean", "mean"), ("Standard deviation", "std")):
        rows.append({"name": name, "link": "", "trained": "", "validated": "", "best_epoch": "", **cells(summary[key])})
    return rows


def _size(part: Mapping[str, int]) -> str:
    return f"{part['cases']}; {part['patients']}"
