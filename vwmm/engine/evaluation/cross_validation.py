"""Plans the folds of a cross-validation: each is a run in runs/NAME/fold-0/ ..."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vwmm.config.run_folder import SWEEP_JOURNAL, RunFolder, differences_from
from vwmm.config.schema import Config
from vwmm.config.split_record import SplitRecord
from vwmm.data.checks.preflight import check_config, check_images
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.splits import fold_numbers, record_of_split
from vwmm.system.csv_cells import as_meant
from vwmm.system.errors import UserError, is_main_process
from vwmm.system.problems import Problem

DEFAULT_FOLDS = 5
# What a comparison of models has in its folder, in the order in which it arises.
OF_COMPARISON = ("folds.csv", "all", "comparison.json")


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


def plan_folds(config: Config, *, open_files: bool = True) -> list[Fold]:
    """All folds of the configuration's cohort, in order. Raises UserError with every problem of any of them.

    Which fold the configuration names makes no difference. open_files: whether to look into each image's header.
    """
    problems = list[Problem]()
    if config.run.resume != "auto":
        what = "a cross-validation resumes its existing folds; to start over choose another run.name"
        problems.append(Problem(what, where=f"run.resume={config.run.resume}"))
    folder = Path(config.run.dir) / str(config.run.name)
    kinds = [("run", RunFolder(folder).config), ("sweep", folder / SWEEP_JOURNAL)]
    kinds += [("comparison", folder / name) for name in OF_COMPARISON]
    for what, file in kinds:
        if file.exists():
            found_there = f"{folder} is a {what}, not a cross-validation; choose another run.name"
            problems.append(Problem(found_there, key="run.name"))
    cohort, found = survey_cohort(config.data, config.modalities)
    if cohort is not None and open_files and is_main_process():
        found = found + check_images(cohort, config.modalities, cache=config.cache)
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
        if changed := sorted({row[0] for row in rows ^ read_split_rows(run)}):
            shown = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
            found = f"{run.path} is finished, and {len(changed)} of its cases have changed in label or split ({shown})"
            problems.append(Problem(found))
        if problems:
            raise UserError([*problems, "to begin a new cross-validation choose another run.name"])
    return Fold(number, config, run, is_done, record_of_split(cohort, assigned, split, config.data.columns))


def read_split_rows(run: RunFolder) -> set[tuple[str, str, str | None, str]]:
    """(case, patient, label, part) of each row of a run's split.csv."""
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
