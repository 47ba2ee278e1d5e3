"""Validates a sweep before it starts or resumes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vwmm.config.loading import load_config
from vwmm.config.run_folder import SWEEP_JOURNAL, RunFolder, compare_configs
from vwmm.config.schema import Config
from vwmm.config.search_space import Space
from vwmm.data.checks.preflight import check_config, key_problems
from vwmm.data.cohort.splits import split_hash
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

if TYPE_CHECKING:  # it needs Optuna, which need not be there
    from vwmm.engine.sweep.study import SweepStudy


@dataclass(frozen=True)
class Sweep:
    """A sweep, checked, as one worker sees it."""

    config: Config
    """What all trials share."""
    space: Space
    """What differs."""
    folder: Path
    """runs/NAME."""
    files: Sequence[str]
    """The `--config` files of each trial."""
    overrides: Sequence[str]
    """The KEY=VALUE arguments of each trial."""
    num_trials: int
    """How many there are to be, over all workers."""
    startup: int
    """How many are drawn at random, and are to be complete before one is given up early."""
    is_pruned: bool
    """Whether hopeless trials are given up early."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Values that must stay the same when a sweep is resumed."""
    check: Callable[[Config], list[Problem]] = lambda config: []
    """What is wrong with a trial's configuration for this cohort."""
    arguments: Sequence[str] = ()
    """The words of the command line, for the page."""

    def run(self, number: int) -> RunFolder:
        """The run of a trial."""
        return RunFolder(self.folder / f"trial-{number:04d}")

    def trial_overrides(self, number: int, values: dict[str, Any]) -> list[str]:
        """KEY=VALUE arguments that make a trial's run out of what all trials share."""
        group = self.config.tracking.group or self.config.run.name
        named = {"run.dir": str(self.folder), "run.name": self.run(number).name, "tracking.group": group}
        return self.space.overrides(values) + [f"{key}={json.dumps(value)}" for key, value in named.items()]

    def trial_config(self, number: int, values: dict[str, Any]) -> Config:
        """The configuration of a trial's run. Raises UserError where the values do not go together."""
        config = load_config(self.files, [*self.overrides, *self.trial_overrides(number, values)])
        if problems := self.check(config):
            raise UserError(problems)
        return config


def plan_sweep(
    config: Config, space: Space, files: Sequence[str], overrides: Sequence[str], *,
    num_trials: int, startup: int, is_pruned: bool,
) -> Sweep:  # fmt: skip
    """The sweep of a configuration and a space. Raises UserError with every problem of either."""
    problems = _optuna_problems()
    if config.run.resume != "auto":
        why = "a sweep resumes its existing trials; to start over choose another run.name"
        problems.append(Problem(why, where=f"run.resume={config.run.resume}"))
    folder = Path(config.run.dir) / str(config.run.name)
    for what, path in (("run", RunFolder(folder).config), ("cross-validation", folder / "fold-0")):
        if path.exists():
            why = f"{folder} is a {what}, not a sweep; choose another run.name"
            problems.append(Problem(why, key="run.name"))
    cohort, assigned = check_config(config)
    seen = set[Problem]()
    for words, combination in space.combinations:
        found = [one for one in key_problems(combination, cohort, assigned) if one not in seen]
        seen |= set(found)
        problems += [one.within(f"the space: {words}") for one in found]
    if "val" not in assigned.values():
        problems.append(Problem("a sweep needs validation cases to choose by", key="split"))
    if problems:
        raise UserError(problems)
    facts = {
        "space": {"metric": space.metric} | {one.key: one.describe() for one in space.searched},
        "config": config.model_dump(mode="json", exclude={"run", "tracking"}),
        "cohort": cohort.content_hash(),
        "split": split_hash(cohort, assigned),
    }
    return Sweep(
        config, space, folder, files, overrides, num_trials, startup, is_pruned, facts,
        lambda trial: key_problems(trial, cohort, assigned),
    )  # fmt: skip


def open_study(sweep: Sweep) -> "SweepStudy":
    """The study in the sweep's journal, which is the one of this sweep. Raises UserError if it is another one's."""
    from vwmm.engine.sweep.study import SweepStudy

    seed = sweep.config.train.seed
    study = SweepStudy(
        sweep.folder / SWEEP_JOURNAL, sweep.space, seed=seed, startup=sweep.startup, is_pruned=sweep.is_pruned
    )
    if differences := _differences(study.facts(sweep.facts), sweep):
        raise UserError([*differences, "to begin a new sweep choose another run.name"])
    return study


def _optuna_problems() -> list[Problem]:
    try:
        import vwmm.engine.sweep.study  # noqa: F401
    except ImportError as error:
        found = f"a sweep needs Optuna ({error}): pip install -c constraints.txt -e '.[sweep]', or pip install optuna"
        return [Problem(found)]
    return []


def _differences(before: dict[str, Any], sweep: Sweep) -> list[Problem]:
    """What has changed since the sweep began, as far as it can change a result."""
    now, where, space = sweep.facts, f"{sweep.folder} is a sweep of another", before["space"]
    of_space = f"{where} space"
    searched = ("train.monitor", *(one.key for one in sweep.space.searched))
    problems = [
        Problem(f"was {space.get(key, 'not there')}, is {now['space'].get(key, 'not there')}", where=of_space, key=key)
        for key in dict.fromkeys([*space, *now["space"]])
        if space.get(key) != now["space"].get(key)
    ]
    changed = compare_configs(before["config"], now["config"])
    problems += [one.within(f"{where} configuration") for one in changed if one.key not in searched]
    if before["cohort"] != now["cohort"]:
        found = f"the rows of {sweep.config.data.csv} have changed"
        problems.append(Problem(found, where=f"{where} cohort"))
    elif before["split"] != now["split"]:
        problems.append(Problem("other cases are validated on", where=f"{where} split"))
    return problems
