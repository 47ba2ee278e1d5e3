"""The trainer: epochs, validation, best checkpoint, early stopping."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from vwmm.analysis.statistics.predictions import Predictions
from vwmm.config.run_digests import PREDICTIONS_KEY, text_digest
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.data.augmentation.augment import augmentation
from vwmm.data.loading.dataset import CaseDataset
from vwmm.data.loading.sampling import draw_present, num_steps, plan_epoch
from vwmm.engine.checkpoints.checkpoint import (
    Progress,
    State,
    copy_state,
    digest,
    load_optimizer,
    load_parts,
    load_weights,
    read_progress,
)
from vwmm.engine.checkpoints.result_files import ResultFiles
from vwmm.engine.checkpoints.resume import make_snapshot_folder, snapshot_place
from vwmm.engine.checkpoints.run_watch import RunWatch
from vwmm.engine.checkpoints.saver import Saver, describe_model
from vwmm.engine.console import LOG, duration
from vwmm.engine.console import Progress as Bar
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.optim import learning_rate
from vwmm.engine.tracking.metrics_file import MetricsFile, cut_metrics
from vwmm.engine.tracking.trackers import Trackers
from vwmm.engine.training.learner import build_learner
from vwmm.engine.training.step_log import StepRecorder
from vwmm.engine.training.train_loop import StepResult, train_one_epoch
from vwmm.engine.training.validation import describe_epoch, is_better, predict_cases
from vwmm.models.fusion import FusionModel, build_model
from vwmm.system.errors import RunError, StoppedEarly
from vwmm.system.signals import STOP


@dataclass(frozen=True)
class Material:
    """The data of a training run."""

    train: CaseDataset
    """The cases that are trained on."""
    val: CaseDataset
    """The cases that are validated on."""
    classes: tuple[str, ...]
    """The classes, in the order of the logits."""


class Fit:
    """One training: the model, its optimizer, and where it stands."""

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        material: Material,
        run: RunFolder,
        run_watch: RunWatch | None = None,
    ) -> None:
        """run_watch: looks after the run folder; None where this process does not write to it."""
        self._run_watch, self.result_files = run_watch, ResultFiles(run)
        self.runtime, self.config, self.material, self.run = runtime, config, material, run
        train = config.train
        self.model: FusionModel = build_model(config.model, config.modalities, len(material.classes), seed=train.seed)
        self.learner = build_learner(
            runtime, self.model, train, config.modalities, material.train, len(material.classes)
        )
        self.engine = self.learner.engine
        self.steps_per_epoch = num_steps(len(material.train), train.batch_size, train.micro_batch_size)
        self.progress = Progress()
        self._last_record: dict[str, Any] | None = None
        self._said_step = -1
        self.saver: Saver | None = None
        self.metrics_file: MetricsFile | None = None
        self.trackers: Trackers | None = None
        """The trackers; None: there are none."""

    def resume(self, found: Path | None) -> None:
        """Goes on from a state, if there is one; metrics.jsonl is cut back to it."""
        self.runtime.watch.at("resume")
        if found is not None:
            self.load(found)
            LOG.info("resuming after epoch %d, step %d", self.progress.epoch, self.progress.step)
        if self.runtime.is_main:
            self.result_files.note_altered()
            missing = cut_metrics(self.run.metrics, epoch=self.progress.epoch, step=self.progress.step)
            self.metrics_file = MetricsFile(self.run.metrics)
            if self._run_watch is not None:
                self._run_watch.follow(self.run.metrics, self.metrics_file.fileno())
            if missing == [self.progress.step] and self.progress.last_record:  # killed between its state and its line
                self.metrics_file.write([{**self.progress.last_record, "cases_per_s": None}])
            elif missing:
                LOG.info("metrics.jsonl has lost the lines of %d steps, the first of step %d", len(missing), missing[0])
            self.saver = Saver(self.run, self.metrics_file, keep=self.config.run.keep, snapshot=self._snapshot_place())
            if found is not None and found.parent == self.run.last.parent:
                self.saver.saved = replace(self.progress)
        self.runtime.wait()

    def results_entry(self) -> dict[str, Any]:
        """Digests of a finished run's results, for status.json. On the main process."""
        assert self.metrics_file is not None
        return self.result_files.final_entry(self.metrics_file)

    def load(self, folder: Path) -> None:
        """The state of a checkpoint that is intact."""
        self.progress = read_progress(folder)
        load_weights(folder, self.model)
        self.engine.load(load_optimizer(folder))
        parts = load_parts(folder, self.runtime.num_processes)
        if parts is not None:
            self.learner.statistics.set_part(parts)
        self.engine.load_scaling(self.progress.scaler)

    def _snapshot_place(self) -> Path | None:
        if not self.config.run.snapshots:
            return None
        place = snapshot_place(self.run)
        try:
            make_snapshot_folder(place)
        except OSError as error:
            LOG.info("run.snapshots: %s: %s; only checkpoints are written", place.parent, error.strerror)
            return None
        return place

    def run_epochs(self) -> None:
        """Trains to the last epoch, or until early stopping. Raises StoppedEarly, with a checkpoint on the disk."""
        epochs, patience = self.config.train.epochs, self.config.train.early_stopping.patience
        started, first = time.monotonic(), self.progress.epoch
        for epoch in range(first + 1, epochs + 1):
            if patience is not None and self.progress.epochs_without_improvement >= patience:
                LOG.info("stopping early: no better %s for %d epochs", self.config.train.monitor, patience)
                break
            record, predictions = self._run_epoch(epoch)
            self._keep(epoch, record, predictions)
            left = (time.monotonic() - started) / (epoch - first) * (epochs - epoch)
            is_best = self.progress.best_epoch == epoch
            LOG.info("%s", describe_epoch(record, epochs, predictions, left=duration(left), is_best=is_best))
            self._say_running()
        if self.saver is not None:
            self.saver.require(self.progress.step)
            self._check_folder()

    def _check_folder(self) -> None:
        """To be called when nothing is being written. Raises RunError where the run folder is not what it was."""
        if self._run_watch is not None:
            self._run_watch.check()
            self._run_watch.check_best(self.progress.best_epoch)

    def restore_predictions(self) -> None:
        """Computes predictions_val.csv again if it is lost; the run is done, and its model not needed any more."""
        if self.runtime.any(self.runtime.is_main and self.result_files.have_lost_predictions()):
            load_weights(self.run.best, self.model)
            table = self._predict().to_csv()
            if self.runtime.is_main:
                write_whole(self.run.predictions, table)

    def close(self) -> None:
        """The run is done: what this start or an earlier one kept in memory is no longer needed."""
        if self.saver is not None:
            self.saver.close()
            shutil.rmtree(snapshot_place(self.run).parent, ignore_errors=True)

    def _run_epoch(self, epoch: int) -> tuple[dict[str, Any], Predictions]:
        if self.runtime.any(STOP.is_asked):
            self._stop()
        recorder = self.train_part(epoch, self._after_step)
        try:
            predictions = self.validate()
        except StoppedEarly:
            self._stop(recorder)
        record = {
            "event": "validation",
            "epoch": epoch,
            "step": self.progress.step,
            **predictions.metrics(),
            "alone": predictions.alone_metrics(),
            "train_loss": self.progress.loss_sum / max(1, self.progress.loss_cases),
            "lr": self._rate(self.progress.step),
            "cases_per_s": recorder.cases_per_s(),
            "weights": self.digest(),
        }
        self.progress.epoch, self.progress.loss_sum, self.progress.loss_cases = epoch, 0.0, 0
        if self.metrics_file is not None:
            self.metrics_file.write([record])
        if self.trackers is not None:
            self.trackers.log([record])
        return record, predictions

    def train_part(
        self, epoch: int, after_step: Callable[[StepRecorder, StepResult], None], *, until: int | None = None
    ) -> StepRecorder:
        """Trains the rest of an epoch, or up to a step; logs each step."""
        train, material = self.config.train, self.material
        plan = plan_epoch(len(material.train), train.batch_size, train.micro_batch_size, seed=train.seed, epoch=epoch)
        done = self.progress.step - (epoch - 1) * self.steps_per_epoch
        left = plan[done : None if until is None else until - (epoch - 1) * self.steps_per_epoch]
        chance = self.config.model.modality_dropout
        present = draw_present(material.train.present(), chance, seed=train.seed, epoch=epoch)
        title = f"epoch {epoch}/{train.epochs}"
        with Bar(title, len(material.train), "case", is_speaker=self.runtime.is_main) as bar:
            bar.advance(sum(len(slot) for slots in plan[:done] for slot in slots))
            recorder = StepRecorder(
                self.runtime,
                self.progress,
                self.metrics_file,
                self.trackers,
                bar,
                epoch=epoch,
                log_every=train.log_every,
            )
            train_one_epoch(
                self.runtime,
                self.learner,
                material.train,
                left,
                present=present,
                augment=augmentation(
                    material.train, self.config.modalities, self.config.augment, seed=train.seed, epoch=epoch
                ),
                first_step=self.progress.step + 1,
                set_rate=self._set_rate,
                after_step=lambda result: after_step(recorder, result),
                is_time_to_save=self._is_time_to_save,
                num_workers=train.num_workers,
            )
            recorder.flush()
        return recorder

    def _after_step(self, recorder: StepRecorder, result: StepResult) -> None:
        """Notes what came of a step; saves or stops where that was agreed."""
        self.progress.step = result.step
        if self._run_watch is not None:
            self._run_watch.check()
        if self.saver is not None:
            self.saver.check()
        if not result.is_good:
            self._pass_over(recorder, result)
        recorder.note(result)
        if self.config.run.snapshots:
            self._keep_in_memory()
            recorder.flush()
        recorder.flush_if_due()
        if result.should_stop:
            self._stop(recorder)
        every = self.config.run.save_every_steps
        if result.should_save or (every is not None and result.step % every == 0):
            recorder.flush()
            self._save()
        self._say_running()

    def _pass_over(self, recorder: StepRecorder, result: StepResult) -> None:
        """Handles a step with a NaN or infinite loss or gradient. Raises RunError after too many."""
        wrong = [slot for slot, loss in zip(result.slots, result.losses, strict=True) if not math.isfinite(loss)]
        names = [self.material.train.cases[index].name for slot in wrong or result.slots for index in slot]
        what = f"the loss is {result.loss}" if wrong else "the gradient is not finite"
        text = f"{what} in step {result.step}, on {'case' if len(names) == 1 else 'cases'} {', '.join(names)}"
        self.progress.skipped += 1
        allowed = self.config.train.max_skipped_steps
        if self.progress.skipped <= allowed:
            LOG.info("%s: the step is skipped (%d of at most %d)", text, self.progress.skipped, allowed)
            return
        self.progress.step, self.progress.skipped = result.step - 1, self.progress.skipped - 1
        recorder.flush()
        self._save()
        if self.saver is not None:
            self.saver.wait()
        self._say_running()
        self.runtime.wait()
        raise RunError(
            f"{text}. Weights and statistics are those before it. `vwmm check` finds images with non-finite voxels; a "
            "smaller train.lr, train.max_grad_norm=1 or train.mixed_precision=no may help, and "
            f"train.max_skipped_steps={allowed + 1} skips such a step"
        )

    def _is_time_to_save(self) -> bool:
        """Asked of each process; the main process's clock decides."""
        return self.saver is not None and self.saver.is_due(self.config.run.save_every_minutes)

    def _stop(self, recorder: StepRecorder | None = None) -> NoReturn:
        """Saves what there is and leaves. Raises StoppedEarly."""
        if recorder is not None:
            recorder.flush()
        self.runtime.watch.show()  # all processes must know which one was asked, and by what
        self._save()
        if self.saver is not None:
            self.saver.wait()
            self._say_running()
            self.saver.require(self.progress.step)
        self.runtime.wait()
        raise StoppedEarly(
            f"stopped by {STOP.reason or self.runtime.watch.asked_of_others()} after step {self.progress.step}; "
            "the same command resumes from there"
        )

    def _say_running(self) -> None:
        """status.json names the last checkpoint that is on the disk."""
        if self.saver is None or self.saver.saved is None or self.saver.saved.step == self._said_step:
            return
        self._said_step = self.saver.saved.step
        with contextlib.suppress(OSError):  # a full disk
            saved, more = self.saver.saved, {"files": self.saver.files, **self.result_files.altered_entry()}
            self.run.write_status("running", epoch=saved.epoch, step=saved.step, **more)

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.steps_per_epoch * self.config.train.epochs, self.config.train)

    def _set_rate(self, step: int) -> float:
        rate = self._rate(step)
        self.engine.set_rate(rate)
        return rate

    def digest(self) -> str:
        """The hash of the weights' bits; to be called by all processes."""
        self.engine.bring_together()
        return digest(self.model.parameters())

    def validate(self) -> Predictions:
        """Predictions for the validation cases."""
        # Not before: a run resumed within an epoch needs the parts.
        self.learner.statistics.bring_together()
        self.engine.bring_together()
        return self._predict()

    def _predict(self) -> Predictions:
        return predict_cases(
            self.runtime,
            self.engine.network,
            self.material.val,
            self.material.classes,
            batch_size=self.config.train.eval_batch_size,
            each_alone=len(self.config.modalities) > 1,
        )

    def _keep(self, epoch: int, record: dict[str, Any], predictions: Predictions) -> None:
        """Writes the best checkpoint, its predictions and then the last one, which marks the epoch as complete."""
        if self.saver is not None:
            self.saver.wait()
            self._check_folder()
        progress = self.progress
        train, value = self.config.train, record[self.config.train.monitor]
        if value is None and epoch == 1:
            LOG.info("train.monitor=%s does not exist on these validation cases; epoch 1 stays the best", train.monitor)
        if progress.best_epoch is None or is_better(value, progress.best_value, train.monitor):
            progress.best_value, progress.best_epoch = value, epoch
        if is_better(value, progress.stopping_value, train.monitor, by=train.early_stopping.min_delta):
            progress.stopping_value, progress.epochs_without_improvement = value, 0
        else:
            progress.epochs_without_improvement += 1
        self._last_record = record
        self._save(best=predictions if progress.best_epoch == epoch else None)

    def _save(self, *, best: Predictions | None = None) -> None:
        """A checkpoint to go on from; `best`: the predictions of this state, if it is the best so far."""
        self.runtime.watch.at("copy", step=self.progress.step)
        state = self._copy_state()
        if self.saver is not None and state is not None:
            if best is None:
                self.saver.save(state)
            else:
                table = best.to_csv()
                known = {**state.description, PREDICTIONS_KEY: text_digest(table)}
                self.saver.save(state, best=replace(state, optimizer=None, description=known), predictions=table)

    def _keep_in_memory(self) -> None:
        self.runtime.watch.at("copy", step=self.progress.step)
        state = self._copy_state()
        if self.saver is not None and state is not None:
            self.saver.keep_in_memory(state)
        self.runtime.wait()  # no process continues before this step is safe

    def _copy_state(self) -> State | None:
        """On the main process; to be called by all."""
        parts = self.learner.statistics.gather_parts()
        self.engine.bring_together()
        tensors = self.engine.state()
        if not self.runtime.is_main:
            return None
        self.progress.scaler = self.engine.scaling
        description = describe_model(
            self.config, self.material.classes, self.runtime.mixed_precision, self._last_record or {}
        )
        state = copy_state(self.model, self.progress, description, optimizer=tensors, parts=parts)
        if parts is None:
            return state
        return replace(state, weights=self.learner.statistics.made_whole(state.weights, parts))
