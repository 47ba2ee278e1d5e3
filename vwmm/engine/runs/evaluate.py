"""Evaluates finished runs on their test cases or on another hospital's patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.run_record import read_run
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.subgroups import Grouping
from vwmm.config.run_digests import altered_files, altered_notes
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.data.checks.identical_files import same_images
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.cohort_notes import table_notes
from vwmm.data.cohort.leakage import (
    Hashes,
    cases_hash,
    image_problems,
    label_problems,
    num_gone,
    num_test_cases,
    patient_problems,
    set_aside_problems,
    unlabelled_problems,
)
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.split_file import SplitRow, hash_of_split, read_split_file
from vwmm.engine.console import LOG, start_log
from vwmm.engine.distributed.precision import uses_volumes
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.evaluation.calibration_file import Asked
from vwmm.engine.evaluation.evaluation_log import count_evaluation
from vwmm.engine.evaluation.subgroup_columns import group_cases
from vwmm.engine.evaluation.test_set import check_folder, check_split, split_of, write_evaluation
from vwmm.engine.preprocessing.fill_cache import prepare_images
from vwmm.engine.runs.ensemble import Member, calibration_of, predict_mean, read_members
from vwmm.engine.runs.provenance import origin_now
from vwmm.engine.runs.trained_model import classes_of
from vwmm.system.errors import RunError, UserError, is_main_process, print_line
from vwmm.system.problems import Problem


@dataclass(frozen=True)
class Job:
    """A requested evaluation."""

    run: RunFolder
    """The finished run."""
    config: Config
    """Its configuration, with the cohort that is evaluated."""
    is_test: bool
    """Whether it is on the run's own test cases."""
    are_new: bool
    """Whether equal names of patients mean nothing."""
    out: Path
    """The folder of the results."""
    arguments: Sequence[str]
    """The words of the command line."""
    by: Sequence[str] = ()
    """`COLUMN` or `COLUMN:BINS`, by which the results are given as well."""
    asked: Asked = field(default_factory=Asked)
    """What is asked of the run's calibration."""
    more_runs: Sequence[RunFolder] = ()
    """Further finished runs: the mean of all is evaluated."""
    more_configs: Sequence[Config] = ()
    """Their configurations, with the same cohort."""
    name: str = ""
    """What is evaluated, as the page has it; empty: the run's name."""


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation, the same on every rank."""

    folder: Path
    """Where evaluation.json, predictions_test.csv and report.html are."""
    predictions: Predictions
    """A row per case."""
    summary: Mapping[str, Any]
    """The content of evaluation.json: metrics with intervals, counts, and the run they are of."""


def evaluate(job: Job) -> EvaluationResult:
    """Evaluates a run, or several as one model, and writes the results.

    Raises UserError where the input is wrong or contradicts a run.
    """
    # 1. The checkpoints, the cases, and whether a run has seen them. No GPU is held yet.
    start_log(is_main_process=is_main_process())
    members = read_members([job.run, *job.more_runs], [job.config, *job.more_configs])
    splits = _read_splits(job, members)
    calibration, why = calibration_of(members, job.asked)
    cohort, groupings = find_cases(job, splits[0], classes_of(members[0].checkpoint))
    _check_others(job, cohort, members[1:], splits[1:])
    for note in table_notes(cohort):
        LOG.info("note: %s", note)
    if calibration is None:
        LOG.info("note: neither operating point nor prediction sets: %s", why)
    for note in [note for member in members for note in altered_notes(member.run)]:
        LOG.info("warning: %s", note)

    # 2. Join the other processes, and transform the images; their content tells whether they were seen before.
    config = job.config
    runtime = start_runtime(config.train, shares_steps=False, has_volumes=uses_volumes(config.modalities))
    images = [prepare_images(runtime, cohort, one.config.modalities, one.config.cache) for one in members]
    hashes = images[0].hashes(cohort)
    for rows in splits:
        check_contents(job, cohort, hashes, rows)
    identity = cases_hash(cohort.cases, hashes)
    runtime.broadcast_from_main(lambda: check_folder(job.run, job.out, identity))

    # 3. The predictions of the best checkpoints.
    predictions = predict_mean(runtime, members, cohort, images, title="evaluation")
    if not np.isfinite(predictions.logits).all():
        raise RunError("the model's predictions are not finite numbers; nothing was evaluated")

    # 4. Count the look, then write what it showed.
    num_own, processes = [num_test_cases(hashes, rows) for rows in splits], runtime.num_processes
    times = runtime.broadcast_from_main(
        lambda: max(
            count_evaluation(member.run, identity, number, num_processes=processes)
            for member, number in zip(members, num_own, strict=True)
        )
    )
    facts = _facts(job, members, cohort, hash_of_split(splits[0]))
    facts |= {"cases_hash": identity, "num_test_cases": max(num_own), "times_evaluated": times}
    summary = runtime.broadcast_from_main(
        lambda: _write(job, cohort, predictions, facts, groupings, calibration or why)
    )
    return EvaluationResult(job.out, predictions, summary)


def _facts(job: Job, members: Sequence[Member], cohort: Cohort, split_hash: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "run": job.name or job.run.path.resolve().name,
        "epoch": members[0].checkpoint.progress.epoch if len(members) == 1 else None,
        "is_test": job.is_test,
        "cohort": cohort.csv_path.name,
        "split_hash": split_hash,
    }
    if len(members) > 1:
        facts["members"] = [{"run": one.name, "epoch": one.checkpoint.progress.epoch} for one in members]
    return facts


def _read_splits(job: Job, members: Sequence[Member]) -> list[dict[str, SplitRow]]:
    """The split of each run. Raises UserError where they do not have the same test cases, if these are evaluated."""
    splits = [read_split_file(member.run.split, key="RUN") for member in members]
    for member, rows in zip(members, splits, strict=True):
        check_split(member.run, rows)
    tested = [{name: (row.patient, row.label) for name, row in rows.items() if row.part == "test"} for rows in splits]
    problems = [
        f"{member.run.path}: has other test cases than {job.run.path} ({len(own)} and {len(tested[0])}); evaluate "
        "several runs on their test cases only if these are the same, else on other patients: RUN RUN... COHORT.csv"
        for member, own in zip(members, tested, strict=True)
        if job.is_test and own != tested[0]
    ]
    if problems:
        raise UserError(problems)
    return splits


def _check_others(
    job: Job, cohort: Cohort, members: Sequence[Member], splits: Sequence[Mapping[str, SplitRow]]
) -> None:
    """Raises UserError where patients were used in the training of a further run."""
    problems = list[Problem]()
    for member, rows in zip(members, splits, strict=True):
        if not job.are_new:
            problems += [
                replace(one, found=f"{one.found} (of {member.name})") for one in patient_problems(cohort, rows)
            ]
    if problems:
        raise UserError(problems)


def check_contents(job: Job, cohort: Cohort, hashes: Hashes, rows: Mapping[str, SplitRow]) -> None:
    """Raises UserError where images were used in training, or show one patient twice; warns of the own test cases'."""
    copies = same_images(cohort, hashes)
    problems = image_problems(cohort, hashes, rows, is_own=job.is_test)
    if not job.is_test:
        problems += [replace(copy, found=f"{copy.found}: count nobody twice") for copy in copies]
    if problems:
        raise UserError(problems)
    for copy in copies:
        LOG.info("warning: %s", copy.text)


