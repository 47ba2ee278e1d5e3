"""The Optuna study that workers share in one journal file.

Optuna locks its journal with a lock file. Any worker breaks a killed worker's lock after 30 s, and two workers that
break it at once both hold it. Here the kernel locks the journal itself and releases the lock when a process dies.
NFS passes such locks on between machines (version 4, or 3 with lockd), and a client that gets one reads the file anew.
"""

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from vwmm.config.search_space import Space
from vwmm.system.errors import UserError

_NAME = "sweep"
# What a journal that is not one makes Optuna raise.
_DAMAGES = (ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError, RecursionError)
COMPLETE, PRUNED, FAILED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


class JournalLock:
    """For Optuna's backend: one process at a time adds to the journal, and only to whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Waits for the lock; a line that was being written when its process or machine died is cut off."""
        self._stream = self._path.open("rb+")
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        content_end = _end_of_whole_lines(self._stream)
        self._stream.truncate(content_end)
        return True

    def release(self) -> None:
        """Lets go of it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _end_of_whole_lines(stream: IO[bytes]) -> int:
    size = stream.seek(0, os.SEEK_END)
    end = size
    while end > 0:
        start = max(0, end - 4096)
        stream.seek(start)
        newline = stream.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


class SweepStudy:
    """The trials of a sweep; each change is in the journal before the call returns."""

    def __init__(self, path: Path, space: Space, *, seed: int, startup: int, is_pruned: bool) -> None:
        """Opens the journal, or makes it; one worker at a time. Raises UserError if it is damaged.

        startup: trials drawn at random, and complete before one is given up.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.path, self.space, self.startup, self.is_pruned = path, space, startup, is_pruned
        self._seed = seed
        check_journal(path)
        with self._understood():
            self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))
            if _NAME not in optuna.get_all_study_names(self._storage):
                optuna.create_study(storage=self._storage, study_name=_NAME, direction=self._direction())

    def facts(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """What the sweep began with; that is `now`, if it begins now."""
        with self._understood():
            study = self._study(RandomSampler(seed=0))
            if "facts" not in study.user_attrs:
                study.set_user_attr("facts", dict(now))
            return dict(study.user_attrs["facts"])

    def trials(self) -> list[FrozenTrial]:
        """All of them, by number."""
        with self._understood():
            return self._study(RandomSampler(seed=0)).get_trials()

    def add(self) -> int:
        """Draws a new trial; its number. To be called by one worker at a time.

        It is drawn in a copy in memory, so that the journal gets it in one line: whole, or not at all.
        """
        with self._understood():
            trials = self.trials()
            copy = optuna.create_study(direction=self._direction(), sampler=self._sampler(len(trials)))
            copy.add_trials(trials)
            self._draw(drawn := copy.ask())
            frozen = optuna.trial.create_trial(
                state=RUNNING, params=drawn.params, distributions=drawn.distributions, values=None
            )
            self._study(RandomSampler(seed=0)).add_trial(frozen)
            return len(trials)

    def values(self, number: int) -> dict[str, Any]:
        """What was drawn for a trial."""
        with self._understood():
            params = self.trials()[number].params
            return {one.key: params[one.key] for one in self.space.searched}

    def report(self, number: int, epoch: int, value: float, *, warmup: int) -> bool:
        """Notes the value of an epoch; whether the trial is better given up: worse than half of those before it.

        warmup: epochs that nothing is decided in.
        """
        pruner: BasePruner = NopPruner()
        if self.is_pruned:
            pruner = MedianPruner(n_startup_trials=self.startup, n_warmup_steps=warmup + 1)
        with self._understood():
            trial = self._open(number, RandomSampler(seed=0), pruner)
            reported = self.trials()[number].intermediate_values
            if epoch not in reported:
                trial.report(value, epoch)
            elif epoch < max(reported):  # decided by the worker before this one
                return False
            return trial.should_prune()

    def tell(self, number: int, state: TrialState, value: float | None = None, **notes: Any) -> None:
        """Ends a trial. notes: what else is known of it, kept as its user attributes."""
        with self._understood():
            study = self._study(RandomSampler(seed=0))
            trial = self._open(number, RandomSampler(seed=0))
            for key, note in notes.items():
                trial.set_user_attr(key, note)
            study.tell(number, value, state=state)

    def _draw(self, trial: Trial) -> None:
        for one in self.space.searched:
            if one.kind == "choice":
                trial.suggest_categorical(one.key, one.choices)
            elif one.kind == "int":
                trial.suggest_int(one.key, int(one.low), int(one.high), step=int(one.step or 1), log=one.log)
            else:
                trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)

    def _direction(self) -> str:
        return "minimize" if self.space.is_minimized else "maximize"

    def _sampler(self, number: int) -> TPESampler:
        """What is drawn depends on the seed, the trial's number and the trials before it, on nothing else.

        Those that others work on count as bad ones, so that workers do not all draw the same (constant liar).
        """
        digest = hashlib.sha256(f"{self._seed} {number}".encode()).digest()
        return TPESampler(
            seed=int.from_bytes(digest[:4]), n_startup_trials=self.startup, multivariate=True, constant_liar=True
        )

    def _study(self, sampler: Any, pruner: BasePruner | None = None) -> optuna.Study:
        return optuna.load_study(study_name=_NAME, storage=self._storage, sampler=sampler, pruner=pruner or NopPruner())

    def _open(self, number: int, sampler: Any, pruner: BasePruner | None = None) -> Trial:
        return Trial(self._study(sampler, pruner), self.trials()[number]._trial_id)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="optuna")
                yield
        except UserError:
            raise
        except _DAMAGES as error:
            raise UserError(f"{self.path}: cannot be understood: {error.__class__.__name__}: {error}") from error


def check_journal(path: Path) -> None:
    """Raises UserError where a whole line is no JSON; half a line at the end is only cut off when it is added to."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            is_good = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            is_good = False
        if not is_good:
            raise UserError(
                f"{path} line {number}: is damaged: expected a JSON object; restore a copy, or start over under "
                "another run.name"
            )
