"""The folds of a cross-validation, and their pooling.

runs/NAME/fold-0/ ...     a run each
runs/NAME/predictions.csv, cross_validation.json, report.html
"""

import csv
import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vwmm.config.run_digests import predictions_differ
from vwmm.config.run_folder import SWEEP_JOURNAL, RunFolder, differences_from, open_in_place, write_whole
from vwmm.config.schema import Config
from vwmm.config.split_record import SplitRecord
from vwmm.data.checks.preflight import check_config, check_images
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.splits import fold_numbers, record_of_split
from vwmm.system.csv_cells import as_meant, csv_text
from vwmm.system.errors import UserError, is_main_process
from vwmm.system.problems import Problem

if TYPE_CHECKING:  # pandas takes half a second, and planning needs none
    import pandas as pd

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """One fold, checked."""

    number: int
    """Its number, as in `split.fold`."""
    config: Config
    """The configuration of its run."""
    run: RunFolder
    """Where its run is."""
    is_done: bool
    """Whether that run is finished."""
    split: SplitRecord
    """How its split came about."""

    def overrides(self) -> list[str]:
        """KEY=VALUE arguments that make this fold's run out of the configuration that all folds share."""
        config = self.config
        values = {
            "split.folds": config.split.folds,
            "split.fold": self.number,
            "run.dir": config.run.dir,
            "run.name": config.run.name,
            "tracking.group": config.tracking.group,
        }
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def plan_folds(config: Config) -> list[Fold]:
    """All folds of the configuration's cohort, in order. Raises UserError with every problem of any of them.

    Which fold the configuration names makes no difference.
    """
    problems = list[Problem]()
    if config.run.resume != "auto":
        what = "a cross-validation resumes its existing folds; to start over choose another run.name"
        problems.append(Problem(what, where=f"run.resume={config.run.resume}"))
    folder = Path(config.run.dir) / str(config.run.name)
    for what, file in (("run", RunFolder(folder).config), ("sweep", folder / SWEEP_JOURNAL)):
        if file.exists():
            found_there = f"{folder} is a {what}, not a cross-validation; choose another run.name"
            problems.append(Problem(found_there, key="run.name"))
    cohort, found = survey_cohort(config.data, config.modalities)
    if cohort is not None and is_main_process():
        found = found + check_images(cohort, config.modalities)
    problems += found
    if problems or cohort is None:
        raise UserError(problems)
    split = config.split
    if split.file is not None and not fold_numbers(cohort, split):
        raise UserError(
            f"split.file: {Path(split.file).name} holds one split, without a column 'fold', and there is one for each "
            "fold here: split.file=null, or `vwmm split split.folds=5` writes a file of folds"
        )
    if split.folds is None and not fold_numbers(cohort, split):
        split = split.model_copy(update={"folds": DEFAULT_FOLDS})
    numbers = fold_numbers(cohort, split)
    folds, problems_of_folds = list[Fold](), dict[Problem, list[int]]()
    for number in numbers:
        try:
            folds.append(_plan_fold(config, split.model_copy(update={"fold": number}), number, folder))
        except UserError as error:
            for problem in error.problems:
                problems_of_folds.setdefault(problem, []).append(number)
    if problems_of_folds:
        raise UserError(
            problem if where == numbers else problem.within(f"fold {', '.join(map(str, where))}")
            for problem, where in problems_of_folds.items()
        )
    return folds


def _plan_fold(config: Config, split: Any, number: int, folder: Path) -> Fold:
    run = RunFolder(folder / f"fold-{number}")
    config = config.model_copy(
        update={
            "split": split,
            "run": config.run.model_copy(update={"dir": str(folder), "name": run.name}),
            "tracking": config.tracking.model_copy(update={"group": config.tracking.group or folder.name}),
        }
    )
    cohort, assigned = check_config(config, open_files=False)
    is_done = run.state() == "done"
    if is_done:
        differences = differences_from(run, config)
        problems = [one.within(f"{run.path} is finished with another configuration") for one in differences]
        rows = {(case.name, case.patient, case.label, assigned[case.name]) for case in cohort.cases}
        if changed := sorted({row[0] for row in rows ^ _read_split(run)}):
            shown = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
            found = f"{run.path} is finished, and {len(changed)} of its cases have changed in label or split ({shown})"
            problems.append(Problem(found))
        if problems:
            raise UserError([*problems, "to begin a new cross-validation choose another run.name"])
    return Fold(number, config, run, is_done, record_of_split(cohort, assigned, split, config.data.columns))


def _read_split(run: RunFolder) -> set[tuple[str, str, str | None, str]]:
    try:
        with run.split.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        cells = ([as_meant(row[key]) for key in ("case", "patient", "label", "split")] for row in rows)
        return {(case, patient, label, split) for case, patient, label, split in cells}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{run.split}: cannot be read: {error}") from error


def unfinished_of(folds: Sequence[Fold]) -> list[int]:
    """The numbers of the folds with unfinished runs."""
    return [fold.number for fold in folds if fold.run.state() != "done"]


def _read_predictions(run: RunFolder, classes: Sequence[str]) -> Any:
    """The predictions of a finished fold, for each of its validation cases once. Raises UserError where not."""
    from vwmm.analysis.statistics.predictions import read_written_table

    advice = f"remove the folder {run.path}, and the same command trains that fold again"
    try:
        table = read_written_table(run.predictions)
        scores = table[[f"p_{name}" for name in classes]].astype(float)
        rows = list(zip(table["case"], table["patient"], table["label"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run.predictions}: is damaged ({reason}); {advice}") from error
    expected = sorted(row[:3] for row in _read_split(run) if row[3] == "val")
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
    from vwmm.analysis.pages.origin import command_of

    if isinstance(arguments, list):
        own = fold.overrides()
        words = arguments[: -len(own)] if arguments[-len(own) :] == own else arguments
        arguments = [word for word in words if not str(word).startswith("split.fold=")]
    return command_of("cross_validate", arguments)


@dataclass(frozen=True)
class CrossValidationResult:
    """The pooled results of all folds."""

    folder: Path
    """Where predictions.csv, cross_validation.json and report.html are."""
    predictions: "pd.DataFrame"
    """predictions.csv: each case once, predicted by the model that was not trained on its patient."""
    summary: Mapping[str, Any]
    """cross_validation.json: metrics by fold, pooled, mean and standard deviation."""

    def describe(self) -> str:
        """Lines for people."""
        from vwmm.analysis.pages.baseline import no_better_note
        from vwmm.analysis.pages.cross_validation_report import describe

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
    from vwmm.analysis.pages.cross_validation_report import FoldResult, pool
    from vwmm.analysis.pages.origin import origin_of
    from vwmm.analysis.pages.run_report import near_duplicates_notes
    from vwmm.analysis.run_record import read_run
    from vwmm.engine.checkpoints.checkpoint import find_checkpoint

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