def _write(
    job: Job,
    cohort: Cohort,
    predictions: Predictions,
    facts: dict[str, Any],
    groupings: Sequence[Grouping],
    calibration: CalibrationRecord | str,
) -> dict[str, Any]:
    """The content of evaluation.json."""
    split = split_of(job.run)
    altered = dict.fromkeys(name for run in (job.run, *job.more_runs) for name in altered_files(run))
    facts |= {"split": None if split is None else split.to_json(), "altered": list(altered)}
    sites = [case.site or "" for case in cohort.cases] if any(case.site for case in cohort.cases) else []
    text, summary = write_evaluation(
        job.out, predictions, sites, facts,
        origin=origin_now("evaluate", job.arguments), record=read_run(job.run.path), groupings=groupings,
        calibration=calibration, operating_point=job.asked.operating_point,
    )  # fmt: skip
    LOG.info("%s", text)
    if (times := facts["times_evaluated"]) > 1:
        what = "test cases of this run" if facts["num_test_cases"] else "these cases with this run"
        LOG.info("this is evaluation %d of %s: what was chosen after the first is too good", times, what)
    LOG.info("%d cases, results: %s", summary["cases"], job.out)
    return summary


def find_cases(job: Job, rows: dict[str, SplitRow], classes: tuple[str, ...]) -> tuple[Cohort, list[Grouping]]:
    """The cases that are evaluated, and their sub-groups.

    Raises UserError with everything by which they contradict the run's split.
    """
    tested = {name: row for name, row in rows.items() if row.part == "test"}
    if job.is_test and not tested:
        raise UserError(
            f"{job.run.path}: the run has set no test cases aside (split.test_fraction, or `vwmm split`); on other "
            "patients: vwmm evaluate RUN COHORT.csv"
        )
    config = job.config
    cohort, problems = survey_cohort(config.data, config.modalities, need_labels=False, classes=classes)
    if cohort is None:
        raise UserError(problems)
    if job.is_test:
        has_parts = config.split.file is None and config.split.fold is None
        problems = problems + set_aside_problems(cohort, rows, has_parts=has_parts) + label_problems(cohort, rows)
        if is_main_process() and (count := num_gone(cohort, rows)):
            print_line(
                f"note: {count} training or validation cases of the run are not in {cohort.csv_path.name} any more"
            )
        cohort = replace(cohort, cases=tuple(case for case in cohort.cases if case.name in tested))
    elif not cohort.cases:
        found = "no cases: the header is not followed by any row"
        problems = [*problems, Problem(found, "table", where=cohort.csv_path.name)]
    hint = "" if job.is_test else "; if they only share their names with the run's: --new-patients"
    if not job.are_new and not job.is_test:
        problems = problems + label_problems(cohort, tested, hint=hint)
    problems = problems + unlabelled_problems(cohort, cohort.cases)
    if not job.are_new and (seen := patient_problems(cohort, rows)):
        problems = [*problems, replace(seen[0], found=seen[0].found + hint), *seen[1:]]
    groupings, unusable = group_cases(job.by, cohort)
    problems = problems + unusable
    if is_main_process():
        problems = problems + check_images(cohort, config.modalities, cache=config.cache)
    if problems:
        raise UserError(problems)
    return cohort, groupings
