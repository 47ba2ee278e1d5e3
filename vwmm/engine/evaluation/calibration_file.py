"""calibration.json beside a checkpoint: written when a run ends, read by evaluate and predict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord, fit_record, read_record
from vwmm.analysis.recalibration.operating_point import check_kind, names_at
from vwmm.analysis.recalibration.prediction_sets import DEFAULT_LEVEL, fit_sets, names_of_sets
from vwmm.analysis.recalibration.temperature import rescale
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.recorded_predictions import read_predictions, read_written_table
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.engine.checkpoints.checkpoint import Checkpoint
from vwmm.system.errors import UserError


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a run's calibration."""

    operating_point: str | None = None
    """`youden`, `0.5`, `sensitivity=0.9` or `specificity=0.9`; None: not asked."""
    coverage: float = DEFAULT_LEVEL
    """Of the prediction sets."""
    is_class_conditional: bool = False
    """Whether the coverage is to hold in each class."""
    is_explicit: bool = False
    """Whether any of it stood on the command line, so that a run without calibration.json is refused."""


def read_asked(options: Mapping[str, str]) -> Asked:
    """The options of a command line. Raises UserError with everything that is wrong."""
    problems, coverage, kind = list[str](), DEFAULT_LEVEL, options.get("--operating-point")
    if kind is not None:
        try:
            check_kind(kind)
        except ValueError as error:
            problems.append(f"--operating-point {error}")
    if (text := options.get("--coverage")) is not None:
        try:
            coverage = float(text)
        except ValueError:
            coverage = -1.0
        if not 0 < coverage < 1:
            problems.append(f"--coverage {text}: expected a share between 0 and 1, such as 0.9")
    if problems:
        raise UserError(problems)
    names = ("--operating-point", "--coverage", "--class-conditional")
    return Asked(kind, coverage, "--class-conditional" in options, any(name in options for name in names))


def write_calibration(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Fits a run's validation cases anew and writes calibration.json."""
    classes = [str(name) for name in checkpoint.description["classes"]]
    predictions = read_predictions(read_written_table(run.predictions), classes, [], [])
    if predictions is not None and len(predictions.labels):
        write_whole(run.calibration, fit_record(predictions, classes, checkpoint.weights_xxh3).to_json())


def read_calibration(run: RunFolder, checkpoint: Checkpoint, asked: Asked) -> tuple[CalibrationRecord | None, str]:
    """The record of the run, or None and why there is none. Raises UserError where what is asked for needs it."""
    record, why = read_record(run.calibration, checkpoint.weights_xxh3, checkpoint.description["classes"])
    if not asked.is_explicit:
        return record, why
    if record is None:
        raise UserError(f"{run.path}: {why}; --operating-point, --coverage and --class-conditional need it")
    if asked.operating_point is not None and record.operating_point(asked.operating_point)[0] is None:
        raise UserError(f"--operating-point: {record.operating_point(asked.operating_point)[1]}")
    return record, why


def with_calibrated_columns(predictions: Predictions, record: CalibrationRecord, asked: Asked) -> Predictions:
    """The predictions with further columns, the last ones of their table: probabilities at the run's temperature, the
    class at the operating point if it is asked for, and the prediction set."""
    probabilities, classes = predictions.probabilities, list(predictions.classes)
    columns = dict[str, list[str]]()
    if record.temperature is not None:
        columns |= {
            f"calibrated_p_{name}": [repr(float(p)) for p in column]
            for name, column in zip(classes, rescale(probabilities, record.temperature).T, strict=True)
        }
    if asked.operating_point is not None:
        point = record.operating_point(asked.operating_point)[0]
        assert point is not None, "checked by read_calibration"
        columns["predicted_at_operating_point"] = names_at(probabilities, point, classes)
    rule = fit_sets(
        record.labels, record.probabilities, record.patients, asked.coverage, by_class=asked.is_class_conditional
    )
    columns["prediction_set"] = names_of_sets(probabilities, rule, classes)
    before = predictions.extra or [{} for _ in predictions.cases]
    renamed = [{f"cohort_{key}" if key in columns else key: text for key, text in row.items()} for row in before]
    extra = [row | {key: texts[n] for key, texts in columns.items()} for n, row in enumerate(renamed)]
    return replace(predictions, extra=extra)


def always_in_sets(record: CalibrationRecord, asked: Asked) -> str:
    """A sentence that names the classes which are in every set, or nothing."""
    rule = fit_sets(
        record.labels, record.probabilities, record.patients, asked.coverage, by_class=asked.is_class_conditional
    )
    names = rule.always(record.classes)
    if not names:
        return ""
    counts = ", ".join(
        f"{name} ({number} validation patients)"
        for name, number in zip(record.classes, np.asarray(rule.num_patients).tolist(), strict=True)
        if name in names
    )
    return (
        f"always in the prediction set: {counts}; n patients can promise a coverage of n / (n + 1) at most, and "
        f"{asked.coverage:g} is asked for"
    )
