"""When a run's state is saved, and how it is restored."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from vwmm.analysis.statistics.predictions import Predictions
from vwmm.config.run_digests import PREDICTIONS_KEY, text_digest
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.checkpoints.checkpoint import Checkpoint
from vwmm.engine.checkpoints.result_files import ResultFiles
from vwmm.engine.checkpoints.resume import make_snapshot_folder, snapshot_place
from vwmm.engine.checkpoints.run_watch import RunWatch
from vwmm.engine.checkpoints.saver import Saver, describe_model
from vwmm.engine.checkpoints.state import Progress, State, copy_state
from vwmm.engine.console import LOG
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.tracking.metrics_file import MetricsFile, cut_metrics
from vwmm.engine.training.learner import Learner
from vwmm.engine.training.step_log import StepRecorder
from vwmm.engine.training.step_reduction import StepResult
from vwmm.system.errors import StoppedEarly
from vwmm.system.signals import STOP


class Checkpointing:
    """Saves and restores the state of one run. Its methods are called by all ranks; the main process writes."""

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        run: RunFolder,
        learner: Learner,
        classes: tuple[str, ...],
        run_watch: RunWatch | None = None,
    ) -> None:
        """run_watch: looks after the run folder; None where this process does not write to it."""
        self.result_files = ResultFiles(run)
        """The results of the run, and whether somebody changed them."""
        self.progress = Progress()
        """Where the run stands."""
        self.metrics: MetricsFile | None = None
        """metrics.jsonl, on the main process of a run that has been resumed or begun."""
        self._runtime, self._config, self._run, self._classes = runtime, config, run, classes
        self._strategy, self._statistics = learner.strategy, learner.batch_norm
        self._run_watch = run_watch
        self._saver: Saver | None = None
        self._validation: Mapping[str, Any] = {}
        self._step_in_status = -1

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Continues from a checkpoint, or begins; metrics.jsonl is cut back to it."""
        self._runtime.watchdog.enter_phase("resume")
        if checkpoint is not None:
            self.restore(checkpoint.load())
            LOG.info("resuming after epoch %d, step %d", self.progress.epoch, self.progress.step)
        if self._runtime.is_main_process:
            self._open_files(checkpoint)
        self._runtime.wait()

    def restore(self, state: State) -> None:
        """Puts a state into the model, its optimizer and the statistics."""
        self.progress = replace(state.progress)
        state.restore_weights(self._strategy.model)
        self._strategy.load(state.optimizer or {})
        if state.parts is not None and len(state.parts) == self._runtime.num_processes:
            self._statistics.set_part(state.parts)
        self._strategy.load_scaler(self.progress.scaler)

    def _open_files(self, checkpoint: Checkpoint | None) -> None:
        self.result_files.note_altered()
        missing = cut_metrics(self._run.metrics, epoch=self.progress.epoch, step=self.progress.step)
        self.metrics = MetricsFile(self._run.metrics)
        if self._run_watch is not None:
            self._run_watch.follow(self._run.metrics, self.metrics.fileno())
        if (
            missing == [self.progress.step] and self.progress.last_record
        ):  # killed after the state was written, before its line
            self.metrics.write([{**self.progress.last_record, "cases_per_s": None}])
        elif missing:
            LOG.info("metrics.jsonl has lost the lines of %d steps, the first of step %d", len(missing), missing[0])
        is_on_disk = checkpoint is not None and checkpoint.path.parent == self._run.last.parent
        self._saver = Saver(
            self._run, self.metrics, keep=self._config.run.keep, snapshot=self._snapshot_place(),
            saved=replace(self.progress) if is_on_disk else None,
        )  # fmt: skip

    def _snapshot_place(self) -> Path | None:
        if not self._config.run.snapshots:
            return None
        place = snapshot_place(self._run)
        try:
            make_snapshot_folder(place)
        except OSError as error:
            LOG.info("run.snapshots: %s: %s; only checkpoints are written", place.parent, error.strerror)
            return None
        return place

    def check(self) -> None:
        """After each step: raises RunError if the run folder was removed or nothing can be written any more."""
        if self._run_watch is not None:
            self._run_watch.check()
        if self._saver is not None:
            self._saver.check()

    def is_due(self) -> bool:
        """Whether a periodic checkpoint is due; only the main process's answer counts."""
        return self._saver is not None and self._saver.is_due(self._config.run.save_every_minutes)

    def after_step(self, recorder: StepRecorder, result: StepResult) -> None:
        """Saves or stops where all ranks agreed on it. Raises StoppedEarly."""
        if self._config.run.snapshots:
            self._keep_in_memory()
            recorder.flush()
        recorder.flush_if_due()
        if result.should_stop:
            self.stop(recorder)
        every = self._config.run.save_every_steps
        if result.should_save or (every is not None and result.step % every == 0):
            recorder.flush()
            self._save()
        self.update_status()

    def after_epoch(self, record: dict[str, Any], predictions: Predictions, *, is_best: bool) -> None:
        """Writes the best checkpoint, its predictions and then the last one, which marks the epoch as complete."""
        self._validation = record
        self._save(best=predictions if is_best else None)

    def save_and_wait(self, recorder: StepRecorder | None = None) -> None:
        """Saves the current state; returns when it is on the disk."""
        if recorder is not None:
            recorder.flush()
        self._save()
        if self._saver is not None:
            self._saver.wait()
            self.update_status()

    def stop(self, recorder: StepRecorder | None = None) -> NoReturn:
        """Saves the current state. Raises StoppedEarly."""
        self._runtime.watchdog.publish_now()  # all ranks report the same reason
        self.save_and_wait(recorder)
        self.require_saved()
        self._runtime.wait()
        reason = STOP.reason or self._runtime.watchdog.stop_reason_elsewhere()
        raise StoppedEarly(f"stopped by {reason} after step {self.progress.step}; the same command resumes from there")

    def require_saved(self) -> None:
        """Raises RunError unless the current step is on the disk."""
        if self._saver is not None:
            self._saver.require(self.progress.step)

    def check_folder(self) -> None:
        """Raises RunError if the run folder was removed or replaced; waits until nothing is being written."""
        if self._saver is not None:
            self._saver.wait()
        if self._run_watch is not None:
            self._run_watch.check()
            self._run_watch.check_best(self.progress.best_epoch)

    def update_status(self) -> None:
        """status.json names the last checkpoint that is on the disk."""
        saver = self._saver
        if saver is None or saver.saved is None or saver.saved.step == self._step_in_status:
            return
        self._step_in_status = saver.saved.step
        with contextlib.suppress(OSError):  # a full disk
            more = {"files": saver.files, **self.result_files.altered_entry()}
            self._run.write_status("running", epoch=saver.saved.epoch, step=saver.saved.step, **more)

    def close(self) -> None:
        """Called when the run is done: removes the snapshot in memory."""
        if self._saver is not None:
            self._saver.close()
            shutil.rmtree(snapshot_place(self._run).parent, ignore_errors=True)

    def _save(self, *, best: Predictions | None = None) -> None:
        """A checkpoint to resume from; `best`: the predictions of this state, if it is the best so far."""
        self._runtime.watchdog.enter_phase("copy", step=self.progress.step)
        state = self._copy_state()
        if self._saver is None or state is None:
            return
        if best is None:
            self._saver.save(state)
        else:
            table = best.to_csv()
            description = {**state.description, PREDICTIONS_KEY: text_digest(table)}
            self._saver.save(state, best=replace(state, optimizer=None, description=description), predictions=table)

    def _keep_in_memory(self) -> None:
        self._runtime.watchdog.enter_phase("copy", step=self.progress.step)
        state = self._copy_state()
        if self._saver is not None and state is not None:
            self._saver.keep_in_memory(state)
        self._runtime.wait()  # no rank continues before this step is safe

    def _copy_state(self) -> State | None:
        """On the main process; called by all ranks."""
        parts = self._statistics.gather_parts()
        self._strategy.gather_full_weights()
        tensors = self._strategy.state()
        if not self._runtime.is_main_process:
            return None
        description = describe_model(self._config, self._classes, self._runtime.mixed_precision, self._validation)
        progress = replace(self.progress, scaler=self._strategy.scaler_state())
        state = copy_state(self._strategy.model, progress, description, optimizer=tensors, parts=parts)
        if parts is None:
            return state
        return replace(state, weights=self._statistics.with_reduced_statistics(state.weights, parts))
