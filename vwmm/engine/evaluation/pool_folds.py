"""Pools the finished folds of a cross-validation: runs/NAME/predictions.csv, cross_validation.json, report.html."""

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vwmm.analysis.pages.baseline import no_better_note
from vwmm.analysis.pages.cross_validation_report import FoldResult, describe, pool
from vwmm.analysis.pages.origin import command_of, origin_of
from vwmm.analysis.pages.run_report import near_duplicates_notes
from vwmm.analysis.run_record import read_run
from vwmm.analysis.statistics.recorded_predictions import read_written_table
from vwmm.config.run_digests import predictions_differ
from vwmm.config.run_folder import RunFolder, open_in_place, write_whole
from vwmm.engine.checkpoints.checkpoint import find_checkpoint
from vwmm.engine.evaluation.cross_validation import Fold, read_split_rows
from vwmm.system.csv_cells import csv_text
from vwmm.system.errors import UserError


@dataclass(frozen=True)
class CrossValidationResult:
    """The pooled results of all folds."""

    folder: Path
    """Where predictions.csv, cross_validation.json and report.html are."""
    predictions: pd.DataFrame
    """predictions.csv: each case once, predicted by the model that was not trained on its patient."""
    summary: Mapping[str, Any]
    """cross_validation.json: metrics by fold, pooled, mean and standard deviation."""

    def describe(self) -> str:
        """Lines for people."""
        total = self.summary["pooled"]
        bounds = total["accuracy_interval"]
        interval = f", 95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
        auroc = "" if total["auroc"] is None else f", AUROC {total['auroc']:.3f}"
        note = no_better_note(self.predictions["label"].tolist(), total["right"])
        return "\n".join(
            [
                describe(self.summary),
                *([note] if note else []),
                f"result   accuracy {total['accuracy']:.3f} ({total['right']} of {total['cases']} cases, each out of "
                f"fold{interval}){auroc}",
                f"folds    {self.folder}",
                f"report   {self.folder / 'report.html'}",
            ]
        )


def pool_folds(folds: Sequence[Fold]) -> CrossValidationResult:
    """Pools the results of finished folds and writes them. Raises UserError for a damaged run."""
    results, classes = [], None
    for fold in folds:
        best = find_checkpoint(fold.run.best)
        if best is None or not fold.run.predictions.exists():
            raise UserError(f"{fold.run.path}: is finished, but has no best checkpoint or no predictions any more")
        classes = classes or best.description["classes"]
        table = _read_predictions(fold.run, classes)
        results.append(FoldResult(fold.number, fold.run.name, table, best.description["validation"], fold.split))
    folder = folds[0].run.path.parent
    environments = [fold.run.read_environment() for fold in folds]
    pooled = pool(
        folder.name, results, classes or [], list(folds[0].config.modalities),
        origin=origin_of(environments, command=_command(folds[0], environments[0].get("arguments"))),
        notes=near_duplicates_notes(environments),
        record=read_run(folds[0].run.path),
        site_column=folds[0].config.data.columns.site,
    )  # fmt: skip
    with open_in_place(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two folds may end at the same time
        write_whole(folder / "predictions.csv", csv_text([list(pooled.table.columns), *pooled.table.values.tolist()]))
        write_whole(folder / "cross_validation.json", json.dumps(pooled.summary, indent=2) + "\n")
        write_whole(folder / "report.html", pooled.page)
    return CrossValidationResult(folder, pooled.table, pooled.summary)


def _read_predictions(run: RunFolder, classes: Sequence[str]) -> Any:
    """The predictions of a finished fold, for each of its validation cases once. Raises UserError where not."""
    advice = f"remove the folder {run.path}, and the same command trains that fold again"
    try:
        table = read_written_table(run.predictions)
        scores = table[[f"p_{name}" for name in classes]].astype(float)
        rows = list(zip(table["case"], table["patient"], table["label"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run.predictions}: is damaged ({reason}); {advice}") from error
    expected = sorted(row[:3] for row in read_split_rows(run) if row[3] == "val")
    if predictions_differ(run):
        raise UserError(f"{run.predictions}: was changed after the run wrote it; {advice}")
    is_whole = bool(table.notna().all(axis=None) and scores.notna().all(axis=None))
    if sorted(rows) != expected or not is_whole or not run.predictions.read_bytes().endswith(b"\n"):
        raise UserError(
            f"{run.predictions}: is damaged: it does not have each of the fold's {len(expected)} validation cases "
            f"once, with its label and its probabilities; {advice}"
        )
    return table


def _command(fold: Fold, arguments: Any) -> str:
    """The command of the cross-validation, from the words of a fold's training; the same whichever fold ended last."""
    if isinstance(arguments, list):
        own = fold.overrides()
        words = arguments[: -len(own)] if arguments[-len(own) :] == own else arguments
        arguments = [word for word in words if not str(word).startswith("split.fold=")]
    return command_of("cross_validate", arguments)
