"""Results as rows of text for the pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vwmm.analysis.figures.report_figures import SPLITS, combination_name, combinations
from vwmm.analysis.pages.pathless import is_path_text
from vwmm.analysis.run_record import RunRecord, setting
from vwmm.analysis.statistics.intervals import Interval, Limits, share_limits
from vwmm.analysis.statistics.metrics import METRICS, confusion_matrix
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number, by_class, by_site, overall

NONE = "\u2013"
NO_SPLIT_RECORD = "not recorded by the version of vwmm that trained this"
MAX_COMBINATIONS = 16
_VERSIONS = ("vwmm", "python", "torch", "monai", "accelerate", "numpy")
_ENVIRONMENT = {
    "platform": "Platform", "git_commit": "Git commit", "started": "Started", "num_processes": "Processes",
    "threads_per_process": "Threads a process", "devices": "Devices", "backend": "Backend",
    "mixed_precision": "Precision", "cohort_hash": "Cohort hash", "split_hash": "Split hash",
}  # fmt: skip


@dataclass(frozen=True)
class Share:
    """So many of so many, with an interval over patients."""

    num_right: int
    num_cases: int
    limits: Limits
    """The interval, and how it was computed."""

    @property
    def interval(self) -> Interval | None:
        return self.limits.interval

    @property
    def text(self) -> str:
        return percent(self.num_right / self.num_cases) if self.num_cases else NONE

    @property
    def span(self) -> str:
        """The interval, or why there is none."""
        return limits_text(self.limits, percent_span)


def share(correct: np.ndarray, patients: np.ndarray) -> Share:
    """correct: (N,) bool; patients: (N,)."""
    return Share(int(correct.sum()), len(correct), share_limits(correct, patients))


def percent(value: float | None) -> str:
    """0.95 as `95.0 %`."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def percent_span(interval: Interval | None) -> str:
    """An interval of shares, as `86.3 to 98.3 %`."""
    return NONE if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def decimal(value: float | None) -> str:
    """Three decimals."""
    return NONE if value is None or math.isnan(value) else f"{value:.3f}"


def decimal_span(interval: Interval | None) -> str:
    """An interval with three decimals."""
    return NONE if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def limits_text(limits: Limits, span: Callable[[Interval | None], str]) -> str:
    """The interval as `span` writes it, or `no interval: ` and why; nothing where neither is known."""
    return span(limits.interval) if limits.interval else f"no interval: {limits.reason}" if limits.reason else ""


def counted(number: int, noun: str) -> str:
    """`1 case`, `60 cases`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def result_rows(predictions: RecordedPredictions, classes: Sequence[str]) -> list[dict[str, str]]:
    """All metrics over all cases, with their intervals and what naming the commonest class reaches."""
    found, judged = overall(predictions), _judged_words(classes)
    rows = []
    for name, metric in METRICS.items():
        number, what = found[name], metric.describe(classes)
        what = what if number.right is None else f"{number.right} of {number.n} {what}"
        rows.append(_row(metric.title, what, number, is_share=metric.is_share))
    of_class = f"of {classes[1]}" if len(classes) == 2 else f"mean of {len(classes)}, each class against the rest"
    return [
        *rows,
        _row("AUPRC", f"average precision, {of_class}", found["auprc"]),
        _row("F1", of_class, found["f1"]),
        _row("MCC", "Matthews\u2019 correlation; 0 is chance, 1 is best", found["mcc"]),
        _row("Log loss", "mean of \u2212ln p(true class); lower is better", found["loss"]),
        _row("Brier score", "half the squared error of the probabilities; 0 is best", found["brier"]),
        _row("ECE, debiased", f"mean gap of probability and observed share {judged}; 0 is best", found["ece"]),
        _row("Calibration slope", f"{judged}; 1 is best, below it overconfident", found["calibration_slope"]),
        _row("Calibration intercept", f"{judged}; 0 is best, above it probabilities are too low",
             found["calibration_intercept"]),
    ]  # fmt: skip


def _judged_words(classes: Sequence[str]) -> str:
    return f"of {classes[1]}" if len(classes) == 2 else "of the predicted class"


def class_rows(predictions: RecordedPredictions, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics of each class against the rest, with intervals."""
    return [
        {"name": row.name, "count": row.cases, "cells": [
            cell_of("Sensitivity", row.sensitivity, what="of its cases, found"),
            cell_of("Specificity", row.specificity, what="of the others, left out"),
            cell_of("PPV", row.precision, what="precision: of its calls, right"),
            cell_of("NPV", row.npv, what="of the other calls, right"),
            cell_of("F1", row.f1, is_share=False),
            cell_of("AUROC", row.auroc, is_share=False),
            cell_of("AUPRC", row.auprc, is_share=False),
        ]}
        for row in by_class(predictions, classes)
    ]  # fmt: skip


