"""Several runs as one model: the mean of their probabilities, each one's own, and how far they are apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.statistics.predictions import Predictions, log_softmax
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.data.cohort.cases import Cohort
from vwmm.engine.checkpoints.checkpoint import Checkpoint, find_checkpoint
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.evaluation.calibration_file import Asked, read_calibration
from vwmm.engine.preprocessing.fill_cache import Images, build_dataset
from vwmm.engine.runs.trained_model import classes_of, predict_by_checkpoint
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem


@dataclass(frozen=True)
class Member:
    """One run of an ensemble."""

    name: str
    """In the table's columns: the run folder's name, with the folder above it where two are equal."""
    run: RunFolder
    config: Config
    """Its configuration, with the new cohort."""
    checkpoint: Checkpoint
    """Its best one."""


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The last names of paths, with as many folders above them as make them different."""
    parts = [path.resolve().parts for path in paths]
    length = 1
    while len({one[-length:] for one in parts}) < len(set(parts)):
        length += 1
    return ["/".join(one[-length:]) for one in parts]


def read_members(runs: Sequence[RunFolder], configs: Sequence[Config]) -> list[Member]:
    """The members. Raises UserError where one has no checkpoint, or other classes or modalities than the first."""
    names = distinct_names([run.path for run in runs])
    members, problems = list[Member](), list[Problem]()
    for name, run, config in zip(names, runs, configs, strict=True):
        checkpoint = find_checkpoint(run.best)
        if checkpoint is None:
            what = f"{run.path}: no checkpoint in {run.best}; has the first epoch been completed?"
            problems.append(Problem(what))
        else:
            members.append(Member(name, run, config, checkpoint))
    for one in members[1:]:
        first = members[0]
        for what, own, expected in (
            ("classes", classes_of(one.checkpoint), classes_of(first.checkpoint)),
            ("modalities", tuple(one.config.modalities), tuple(first.config.modalities)),
        ):
            if own != expected:
                found = f"{one.run.path}: has the {what} {', '.join(own)}; {first.run.path} has {', '.join(expected)}"
                problems.append(Problem(found))
    if problems:
        raise UserError(problems)
    return members


def calibration_of(members: Sequence[Member], asked: Asked) -> tuple[CalibrationRecord | None, str]:
    """That of the run; several have none together, since each was fitted on predictions of its own."""
    if len(members) == 1:
        return read_calibration(members[0].run, members[0].checkpoint, asked)
    why = f"the mean of {len(members)} runs has no calibration of its own"
    if asked.is_explicit:
        raise UserError(f"{why}; --operating-point, --coverage and --class-conditional need one run")
    return None, why


def predict_mean(
    runtime: Runtime, members: Sequence[Member], cohort: Cohort, images: Sequence[Images], *, title: str
) -> Predictions:
    """`average` of the members' predictions of a cohort, the same on every rank. images: as each member sees them."""
    found = list[Predictions]()
    for member, own in zip(members, images, strict=True):
        classes = classes_of(member.checkpoint)
        dataset = build_dataset(runtime, cohort.cases, classes, member.config.modalities, own)
        shown = title if len(members) == 1 else f"{title} of {member.name}"
        found.append(predict_by_checkpoint(runtime, member.config, member.checkpoint, dataset, title=shown))
    return average([member.name for member in members], found)


def average(names: Sequence[str], found: Sequence[Predictions]) -> Predictions:
    """The mean of the members' probabilities, with further columns: `MEMBER_p_<class>`, and `spread_<class>`, the
    standard deviation over the members (n - 1).

    Of one member its own predictions, unchanged.
    """
    if len(found) == 1:
        return found[0]
    first, probabilities = found[0], np.stack([one.probabilities for one in found])  # (R, N, K)
    of_subsets = None
    if all(one.of_subsets is not None for one in found):
        each = [np.exp(log_softmax(np.asarray(one.of_subsets))) for one in found]
        of_subsets = _log(np.mean(each, axis=0))
    spread = probabilities.std(axis=0, ddof=1)
    columns = {
        f"{name}_p_{label}": probabilities[r, :, k]
        for r, name in enumerate(names)
        for k, label in enumerate(first.classes)
    } | {f"spread_{label}": spread[:, k] for k, label in enumerate(first.classes)}
    before = first.extra or [{} for _ in first.cases]
    extra = [
        {f"cohort_{key}" if key in columns else key: text for key, text in row.items()}
        | {key: repr(float(values[n])) for key, values in columns.items()}
        for n, row in enumerate(before)
    ]
    return replace(first, logits=_log(probabilities.mean(axis=0)), of_subsets=of_subsets, extra=extra)


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Float64 logits that give these probabilities again."""
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)))
