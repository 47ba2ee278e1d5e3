"""The report of a run: one HTML file without scripts, network or other files.

`write_report(Path("runs/demo"))` reads the run folder and writes `report.html` into it. No identifier of a case or a
patient and no path goes into the page; of the command line files are shown by their names, other paths are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from vwmm.analysis.figures import curves, rates, report_figures
from vwmm.analysis.figures.calibration import calibration_plot
from vwmm.analysis.figures.decision_curve import decision_plot
from vwmm.analysis.figures.report_figures import Example
from vwmm.analysis.figures.risk_coverage import risk_coverage_plot
from vwmm.analysis.pages import result_tables
from vwmm.analysis.pages.baseline import compare_with_commonest
from vwmm.analysis.pages.markup import image_tag, templates
from vwmm.analysis.pages.origin import origin_of
from vwmm.analysis.pages.pathless import shown_config
from vwmm.analysis.pages.unimodal import presence_notes, unimodal_notes, unimodal_scores
from vwmm.analysis.run_record import History, RunRecord, read_run
from vwmm.analysis.statistics import results
from vwmm.analysis.statistics.calibration import calibration_of
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number
from vwmm.analysis.statistics.shapley import describe_means, hardly_used
from vwmm.config.run_folder import write_whole

__all__ = ["Example", "write_report"]

# Results from predictions alone.
_RESULTS = (
    "results", "class_rows", "site_rows", "presence_rows", "presence_notes", "cases", "confusion", "calibration",
    "calibration_plot", "excess", "roc", "precision_recall", "counts", "warnings", "decision", "risk_coverage",
    "groupings",
)  # fmt: skip
STATES = {
    "done": "finished",
    "running": "still running",
    "preempted": "stopped early; can be continued",
    "failed": "failed",
    "invalid": "not started: the input was not valid",
}


def write_report(
    run: Path, *, examples: Sequence[Example] = (), status: Mapping[str, Any] | None = None, notes: Sequence[str] = ()
) -> Path:
    """Writes `run/report.html` and returns its path; notes name files that are absent from the run folder.

    status: what status.json will hold once the report is there, instead of what it holds now. notes: further ones.

    The page appears complete or not at all: it is written under a temporary name in the same folder, then renamed.
    """
    path = run / "report.html"
    record = read_run(run, status=status)
    page = render(replace(record, notes=[*record.notes, *notes]), examples)
    write_whole(path, page.encode("utf-8", "replace"))
    return path


def render(record: RunRecord, examples: Sequence[Example] = ()) -> str:
    """The page as text; the same bits for the same record."""
    page = {
        "name": record.name,
        "origin": origin_of([record.environment]),
        "state": STATES.get(str(record.status.get("state")), "state unknown"),
        "is_done": record.status.get("state") == "done",
        "summary": summary(record),
        "notes": [*record.notes, *near_duplicates_notes([record.environment])],
        "curves": _curves(record.history),
        "modality_curves": image_tag(curves.modality_curves(record.history)) if record.history.unimodal else None,
        "modality_notes": _modality_notes(record),
        "examples": [image_tag(report_figures.examples([example])) for example in examples],
        "has_many_modalities": len(record.modalities) > 3,
        "split": record.split,
        "monitor": (record.config.get("train") or {}).get("monitor", "loss"),
    }  # fmt: skip
    page |= results_of(record.predictions, record.classes, "best checkpoint") | _cohort(record) | recipe_of(record)
    return templates().get_template("report.html.jinja").render(page)


def recipe_of(record: RunRecord | None) -> dict[str, Any]:
    """The settings in words, the configuration and the environment; None where no run is known."""
    if record is None:
        return dict.fromkeys(("recipe", "environment", "config"))
    return {
        "recipe": result_tables.recipe_rows(record),
        "environment": result_tables.environment_rows(record.environment),
        "config": yaml.safe_dump(shown_config(record.config), sort_keys=False, allow_unicode=True, width=100),
    }


def summary(record: RunRecord) -> str:
    """The result in a plain sentence, compared with always predicting the most frequent class."""
    epoch = record.history.best_epoch
    best = f"the best checkpoint (epoch {epoch})" if epoch is not None else "the best checkpoint"
    predictions = record.predictions
    if predictions is not None and len(predictions.labels):
        right = result_tables.share(predictions.predicted == predictions.labels, predictions.patients)
        interval = f", 95 % interval {right.span}" if right.interval else ""
        cases = result_tables.counted(right.num_cases, "validation case")
        patients = result_tables.counted(len(np.unique(predictions.patients)), "patient")
        naive = compare_with_commonest(result_tables.matrix_of(predictions, record.classes), record.classes)
        result = f"On {cases} of {patients} {best} was right in {right.num_right:,} ({right.text}{interval})."
        return f"{result} {naive}".rstrip()
    validation = record.history.validation
    rows = validation[validation["epoch"] == epoch].dropna(subset=["accuracy"])
    if not len(rows):
        return "This run has no validation result yet."
    cases = rows["cases"].iloc[-1]
    count = (
        " of the validation cases" if cases != cases else f" of {result_tables.counted(int(cases), 'validation case')}"
    )  # NaN
    accuracy = result_tables.percent(rows["accuracy"].iloc[-1])
    return f"In the best epoch so far ({epoch}) {accuracy}{count} were right; no interval without predictions."


def near_duplicates_notes(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Findings of an earlier `vwmm check` on the images of these runs, which share a cohort; may be empty.

    environments: environment.json of each.
    """
    found = [one["near_duplicates"] for one in environments if isinstance(one.get("near_duplicates"), Mapping)]
    numbers = [[one.get(key) for one in found] for key in ("pairs", "across_parts")]
    pairs, across = (max((one for one in values if isinstance(one, int)), default=0) for values in numbers)
    if not pairs:
        return []
    images = (
        "1 pair of images of different patients is"
        if pairs == 1
        else f"{pairs} pairs of images of different patients are"
    )
    whom = (
        ""
        if not across
        else ", some of them in different folds"
        if len(environments) > 1
        else f", {across} of them in different parts of the split"
    )
    return [f"vwmm check found that {images} almost the same{whom}{': the results may be too good' if across else ''}."]