def site_rows(predictions: RecordedPredictions, sites: np.ndarray) -> list[dict[str, Any]]:
    """Each of `METRICS` of each site, with intervals; sites: (N,) str."""
    return [
        {"name": row.name or "not known", "count": f"{row.cases}; {row.patients}", "cells": [
            cell_of(metric.title, row.numbers[name], is_share=metric.is_share) for name, metric in METRICS.items()
        ]}
        for row in by_site(predictions, sites)
    ]  # fmt: skip


def cell_of(name: str, number: Number, *, what: str = "", is_share: bool = True) -> dict[str, Any]:
    """A number of a table: its value, of how many, and its interval or why it has none."""
    value, span = (percent, percent_span) if is_share else (decimal, decimal_span)
    hits = f"{number.right} of {number.n}" if number.right is not None and number.n else ""
    return {"name": name, "what": what, "value": value(number.value), "hits": hits,
            "span": limits_text(number.limits, span) or number.no_value,
            "has_interval": number.limits.interval is not None}  # fmt: skip


def cases_of(predictions: RecordedPredictions, classes: Sequence[str]) -> dict[str, Any]:
    """Cases and patients by class, and how many cases have each modality."""
    labels, patients = predictions.labels, predictions.patients
    return {
        "classes": [(name, int((labels == k).sum()), len(np.unique(patients[labels == k]))) for k, name in
                    enumerate(classes)],
        "num_cases": len(labels),
        "num_patients": len(np.unique(patients)),
        "modalities": [(name, int(flags.sum()), f"{100 * flags.mean():.0f} %") for name, flags in
                       predictions.present.items()],
    }  # fmt: skip


def class_auroc_intervals(predictions: RecordedPredictions, classes: Sequence[str]) -> list[Interval | None]:
    """One-vs-rest AUROC intervals, one per class."""
    return [row.auroc.limits.interval for row in by_class(predictions, classes)]


def matrix_of(predictions: RecordedPredictions, classes: Sequence[str]) -> np.ndarray:
    """The confusion matrix, (K, K) int64."""
    return confusion_matrix(predictions.labels, predictions.predicted, len(classes))


def presence_rows(predictions: RecordedPredictions) -> list[dict[str, Any]]:
    """Accuracy by which modalities are present; empty where every case has all of them."""
    present = predictions.present.to_numpy(dtype=bool)  # (N, M)
    if present.size == 0 or present.all():
        return []
    correct = predictions.predicted == predictions.labels
    rows = []
    counts = combinations(predictions.present)
    others = np.ones(len(present), dtype=bool)
    for flags, _ in counts[:MAX_COMBINATIONS]:
        chosen = (present == flags).all(axis=1)
        others &= ~chosen
        rows.append({"name": combination_name(list(predictions.present.columns), flags),
                     "share": share(correct[chosen], predictions.patients[chosen])})  # fmt: skip
    if others.any():
        rows.append({"name": "other combinations", "share": share(correct[others], predictions.patients[others])})
    return rows


def cohort_table(record: RunRecord) -> dict[str, Any] | None:
    """Cases by class and split, cases and patients by split, and how many have each modality."""
    table = record.split_table
    if table is None or not {"label", "split", "patient"} <= set(table.columns):
        return None
    parts = {name: (table["split"] == split).to_numpy() for split, name in SPLITS.items()}
    parts = {name: chosen for name, chosen in parts.items() if chosen.any()}
    parts["all"] = np.ones(len(table), dtype=bool)
    return {
        "columns": list(parts),
        "classes": [(k, [int((table["label"][c] == k).sum()) for c in parts.values()]) for k in record.classes],
        "cases": [int(c.sum()) for c in parts.values()],
        "patients": [int(table["patient"][c].nunique()) for c in parts.values()],
        "modalities": [
            (name, [(int(flags[c].sum()), f"{100 * flags[c].mean():.0f} %") for c in parts.values()])
            for name, flags in record.presence.items()
        ],
    }  # fmt: skip


