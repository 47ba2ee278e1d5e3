"""The final summary and the report of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.figures.report_figures import Example
from vwmm.analysis.pages.baseline import no_better_note
from vwmm.analysis.pages.run_report import write_report
from vwmm.analysis.statistics.intervals import accuracy_interval
from vwmm.analysis.statistics.recorded_predictions import read_written_table
from vwmm.analysis.statistics.shapley import hardly_used
from vwmm.config.loading import load_config
from vwmm.config.run_digests import altered_files, altered_notes
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Split
from vwmm.data.cache.store import Store
from vwmm.data.checks.preflight import check_cohort
from vwmm.data.cohort.splits import cases_of
from vwmm.data.loading.dataset import CaseDataset
from vwmm.data.readers.read import ImageError
from vwmm.engine.checkpoints.checkpoint import HOW_TO_RESTORE, META, find_checkpoint, read_checkpoint
from vwmm.engine.console import LOG
from vwmm.engine.evaluation.calibration_file import write_calibration
from vwmm.engine.tracking.results import results_to_track
from vwmm.engine.tracking.trackers import Trackers
from vwmm.engine.training.trainer import Trainer
from vwmm.system.errors import UserError

NUM_EXAMPLES = 6


@dataclass(frozen=True)
class TrainResult:
    """A run that is done, the same on every rank."""

    run: RunFolder
    """Its folder, with the report, the predictions and the checkpoints."""
    best_epoch: int
    """The epoch of the best checkpoint, from 1."""
    metrics: Mapping[str, Any]
    """Of the best epoch on the validation cases: loss, accuracy, balanced_accuracy, auroc, cases, ..."""


def finish_run(trainer: Trainer, trackers: Trackers | None) -> TrainResult:
    """Logs the result, writes report.html and the final status, and sends the result to the trackers."""
    trainer.runtime.watchdog.enter_phase("report")
    trainer.restore_predictions()
    metrics = trainer.runtime.broadcast_from_main(lambda: _report(trainer, trackers))
    trainer.checkpointing.close()
    trainer.runtime.wait()
    return TrainResult(trainer.run, metrics["epoch"], metrics)


def _report(trainer: Trainer, trackers: Trackers | None) -> dict[str, Any]:
    """The metrics of the best epoch."""
    run, progress, checkpointing = trainer.run, trainer.progress, trainer.checkpointing
    checkpoint = read_checkpoint(run.best)
    best: dict[str, Any] = checkpoint.description["validation"]
    write_calibration(run, checkpoint)
    examples = choose_examples(run, trainer.datasets.val)
    place = {"epoch": progress.epoch, "step": progress.step, "best_epoch": best["epoch"]}
    if checkpointing.metrics is not None:
        place |= checkpointing.result_files.final_entry(checkpointing.metrics)
    write_report(run.path, examples=examples, status={"state": "done", **place})
    run.write_status("done", **place)
    LOG.info("%s", describe_result(run, best))
    if trackers:
        trackers.show(results_to_track(run, examples[: trainer.config.tracking.images]))
    return best


def describe_result(run: RunFolder, best: dict[str, Any]) -> str:
    """The last lines of a run."""
    table = read_written_table(run.predictions)
    is_right = (table.label == table.predicted).to_numpy()
    right = int(is_right.sum())
    bounds = accuracy_interval(is_right, table.patient.to_numpy())
    interval = f", 95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
    auroc = "" if best["auroc"] is None else f", AUROC {best['auroc']:.3f}"
    note = no_better_note(table.label.tolist(), right)
    starved = hardly_used(best.get("shapley") or {})
    return "\n".join(
        [
            *([note] if note else []),
            *([f"note: {starved}"] if starved else []),
            f"result   accuracy {best['accuracy']:.3f} ({right} of {best['cases']} validation cases{interval}){auroc}, "
            f"loss {best['loss']:.4f}, best epoch {best['epoch']}",
            f"run      {run.path}",
            f"report   {run.report}",
        ]
    )


@dataclass(frozen=True)
class RewrittenReport:
    """The report of a run that has ended."""

    path: Path
    """report.html."""
    warnings: Sequence[str]
    """A sentence for each result that is not what the run wrote, or that cannot be read."""
    without_examples: str | None
    """Why the page has no examples; None: it has some."""


def rewrite_report(run: RunFolder) -> RewrittenReport:
    """Writes report.html of a run that has ended."""
    examples, why = find_examples(run)
    unusable = unusable_best(run)
    if run.state() == "done" and not unusable and not altered_notes(run) and run.predictions.exists():
        write_calibration(run, read_checkpoint(run.best))
    path = write_report(run.path, examples=examples, notes=unusable)
    return RewrittenReport(path, [*altered_notes(run), *unusable], why)


def unusable_best(run: RunFolder) -> list[str]:
    """A sentence if the best checkpoint cannot be read; the results do not need it, but predictions do."""
    try:
        is_there, found = find_checkpoint(run.best) is not None, ""
    except UserError as error:
        is_there, found = False, error.problems[0].found
    if is_there or (run.state() != "done" and not run.best.exists()):
        return []
    missing = f"{META} is missing" if run.best.exists() else "it is missing"
    return [
        f"checkpoints/best cannot be used: {found or missing}. The results here were recorded in training; "
        f"`vwmm predict`, `evaluate` and `verify` need the checkpoint: {HOW_TO_RESTORE}."
    ]


def find_examples(run: RunFolder) -> tuple[list[Example], str | None]:
    """The examples of a run that has ended, from the cohort's images; none, and why, where these are not there."""
    config = load_config([run.config])
    store, why, examples = Store(config.cache), None, list[Example]()
    if run.predictions.name in altered_files(run):
        return [], f"{run.predictions} was changed after the run wrote it"
    try:
        cohort, assigned = check_cohort(config.data, Split(file=str(run.split)), config.modalities, open_files=False)
        cases = cases_of(cohort, assigned, "val")
        recipes = {name: store.recipe(modality) for name, modality in config.modalities.items()}
        entries = {
            (case.name, name): store.entry(path, recipes[name])
            for case in cases
            for name, path in case.images.items()
            if path is not None
        }
        labels = [cohort.class_of(case) for case in cases]
        examples = choose_examples(run, CaseDataset(cases, config.modalities, entries, labels, store))
    except UnicodeDecodeError:
        why = f"{run.predictions} is not UTF-8 text"
    except UserError as error:
        first = error.problems[0]  # the reader has set no split.file: it is the run's own
        why = replace(first, named_by="", key="" if first.key == "split.file" else first.key).text
    except (ImageError, OSError, ValueError) as error:
        why = str(error).splitlines()[0]
    return examples, why


