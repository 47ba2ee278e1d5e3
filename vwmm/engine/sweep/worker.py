"""A worker: takes over abandoned trials, else draws and trains a new one.

runs/NAME/sweep.journal                        the trials, shared by all workers
runs/NAME/.workers                             locks of the trials in progress, held by the kernel
runs/NAME/trial-0000/ ...                      a run each
runs/NAME/trials.csv, best.yaml, report.html   written again after each trial
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vwmm.config.run_folder import SWEEP_JOURNAL, RunFolder, differences_from, refuse_links
from vwmm.config.schema import Config
from vwmm.data.cache.locks import KeyLocks
from vwmm.engine.console import duration
from vwmm.engine.launch.launcher import collected_signals, launch, row_of_launches
from vwmm.engine.sweep.plan import Sweep, open_study
from vwmm.engine.tracking.metrics_file import read_records
from vwmm.system.errors import (
    EXIT_DONE,
    EXIT_INVALID,
    EXIT_STOPPED,
    AlreadyReported,
    RunError,
    StoppedEarly,
    UserError,
    print_line,
)
from vwmm.system.problems import Problem

if TYPE_CHECKING:  # it needs Optuna, which need not be there
    from vwmm.engine.sweep.study import SweepStudy

MAX_FAILURES_IN_A_ROW = 3
RESULT_FILES = ("trials.csv", "best.yaml", "report.html")
_POLL_S, _LOOK_EVERY_S = 0.2, 1.0


class Worker:
    """One of any number, on any machine that shares the folder."""

    def __init__(self, sweep: Sweep, script: Path, launch_file: str | None, signals: Sequence[int]) -> None:
        """signals: those that this process has got; it ends at the next boundary once there is one."""
        self.sweep, self.script, self.launch_file, self.signals = sweep, script, launch_file, signals
        self.started, self.num_done = time.monotonic(), 0
        _make_folder(sweep.folder)
        self.locks = KeyLocks(sweep.folder / ".workers")
        with self.alone():
            self.study = open_study(sweep)
        self.ended_before = {trial.number for trial in self.study.trials() if trial.state.is_finished()}

    def work(self) -> int:
        """Trains trials until there are enough; the exit code."""
        while not self.signals:
            with self._claimed() as number:
                if number is None:
                    return EXIT_DONE
                if (code := self._run(number)) is not None:
                    return code
                with self.alone():
                    self.write_results()
            self._check_failures()
        raise StoppedEarly("stopped between two trials; the same command resumes")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other worker is in such a block. Raises StoppedEarly if a signal comes while it waits."""
        while not self._hold_alone():
            if self.signals:
                raise StoppedEarly("stopped while it waited for other workers; the same command resumes")
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            self.locks.let_go()

    def _hold_alone(self) -> bool:
        try:
            is_held = self.locks.hold_alone()
        except OSError as error:
            raise UserError(f"run.dir: {self.sweep.folder} cannot be locked: {error.strerror}") from error
        if not self.locks.are_supported:
            raise UserError(f"run.dir: {self.sweep.folder} cannot be locked: choose one on a disk with locks")
        return is_held

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[int | None]:
        """A trial for this worker: one that another worker left, else a new one; None: enough."""
        with contextlib.ExitStack() as stack:
            number = None
            with self.alone():
                trials = self.study.trials()
                for trial in trials:
                    if not trial.state.is_finished() and stack.enter_context(self.locks.try_hold(_key(trial.number))):
                        number = trial.number
                        break
                else:
                    if len(trials) < self.sweep.num_trials:
                        number = self.study.add()
                        stack.enter_context(self.locks.try_hold(_key(number)))
            yield number

    def _run(self, number: int) -> int | None:
        """Trains a trial and notes what came of it; an exit code if the worker is to end."""
        run = self.sweep.run(number)
        values = self.study.values(number)
        wait_until_free(run, self.signals)
        try:
            watcher = Watcher(self.study, number, run, self.sweep.trial_config(number, values))
        except UserError as error:  # not all combinations could be checked ahead of time
            self._fail(number, error.problems[0].text)
            return None
        print_line(f"trial {number} ({number + 1} of {self.sweep.num_trials}){self._time_left()}: {run.path}")
        print_line(f"  {' '.join(self.sweep.space.overrides(values)[1:])}")
        if run.state() != "done":
            arguments = [word for file in self.sweep.files for word in ("--config", file)] + [*self.sweep.overrides]
            arguments += self.sweep.trial_overrides(number, values)
            code = launch(self.script, arguments, self.launch_file, watch=watcher)
            if code == EXIT_INVALID or (code != EXIT_DONE and self.signals and not watcher.is_hopeless):
                return code
            if code == EXIT_STOPPED and not watcher.is_hopeless:
                return code
        elif differences := differences_from(run, watcher.config):
            raise UserError(
                [one.within(f"{run.path} is finished with another configuration") for one in differences]
                + [f"if it was not edited, a line of {self.study.path} is missing: restore a copy of that file"]
            )
        else:
            code = EXIT_DONE
        watcher.look()
        self._tell(number, code, watcher)
        self.num_done += 1
        return None

    def _tell(self, number: int, code: int, watcher: "Watcher") -> None:
        """The result of a trial, from its values alone, not from how far it got before it stopped."""
        from vwmm.engine.checkpoints.checkpoint import find_checkpoint
        from vwmm.engine.sweep.study import COMPLETE, PRUNED

        run, metric = watcher.run, self.sweep.space.metric
        if watcher.is_hopeless:
            self.study.tell(number, PRUNED)
            print_line(f"trial {number} is given up after epoch {watcher.epoch}: worse than half of those before it")
            return
        reason, meta = f"the training failed with exit code {code}", None
        if code == EXIT_DONE:
            try:
                best = find_checkpoint(run.best)
                meta = best.description["validation"] if best is not None else None
                reason = f"{metric} does not exist on these validation cases" if meta else "has no best checkpoint"
            except UserError as error:
                reason = error.problems[0].text
        else:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                reason = str(json.loads(run.status.read_text())["reason"] or reason)
        if meta is None or meta[metric] is None:
            self._fail(number, reason)
            return
        self.study.tell(number, COMPLETE, meta[metric], best_epoch=meta["epoch"], cases=meta["cases"])

    def _fail(self, number: int, reason: str) -> None:
        from vwmm.engine.sweep.study import FAILED

        self.study.tell(number, FAILED, reason=reason)
        print_line(f"trial {number} failed: {reason}")

    def write_results(self) -> str:
        """trials.csv, best.yaml and report.html as things are now; what is known, in lines."""
        from vwmm.engine.sweep.results import Results

        return Results(self.sweep, self.study).write()

    def _check_failures(self) -> None:
        """Raises RunError when the last few trials, of all workers, have all failed since this worker began."""
        from vwmm.engine.sweep.study import FAILED

        ended = [t for t in self.study.trials() if t.state.is_finished() and t.number not in self.ended_before]
        last = sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))[-MAX_FAILURES_IN_A_ROW:]
        if len(last) == MAX_FAILURES_IN_A_ROW and all(trial.state == FAILED for trial in last):
            reason = last[-1].user_attrs.get("reason")
            raise RunError(
                f"{len(last)} trials in a row have failed, the last one because of this: {reason}. The same command "
                "continues with the next trial"
            )

    def _time_left(self) -> str:
        if not self.num_done:
            return ""
        trials = self.study.trials()
        running = sum(not trial.state.is_finished() for trial in trials)
        left = self.sweep.num_trials - len(trials) + running
        a_trial = (time.monotonic() - self.started) / self.num_done
        return f", about {duration(a_trial * left / max(1, running))} left"


