"""Several runs as one model: the mean of their probabilities, each one's own, and how far they are apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vwmm.analysis.statistics.predictions import Predictions, log_softmax
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.checkpoints.checkpoint import Checkpoint, find_checkpoint
from vwmm.engine.runs.trained_model import classes_of
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


def read_members(runs: Sequence[RunFolder], configs: Sequence[Config]) -> list[Member]:
    """The members. Raises UserError where one has no checkpoint, or other classes or modalities than the first."""
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.path.resolve().parent.name}/{run.path.resolve().name}" for run in runs]
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
