"""Applies the best checkpoints of one or several runs to new cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config, Modality
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.cohort_notes import table_notes
from vwmm.data.cohort.leakage import Hashes, cases_hash, num_learned_from, num_test_cases
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.split_file import read_split_file
from vwmm.engine.console import LOG, start_log
from vwmm.engine.distributed.precision import uses_volumes
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.evaluation.calibration_file import (
    Asked,
    always_in_sets,
    with_calibrated_columns,
)
from vwmm.engine.evaluation.evaluation_log import count_evaluation
from vwmm.engine.preprocessing.fill_cache import prepare_images
from vwmm.engine.runs.ensemble import Member, calibration_of, predict_mean, read_members
from vwmm.engine.runs.trained_model import classes_of
from vwmm.system.errors import UserError, is_main_process


@dataclass(frozen=True)
class PredictionResult:
    """Predictions for new cases, the same on every rank."""

    path: Path
    """The CSV."""
    predictions: Predictions
    """A row per case."""


def predict(
    configs: Sequence[Config], runs: Sequence[RunFolder], out: Path, asked: Asked | None = None
) -> PredictionResult:
    """Writes the predictions of the first configuration's cohort, of several runs the mean of their probabilities.

    configs: of each run, with the new cohort. Raises UserError where the user's input is wrong.
    """
    # 1. What the models are, and the cohort. No GPU is held yet.
    start_log(is_main_process=is_main_process())
    asked, members = asked or Asked(), read_members(runs, configs)
    first, config, classes = members[0], configs[0], classes_of(members[0].checkpoint)
    record, why = calibration_of(members, asked)
    cohort, problems = survey_cohort(config.data, config.modalities, need_labels=False, classes=classes)
    if cohort is not None and is_main_process():
        for modalities in _different(members):
            problems = problems + [
                one for one in check_images(cohort, modalities, cache=config.cache) if one not in problems
            ]
    if problems or cohort is None:
        raise UserError(problems)
    if not cohort.cases:
        raise UserError(f"{cohort.csv_path.name}: no cases: the header is not followed by any row")
    for note in [*table_notes(cohort), *_unfinished(members), *_notes_of_calibration(record, why, asked)]:
        LOG.info("note: %s", note)

    # 2. Join the other processes. Transform the images that are not in the cache, and predict.
    runtime = start_runtime(config.train, shares_steps=False, has_volumes=uses_volumes(config.modalities))
    images = [prepare_images(runtime, cohort, one.config.modalities, one.config.cache) for one in members]
    predictions = predict_mean(runtime, members, cohort, images, title="prediction")

    # 3. The table.
    if runtime.is_main_process:
        table = predictions.with_shapley_columns()
        table = table if record is None else with_calibrated_columns(table, record, asked)
        write_whole(out, table.to_csv())
        what = f"the checkpoint of epoch {first.checkpoint.progress.epoch}"
        what = what if len(members) == 1 else f"the mean of {len(members)} runs"
        counted = "1 case" if len(cohort.cases) == 1 else f"{len(cohort.cases)} cases"
        LOG.info("%s predicted with %s: %s", counted, what, out)
        _log_metrics(members, cohort, predictions, images[0].hashes(cohort), num_processes=runtime.num_processes)
    runtime.wait()
    return PredictionResult(out, predictions)


def _different(members: Sequence[Member]) -> list[Mapping[str, Modality]]:
    """The preprocessing of the members, each once."""
    found = list[Mapping[str, Modality]]()
    for member in members:
        if member.config.modalities not in found:
            found.append(member.config.modalities)
    return found


def _unfinished(members: Sequence[Member]) -> list[str]:
    return [
        f"{member.run.path} is not finished ({member.run.state() or 'no state in status.json'}): "
        f"its best checkpoint so far, of epoch {member.checkpoint.progress.epoch}, predicts"
        for member in members
        if member.run.state() != "done"
    ]


def _log_metrics(
    members: Sequence[Member], cohort: Cohort, predictions: Predictions, hashes: Hashes, *, num_processes: int
) -> None:
    """Of the cases with a label, and what makes them too good."""
    metrics = predictions.metrics()
    if not metrics["cases"]:
        return
    for member in members:
        for warning in _looks(member.run, cohort, hashes, num_processes=num_processes):
            LOG.info("warning: %s%s", f"{member.name}: " if len(members) > 1 else "", warning)
    values = [f"{name} {'-' if value is None else format(value, '.4f')}" for name, value in metrics.items()]
    LOG.info("on the %d cases with a label: %s", metrics["cases"], ", ".join(values[:-1]))


def _notes_of_calibration(record: CalibrationRecord | None, why: str, asked: Asked) -> list[str]:
    """Which further columns the table lacks or what limits them."""
    if record is None:
        return [f"no calibrated probabilities and no prediction sets: {why}"]
    notes = [f"no calibrated probabilities: {record.no_temperature}"] if record.temperature is None else []
    return [*notes, *([always] if (always := always_in_sets(record, asked)) else [])]


def _looks(run: RunFolder, cohort: Cohort, hashes: Hashes, *, num_processes: int) -> list[str]:
    """What makes the metrics too good; a look at test cases is counted, as those of `vwmm evaluate` are."""
    try:
        rows, warnings = read_split_file(run.split, key="RUN"), list[str]()
    except UserError as error:
        return [f"whether the run was trained on these cases is not known: {error.problems[0].text}"]
    labelled = {case.name: hashes[case.name] for case in cohort.cases if case.label is not None}
    if learned := num_learned_from(labelled, rows):
        warnings.append(f"{learned} of the labelled cases have images that the run was trained or validated on")
    if tested := num_test_cases(labelled, rows):
        looked = [case for case in cohort.cases if case.name in labelled]
        try:
            times = count_evaluation(run, cases_hash(looked, labelled), tested, num_processes=num_processes)
        except OSError as error:
            warnings.append(f"{tested} of them are test cases of the run; this look is not counted: {error}")
        else:
            warnings.append(f"{tested} of them are test cases of the run, and this is look {times} at these")
    return warnings