def results_of(
    predictions: RecordedPredictions | None, classes: Sequence[str], of_what: str, *, folds: np.ndarray | None = None,
    sites: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The results from the predictions; None if there are none.

    folds: (N,), each one's curve is drawn as well; sites: (N,) str, each is judged by itself as well.
    """
    known: dict[str, Any] = {"of_what": of_what, "has_many_classes": len(classes) > 8}
    if predictions is None or not len(predictions.labels):
        return known | dict.fromkeys(_RESULTS)
    intervals = result_tables.class_auroc_intervals(predictions, classes)
    calibration = calibration_of(predictions, classes)
    excess = Number(calibration.excess, calibration.num_cases, calibration.excess_limits)
    roc = rates.roc(predictions, classes, intervals=intervals, folds=folds)
    counts = np.bincount(predictions.labels, minlength=len(classes))
    events = int(counts[1] if len(classes) == 2 else counts.min())
    return known | {
        "counts": (
            result_tables.counted(len(predictions.labels), "case"),
            result_tables.counted(len(np.unique(predictions.patients)), "patient"),
            f"{events} events: {f'cases of {classes[1]}' if len(classes) == 2 else 'the smallest class'}",
        ),
        "results": result_tables.result_rows(predictions, classes),
        "warnings": results.size_warnings(predictions, classes),
        "class_rows": result_tables.class_rows(predictions, classes),
        "site_rows": [] if sites is None else result_tables.site_rows(predictions, sites),
        "cases": result_tables.cases_of(predictions, classes),
        "groupings": [],
        "presence_rows": result_tables.presence_rows(predictions),
        "presence_notes": presence_notes(predictions, classes),
        "confusion": image_tag(report_figures.confusion(result_tables.matrix_of(predictions, classes), classes)),
        "calibration": calibration,
        "calibration_plot": image_tag(calibration_plot(calibration)),
        "excess": result_tables.cell_of("", excess, is_share=False),
        "roc": image_tag(roc),
        "precision_recall": image_tag(rates.precision_recall(predictions, classes)),
        "decision": image_tag(decision_plot(predictions, classes)) if len(classes) == 2 else None,
        "risk_coverage": image_tag(risk_coverage_plot(predictions)),
        "has_wide_curves": len(classes) > 4,
    }


def _modality_notes(record: RunRecord) -> list[str]:
    """Results of each modality alone, if there are predictions of all together for comparison."""
    if record.predictions is None or not len(record.predictions.labels):
        return []
    means, found = (
        record.history.shapley,
        unimodal_notes(record.predictions, record.classes, unimodal_scores(record.history)),
    )
    starved = hardly_used(means)
    return [*found, *(text for text in (describe_means(means), f"{starved}." if starved else "") if text)]


def _cohort(record: RunRecord) -> dict[str, Any]:
    """The sizes from the split; None if there is none."""
    cohort = result_tables.cohort_table(record)
    if cohort is None or record.split_table is None or not record.classes:
        return dict.fromkeys(("cohort", "class_figure", "presence_figure"))
    has_images = len(record.presence.columns) > 0
    return {
        "cohort": cohort,
        "class_figure": image_tag(report_figures.class_counts(record.split_table, record.classes)),
        "presence_figure": image_tag(report_figures.modality_presence(record.presence)) if has_images else None,
    }


def _curves(history: History) -> list[Markup]:
    """Loss and scores, as far as there are any."""
    if history.validation.empty and history.train.empty:
        return []
    panels = ("loss",) if history.validation.empty else ("loss", "scores")
    return [image_tag(curves.learning_curves(history, panels=[panel])) for panel in panels]


def pictures_of(record: RunRecord) -> dict[str, report_figures.Figure]:
    """The figures that a tracker is shown, by name, as far as there is anything in them."""
    shown = {}
    if not record.history.validation.empty:
        shown["learning_curves"] = curves.learning_curves(record.history)
    if record.history.unimodal:
        shown["modalities_alone"] = curves.modality_curves(record.history)
    if record.predictions is not None and len(record.predictions.labels):
        matrix = result_tables.matrix_of(record.predictions, record.classes)
        shown["confusion_matrix"] = report_figures.confusion(matrix, record.classes)
        intervals = result_tables.class_auroc_intervals(record.predictions, record.classes)
        shown["roc"] = rates.roc(record.predictions, record.classes, intervals=intervals)
        shown["precision_recall"] = rates.precision_recall(record.predictions, record.classes)
    return shown
