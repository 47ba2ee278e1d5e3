"""Applies a run's best checkpoint to new cases."""

from dataclasses import dataclass
from pathlib import Path

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.cohort_notes import table_notes
from vwmm.data.cohort.leakage import Hashes, cases_hash, num_learned_from, num_test_cases
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.split_file import read_split_file
from vwmm.engine.checkpoints.checkpoint import find_checkpoint
from vwmm.engine.console import LOG, start_log
from vwmm.engine.distributed.precision import uses_volumes
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.evaluation.calibration_file import (
    Asked,
    always_in_sets,
    read_calibration,
    with_calibrated_columns,
)
from vwmm.engine.evaluation.evaluation_log import count_evaluation
from vwmm.engine.preprocessing.fill_cache import build_dataset, prepare_images
from vwmm.engine.runs.trained_model import classes_of, predict_by_checkpoint
from vwmm.system.errors import UserError, is_main_process


@dataclass(frozen=True)
class PredictionResult:
    """Predictions for new cases, the same on every rank."""

    path: Path
    """The CSV."""
    predictions: Predictions
    """A row per case."""


def predict(config: Config, run: RunFolder, out: Path, asked: Asked | None = None) -> PredictionResult:
    """Writes the predictions of the configuration's cohort. Raises UserError where the user's input is wrong."""
    # 1. What the model is, and the cohort. No GPU is held yet.
    start_log(is_main_process=is_main_process())
    checkpoint = find_checkpoint(run.best)
    if checkpoint is None:
        raise UserError(f"{run.path}: no checkpoint in {run.best}; has the first epoch been completed?")
    asked, classes = asked or Asked(), classes_of(checkpoint)
    record, why = read_calibration(run, checkpoint, asked)
    cohort, problems = survey_cohort(config.data, config.modalities, need_labels=False, classes=classes)
    if cohort is not None and is_main_process():
        problems = problems + check_images(cohort, config.modalities)
    if problems or cohort is None:
        raise UserError(problems)
    if not cohort.cases:
        raise UserError(f"{cohort.csv_path.name}: no cases: the header is not followed by any row")
    for note in [*table_notes(cohort), *_notes_of_calibration(record, why, asked)]:
        LOG.info("note: %s", note)

    # 2. Join the other processes, and transform the images that are not in the cache.
    runtime = start_runtime(config.train, shares_steps=False, has_volumes=uses_volumes(config.modalities))
    images = prepare_images(runtime, cohort, config.modalities, config.cache)
    dataset = build_dataset(runtime, cohort.cases, classes, config.modalities, images)

    # 3. The predictions of the run's best checkpoint, and the table.
    predictions = predict_by_checkpoint(runtime, config, checkpoint, dataset, title="prediction")
    if runtime.is_main_process:
        table = predictions.with_shapley_columns()
        table = table if record is None else with_calibrated_columns(table, record, asked)
        write_whole(out, table.to_csv())
        epoch = checkpoint.progress.epoch
        LOG.info("%d cases predicted with the checkpoint of epoch %d: %s", len(dataset), epoch, out)
        metrics = predictions.metrics()
        if metrics["cases"]:
            for warning in _looks(run, cohort, images.hashes(cohort), num_processes=runtime.num_processes):
                LOG.info("warning: %s", warning)
            values = [f"{name} {'-' if value is None else format(value, '.4f')}" for name, value in metrics.items()]
            LOG.info("on the %d cases with a label: %s", metrics["cases"], ", ".join(values[:-1]))
    runtime.wait()
    return PredictionResult(out, predictions)


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
