"""The trainer: epochs of steps, validation, early stopping."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.shapley import MAX_MODALITIES
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.data.augmentation.augment import augmentation
from vwmm.data.loading.dataset import CaseDataset
from vwmm.data.loading.sampling import draw_present, num_steps, plan_epoch
from vwmm.engine.checkpoints.checkpoint import load_checkpoint
from vwmm.engine.checkpoints.run_watch import RunWatch
from vwmm.engine.checkpoints.state import Progress, digest
from vwmm.engine.console import LOG, ProgressBar, duration
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.optim import learning_rate
from vwmm.engine.tracking.trackers import Trackers
from vwmm.engine.training.checkpointing import Checkpointing
from vwmm.engine.training.early_stopping import note_epoch, stops_early
from vwmm.engine.training.epoch import Epoch
from vwmm.engine.training.learner import Learner, build_learner
from vwmm.engine.training.pass_size import memory_advice
from vwmm.engine.training.step_log import StepRecorder
from vwmm.engine.training.step_reduction import StepResult
from vwmm.engine.training.train_loop import train_one_epoch
from vwmm.engine.training.validation import check_finite, describe_epoch, predict_cases
from vwmm.models.fusion import FusionModel, build_model
from vwmm.system.errors import RunError, StoppedEarly
from vwmm.system.signals import STOP


@dataclass(frozen=True)
class Datasets:
    """The data of a training run."""

    train: CaseDataset
    """The cases that are trained on."""
    val: CaseDataset
    """The cases that are validated on."""
    classes: tuple[str, ...]
    """The classes, in the order of the logits."""


def make_epoch(
    runtime: Runtime,
    config: Config,
    learner: Learner,
    dataset: CaseDataset,
    plan: Sequence[list[list[int]]],
    *,
    epoch: int,
    first_step: int,
) -> Epoch:
    """What this rank computes of the steps of a plan. epoch: its number, from 1, a key of all that is drawn."""
    seed = config.train.seed
    return Epoch(
        dataset,
        plan,
        present=draw_present(dataset.present(), config.model.modality_dropout, seed=seed, epoch=epoch),
        augment=augmentation(dataset, config.modalities, config.augment, seed=seed, epoch=epoch),
        first_step=first_step,
        seed=seed,
        rank=runtime.rank,
        num_processes=runtime.num_processes,
        dummies=learner.strategy.dummies,
        at_once=learner.at_once,
        num_workers=config.train.num_workers,
    )


class Trainer:
    """One training run. Its methods are called by all ranks."""

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        datasets: Datasets,
        run: RunFolder,
        run_watch: RunWatch | None = None,
        *,
        model: FusionModel | None = None,
    ) -> None:
        """run_watch: looks after the run folder; None where this process does not write to it.

        model: with its first weights; None: it is built.
        """
        self.runtime, self.config, self.datasets, self.run = runtime, config, datasets, run
        train, num_classes = config.train, len(datasets.classes)
        self.model = model or build_model(config.model, config.modalities, num_classes, seed=train.seed)
        self.learner = build_learner(runtime, self.model, train, config.modalities, datasets.train, num_classes)
        self.steps_per_epoch = num_steps(len(datasets.train), train.batch_size, train.micro_batch_size)
        self.checkpointing = Checkpointing(runtime, config, run, self.learner, datasets.classes, run_watch)

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self.checkpointing.progress

    def run_epochs(self, trackers: Trackers | None = None) -> None:
        """Trains to the last epoch, or until early stopping. Raises StoppedEarly, with a checkpoint on the disk."""
        epochs = self.config.train.epochs
        started, first = time.monotonic(), self.progress.epoch
        for epoch in range(first + 1, epochs + 1):
            if stops_early(self.progress, self.config.train):
                break
            record, predictions = self._run_epoch(epoch, trackers)
            self.checkpointing.check_folder()
            is_best = note_epoch(self.progress, self.config.train, epoch, record[self.config.train.monitor])
            self.checkpointing.after_epoch(record, predictions, is_best=is_best)
            left = (time.monotonic() - started) / (epoch - first) * (epochs - epoch)
            LOG.info("%s", describe_epoch(record, epochs, predictions, left=duration(left), is_best=is_best))
            self.checkpointing.update_status()
        self.checkpointing.require_saved()
        self.checkpointing.check_folder()

    def _run_epoch(self, epoch: int, trackers: Trackers | None) -> tuple[dict[str, Any], Predictions]:
        if self.runtime.any_rank(STOP.is_asked):
            self.checkpointing.stop()
        recorder = self.train_steps(epoch, self._after_step, trackers=trackers)
        try:
            predictions = self.validate()
        except StoppedEarly:
            self.checkpointing.stop(recorder)
        record = {
            "event": "validation",
            "epoch": epoch,
            "step": self.progress.step,
            **predictions.metrics(),
            "unimodal": predictions.unimodal_metrics(),
            "shapley": predictions.mean_shapley(),
            "train_loss": self.progress.loss_sum / max(1, self.progress.loss_cases),
            "lr": self._learning_rate(self.progress.step),
            "cases_per_s": recorder.cases_per_s(),
            "weights": self.digest(),
        }
        self.progress.end_epoch(epoch)
        if self.checkpointing.metrics is not None:
            self.checkpointing.metrics.write([record])
        if trackers is not None:
            trackers.log([record])
        return record, predictions

    def train_steps(
        self,
        epoch: int,
        after_step: Callable[[StepRecorder, StepResult], None],
        *,
        until: int | None = None,
        trackers: Trackers | None = None,
    ) -> StepRecorder:
        """Trains the rest of an epoch, or up to a step; logs each step."""
        train, runtime, dataset = self.config.train, self.runtime, self.datasets.train
        plan = plan_epoch(len(dataset), train.batch_size, train.micro_batch_size, seed=train.seed, epoch=epoch)
        done = self.progress.step - (epoch - 1) * self.steps_per_epoch
        left = plan[done : None if until is None else until - (epoch - 1) * self.steps_per_epoch]
        first = self.progress.step + 1
        num_done = sum(len(cases) for micro_batches in plan[:done] for cases in micro_batches)
        with ProgressBar(
            f"epoch {epoch}/{train.epochs}", len(dataset), "case", done=num_done,
            is_main_process=runtime.is_main_process,
        ) as bar:  # fmt: skip
            recorder = StepRecorder(
                self.progress, self.checkpointing.metrics, trackers, bar, epoch=epoch, log_every=train.log_every
            )
            with memory_advice(self.config, runtime.device):
                train_one_epoch(
                    runtime,
                    self.learner,
                    make_epoch(runtime, self.config, self.learner, dataset, left, epoch=epoch, first_step=first),
                    set_rate=self._set_learning_rate,
                    after_step=lambda result: after_step(recorder, result),
                    is_time_to_save=self.checkpointing.is_due,
                )
            recorder.flush()
        return recorder

    def _after_step(self, recorder: StepRecorder, result: StepResult) -> None:
        """Notes the result of a step; saves or stops where that was agreed."""
        self.checkpointing.check()
        if not result.is_finite:
            self._skip_nonfinite_step(recorder, result)
        recorder.note(result)
        self.checkpointing.after_step(recorder, result)

    def _skip_nonfinite_step(self, recorder: StepRecorder, result: StepResult) -> None:
        """Counts a step with a NaN or infinite loss or gradient. Raises RunError after too many."""
        wrong = [
            cases for cases, loss in zip(result.micro_batches, result.losses, strict=True) if not math.isfinite(loss)
        ]
        names = [self.datasets.train.cases[index].name for cases in wrong or result.micro_batches for index in cases]
        what = f"the loss is {result.loss}" if wrong else "the gradient is not finite"
        text = f"{what} in step {result.step}, on {'case' if len(names) == 1 else 'cases'} {', '.join(names)}"
        allowed = self.config.train.max_skipped_steps
        if self.progress.skipped < allowed:
            self.progress.skipped += 1
            LOG.info("%s: the step is skipped (%d of at most %d)", text, self.progress.skipped, allowed)
            return
        self.checkpointing.save_and_wait(recorder)
        self.runtime.wait()
        raise RunError(
            f"{text}. Weights and statistics are those before it. `vwmm check` finds images with non-finite voxels; a "
            "smaller train.lr, train.max_grad_norm=1 or train.mixed_precision=no may help, and "
            f"train.max_skipped_steps={allowed + 1} skips such a step"
        )

    def _learning_rate(self, step: int) -> float:
        return learning_rate(step, self.steps_per_epoch * self.config.train.epochs, self.config.train)

    def _set_learning_rate(self, step: int) -> float:
        lr = self._learning_rate(step)
        self.learner.strategy.set_lr(lr)
        return lr

    def digest(self) -> str:
        """The hash of the weights' bits."""
        self.learner.strategy.gather_full_weights()
        return digest(self.model.parameters())

    def validate(self) -> Predictions:
        """Predictions for the validation cases."""
        # Not before: a run resumed within an epoch needs the parts.
        self.learner.batch_norm.all_reduce()
        self.learner.strategy.gather_full_weights()
        predictions = self._predict()
        check_finite(predictions)
        return predictions

    def restore_predictions(self) -> None:
        """Computes predictions_val.csv again if it is lost; the run is done, and its model not needed any more."""
        is_lost = self.runtime.is_main_process and self.checkpointing.result_files.have_lost_predictions()
        if self.runtime.any_rank(is_lost):
            load_checkpoint(self.run.best).restore_weights(self.model)
            table = self._predict().to_csv()
            if self.runtime.is_main_process:
                write_whole(self.run.predictions, table)

    def _predict(self) -> Predictions:
        return predict_cases(
            self.runtime,
            self.learner.strategy.network,
            self.datasets.val,
            self.datasets.classes,
            batch_size=self.config.train.eval_batch_size,
            with_subsets=1 < len(self.config.modalities) <= MAX_MODALITIES,
        )