def recipe_rows(record: RunRecord) -> list[tuple[str, str]]:
    """The training settings, in words."""
    config, parameters = record.config, record.environment.get("num_parameters")
    rows = [(f"Input {name}", _input_words(setting(config, f"modalities.{name}"))) for name in record.modalities]
    rows += [
        ("Network", _words(config, "model", ("backbone", "{}"), ("norm", "{} norm"), ("features", "features {}"),
                           ("hidden", "head {}"), ("dropout", "dropout {}"), ("modality_dropout",
                                                                              "modality dropout {}"))),
        ("Parameters", f"{parameters:,}" if isinstance(parameters, int) else ""),
        ("Optimizer", _words(config, "train", ("optimizer", "{}"), ("lr", "learning rate {}"), ("schedule", "{}"),
                             ("warmup_steps", "{} warm-up steps"), ("weight_decay", "weight decay {}"))),
        ("Batch", _words(config, "train", ("batch_size", "{} cases a step"), ("micro_batch_size",
                                                                              "computed {} at a time"))),
        ("Training", _words(config, "train", ("epochs", "at most {} epochs"), ("monitor", "best by validation {}"),
                            ("class_weights", "class weights {}"),
                            ("pattern_weights", "pattern weights {}"), ("label_smoothing", "label smoothing {}"),
                            ("seed", "seed {}"))),
        ("Split", record.split.words() if record.split else NO_SPLIT_RECORD),
    ]  # fmt: skip
    return [(name, text) for name, text in rows if text]


def environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions, machine and hashes; only known keys, so that no path, host or command line gets in."""
    versions = {name: environment[name] for name in _VERSIONS if name in environment}
    if isinstance(environment.get("versions"), Mapping):
        versions |= environment["versions"]
    rows = [(str(name), _listed(value)) for name, value in versions.items()]
    rows += [(words, _listed(environment[key])) for key, words in _ENVIRONMENT.items() if key in environment]
    return [(name, text) for name, text in rows if text and not is_path_text(text)]


def _row(name: str, what: str, number: Number, *, is_share: bool = False) -> dict[str, str]:
    value, span = (percent, percent_span) if is_share else (decimal, decimal_span)
    interval = number.limits.interval
    why = f"not defined: {number.no_value}" if number.no_value else ""
    reason = f"no interval: {number.limits.reason}" if number.limits.reason else NONE
    return {"name": name, "what": what, "value": value(number.value), "span": span(interval),
            "n": f"{number.n:,}", "events": NONE if number.events is None else f"{number.events:,}",
            "baseline": "" if number.baseline is None else value(number.baseline),
            "method": why or number.limits.method or reason}  # fmt: skip


def _listed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _words(config: Mapping[str, Any], section: str, *phrases: tuple[str, str]) -> str:
    """`model.backbone`, `model.norm`, ... in words; what is unset, none or zero goes unsaid, except a seed or fold."""
    parts = [(key, phrase, setting(config, f"{section}.{key}")) for key, phrase in phrases]
    return ", ".join(
        phrase.format(_listed(value)) for key, phrase, value in parts
        if value not in (None, 0, []) or (key in {"seed", "fold"} and value == 0)
    )  # fmt: skip


def _input_words(modality: Any) -> str:
    if not isinstance(modality, Mapping):
        return ""
    size = " \u00d7 ".join(str(number) for number in modality.get("size") or [])
    parts = [f"{modality.get('dims')}D", f"{size} voxels" if modality.get("dims") == 3 else f"{size} pixels"]
    if modality.get("window_hu"):
        parts.append("window {:g} to {:g} HU".format(*modality["window_hu"]))
    if modality.get("spacing_mm"):
        parts.append(f"spacing {_listed(modality['spacing_mm'])} mm")
    if modality.get("intensity"):
        parts.append(str(modality["intensity"]).replace("_", "-"))
    return ", ".join(parts)