class Watcher:
    """Reads a running trial's epochs, tells the others of them, and whether to give it up."""

    def __init__(self, study: "SweepStudy", number: int, run: RunFolder, config: Config) -> None:
        self.study, self.number, self.run, self.config = study, number, run, config
        self.is_hopeless = False
        self.epoch = 0
        self._looked_at = 0.0

    def __call__(self) -> bool:
        """Called often while it trains; whether to stop it."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            with contextlib.suppress(OSError):  # a full disk: it is tried again
                self.look()
        return self.is_hopeless

    def look(self) -> None:
        """Reads the epochs that are new, up to the one that decides; the last one decides nothing."""
        for (event, epoch), record, _ in read_records(self.run.metrics):
            value = record.get(self.study.space.metric)
            if event != "validation" or epoch <= self.epoch or self.is_hopeless or not isinstance(value, float | int):
                continue
            epochs = self.config.train.epochs
            should_stop = self.study.report(self.number, epoch, value, warmup=epochs // 10)
            self.epoch, self.is_hopeless = epoch, should_stop and epoch < epochs


def run_worker(sweep: Sweep, script: Path, launch_file: str | None) -> str:
    """Works until there are enough trials; what is then known, in lines.

    Raises StoppedEarly, RunError, UserError; `AlreadyReported` with the code of a training that ended the sweep.
    """
    with collected_signals() as signals, row_of_launches():
        worker = Worker(sweep, script, launch_file, signals)
        if (code := worker.work()) != EXIT_DONE:
            raise AlreadyReported(code)
        with worker.alone():
            return worker.write_results()


def _make_folder(folder: Path) -> None:
    """Raises UserError where the folder, or a file in it, could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(Problem(f"{folder} cannot be made: {error.strerror}", key="run.dir")) from error
    refuse_links(folder, (SWEEP_JOURNAL, *RESULT_FILES))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(Problem(f"{folder} cannot be written; choose another one", key="run.dir"))


def _key(number: int) -> str:
    return f"{number:015x}"


def wait_until_free(run: RunFolder, signals: Sequence[int]) -> None:
    """Waits for processes of a killed worker, which may still be saving."""
    if run.is_in_use():
        print_line(f"waiting for the processes that a worker has left behind in {run.path}")
    while run.is_in_use():
        if signals:
            raise StoppedEarly("stopped while it waited for a run folder; the same command resumes")
        time.sleep(_POLL_S)