def choose_examples(run: RunFolder, dataset: CaseDataset) -> list[Example]:
    """Validation cases for the report: those the best checkpoint got most confidently wrong, then some it got right."""
    table = read_written_table(run.predictions)
    positions = {case.name: index for index, case in enumerate(dataset.cases)}
    confidence = [float(table[f"p_{row.predicted}"][row.Index]) for row in table.itertuples()]
    table = table.assign(confidence=confidence, is_right=table.label == table.predicted)
    wrong = table[~table.is_right].sort_values(["confidence", "case"], ascending=[False, True])
    right = table[table.is_right].drop_duplicates("label")
    chosen = pd.concat([wrong.head(NUM_EXAMPLES // 2), right]).head(NUM_EXAMPLES)
    return [
        Example(
            title=f"Example {number}",
            images={name: _slice(dataset.image(positions[row.case], name)) for name in dataset.modalities},
            label=row.label,
            predicted=row.predicted,
            probability=row.confidence,
        )
        for number, row in enumerate(chosen.itertuples(), 1)
    ]


def _slice(image: np.ndarray | None) -> np.ndarray | None:
    """(rows, columns) in 0..1 for a figure: the middle slice of a volume, the front of the patient upwards."""
    if image is None:
        return None
    plane = image[0] if image.ndim == 3 else image[0, :, :, image.shape[3] // 2]
    low, high = float(plane.min()), float(plane.max())
    scaled = (plane - low) / (high - low) if high > low else np.zeros_like(plane)
    return np.ascontiguousarray(np.flipud(scaled.T))
