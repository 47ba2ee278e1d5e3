"""The epochs of a run: train, validate, keep the best, know where it stands."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vwmm.analysis.intervals import accuracy_interval
from vwmm.analysis.predictions import Predictions
from vwmm.config.errors import RunError
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.data.augment import augment_batch, draw_cases
from vwmm.data.dataset import Batch, CaseDataset
from vwmm.data.order import draw_present, num_steps, plan_epoch
from vwmm.engine.batch_norm import RunningStatistics
from vwmm.engine.checkpoint import Progress, find_checkpoint, load_progress, save_checkpoint
from vwmm.engine.loops import Learner, predict_all, train_one_epoch
from vwmm.engine.optim import build_optimizer, learning_rate, set_learning_rate, sum_gradients
from vwmm.engine.progress import LOG, duration
from vwmm.engine.progress import Progress as Bar
from vwmm.engine.runtime import Runtime
from vwmm.engine.tracking import MetricsFile, cut_metrics, log_values
from vwmm.models.fusion import FusionModel, build_model
from vwmm.models.losses import class_weights


@dataclass(frozen=True)
class Material:
    """What is learned from."""

    train: CaseDataset
    """The cases that are trained on."""
    val: CaseDataset
    """The cases that are validated on."""
    classes: tuple[str, ...]
    """The classes, in the order of the logits."""


class Fit:
    """One training: the model, its optimizer, and where it stands."""

    def __init__(self, runtime: Runtime, config: Config, material: Material, run: RunFolder) -> None:
        self.runtime, self.config, self.material, self.run = runtime, config, material, run
        train = config.train
        self.model: FusionModel = build_model(config.model, config.modalities, len(material.classes), seed=train.seed)
        optimizer = build_optimizer(self.model.parameters(), train)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*broadcast_buffers")  # torch's advice to Accelerate
            prepared, self.optimizer = runtime.accelerator.prepare(self.model, optimizer)
        sum_gradients(prepared)
        self.learner = Learner(
            model=prepared,
            optimizer=self.optimizer,
            statistics=RunningStatistics(dict(self.model.branches.items()), runtime.accelerator),
            weights=class_weights(train.class_weights, material.train.labels, len(material.classes)),
            label_smoothing=train.label_smoothing,
            max_grad_norm=train.max_grad_norm,
            seed=train.seed,
        )
        self.steps_per_epoch = num_steps(len(material.train), train.batch_size, train.micro_batch_size)
        self.progress = Progress()
        self._resume()
        self.metrics_file = MetricsFile(run.metrics) if runtime.is_main else None

    def _resume(self) -> None:
        """Goes on from the last checkpoint, if there is one; metrics.jsonl is cut back to it."""
        last = find_checkpoint(self.run.last)
        if last is not None:
            self.progress = load_progress(last, self.model, self.optimizer.optimizer)
            if self.progress.scaler and self.runtime.accelerator.scaler is not None:
                self.runtime.accelerator.scaler.load_state_dict(self.progress.scaler)
            LOG.info("resuming after epoch %d, step %d", self.progress.epoch, self.progress.step)
        if self.runtime.is_main:
            cut_metrics(self.run.metrics, epoch=self.progress.epoch, step=self.progress.step)
        self.runtime.wait()

    def run_epochs(self) -> None:
        """Trains to the last epoch, or until early stopping."""
        epochs, patience = self.config.train.epochs, self.config.train.early_stopping.patience
        started, first = time.monotonic(), self.progress.epoch
        for epoch in range(first + 1, epochs + 1):
            if patience is not None and self.progress.epochs_without_improvement >= patience:
                LOG.info("stopping early: no better %s for %d epochs", self.config.train.monitor, patience)
                break
            record, predictions = self._run_epoch(epoch)
            self._keep(epoch, record, predictions)
            left = (time.monotonic() - started) / (epoch - first) * (epochs - epoch)
            LOG.info("%s  %s left", describe_epoch(record, epochs, predictions), duration(left))
            log_values(self.runtime, _validation_values(record), step=self.progress.step)
            if self.runtime.is_main:
                self.run.write_status("running", epoch=epoch, step=self.progress.step)

    def _run_epoch(self, epoch: int) -> tuple[dict[str, Any], Predictions]:
        train, material = self.config.train, self.material
        steps = plan_epoch(len(material.train), train.batch_size, train.micro_batch_size, seed=train.seed, epoch=epoch)
        chance = self.config.model.modality_dropout
        present = draw_present(material.train.present(), chance, seed=train.seed, epoch=epoch)
        title = f"epoch {epoch}/{train.epochs}"
        with Bar(title, len(material.train), "case", is_speaker=self.runtime.is_main) as bar:
            recorder = StepRecorder(self, epoch, bar)
            train_one_epoch(
                self.runtime,
                self.learner,
                material.train,
                steps,
                present=present,
                augment=self._augment_in(epoch),
                first_step=self.progress.step + 1,
                set_rate=self._set_rate,
                after_step=recorder.after_step,
                num_workers=train.num_workers,
            )
            recorder.flush()
        self.progress.step += len(steps)
        self.progress.epoch = epoch
        predictions = self._validate()
        record = {
            "event": "validation",
            "epoch": epoch,
            "step": self.progress.step,
            **predictions.metrics(),
            "train_loss": recorder.mean_loss(),
            "lr": self._rate(self.progress.step),
            "cases_per_s": recorder.cases_per_s(),
        }
        if self.metrics_file is not None:
            self.metrics_file.write([record])
        return record, predictions

    def _augment_in(self, epoch: int) -> Callable[[Batch], dict[str, torch.Tensor]]:
        """The augmentation of an epoch: each draw follows from (seed, epoch, case)."""
        config, cases, present = self.config, self.material.train.cases, self.material.train.present()

        def augment(batch: Batch) -> dict[str, torch.Tensor]:
            indices = batch.indices.tolist()
            names = [cases[index].name for index in indices]
            draws = draw_cases(names, config.modalities, config.augment, seed=config.train.seed, epoch=epoch)
            return augment_batch(batch.images, present[indices], draws)  # the batch's own mask is on the device

        return augment

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.steps_per_epoch * self.config.train.epochs, self.config.train)

    def _set_rate(self, step: int) -> float:
        rate = self._rate(step)
        set_learning_rate(self.optimizer, rate)
        return rate

    def _validate(self) -> Predictions:
        return predict_cases(
            self.runtime,
            self.learner.model,
            self.material.val,
            self.material.classes,
            batch_size=self.config.train.eval_batch_size,
        )

    def _keep(self, epoch: int, record: dict[str, Any], predictions: Predictions) -> None:
        """Writes the best checkpoint, its predictions and then the last one, which says that the epoch is complete."""
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
        if self.runtime.accelerator.scaler is not None:
            progress.scaler = self.runtime.accelerator.scaler.state_dict()
        if self.runtime.is_main:
            description = self._description(record)
            if progress.best_epoch == epoch:
                save_checkpoint(self.run.best, self.model, progress, description)
                write_whole(self.run.predictions, predictions.to_csv())
            save_checkpoint(self.run.last, self.model, progress, description, optimizer=self.optimizer.optimizer)
        self.runtime.wait()

    def _description(self, record: dict[str, Any]) -> dict[str, Any]:
        """What is needed to use the weights elsewhere."""
        return {
            "classes": list(self.material.classes),
            "modalities": {name: m.model_dump(mode="json") for name, m in self.config.modalities.items()},
            "model": self.config.model.model_dump(mode="json"),
            "mixed_precision": self.runtime.mixed_precision,
            "eval_batch_size": self.config.train.eval_batch_size,
            "validation": {key: value for key, value in record.items() if key != "event"},
        }


class StepRecorder:
    """Collects the steps' losses on the device and writes them every `log_every` steps, in one reduction."""

    def __init__(self, fit: Fit, epoch: int, bar: Bar) -> None:
        self.fit, self.epoch, self.bar = fit, epoch, bar
        self._waiting: list[tuple[int, torch.Tensor, float, int]] = []
        self._started = self._flushed = time.monotonic()
        self._sum, self._cases = 0.0, 0

    def after_step(self, step: int, loss: torch.Tensor, rate: float, num_cases: int) -> None:
        """Notes a step; nothing is waited for, unless it is time to write."""
        self._waiting.append((step, loss, rate, num_cases))
        self.bar.advance(num_cases)
        if len(self._waiting) >= self.fit.config.train.log_every:
            self.flush()

    def flush(self) -> None:
        """Brings the losses together (the one synchronisation) and writes a line for each step."""
        if not self._waiting:
            return
        parts = torch.stack([loss for _, loss, _, _ in self._waiting])
        losses = self.fit.runtime.accelerator.reduce(parts, reduction="sum").tolist()
        now = time.monotonic()
        speed = sum(cases for *_, cases in self._waiting) / max(now - self._flushed, 1e-9)
        records = [
            {"event": "train", "epoch": self.epoch, "step": step, "loss": loss, "lr": rate, "cases_per_s": speed}
            for (step, _, rate, _), loss in zip(self._waiting, losses, strict=True)
        ]
        wrong = next((record for record in records if not math.isfinite(record["loss"])), None)
        if wrong is not None:
            raise RunError(
                f"the loss is {wrong['loss']} in step {wrong['step']} (epoch {self.epoch}): a smaller train.lr, "
                "train.max_grad_norm=1 or train.mixed_precision=no may help; the last checkpoint is unharmed"
            )
        if self.fit.metrics_file is not None:
            self.fit.metrics_file.write(records)
        for record in records:
            values = {"train/loss": record["loss"], "train/lr": record["lr"], "train/cases_per_s": speed}
            log_values(self.fit.runtime, {**values, "epoch": self.epoch}, step=record["step"])
        self._sum += sum(loss * cases for (*_, cases), loss in zip(self._waiting, losses, strict=True))
        self._cases += sum(cases for *_, cases in self._waiting)
        self._waiting, self._flushed = [], now

    def mean_loss(self) -> float:
        """The mean of the steps' losses, weighted by their cases."""
        return self._sum / self._cases

    def cases_per_s(self) -> float:
        """Training cases a second, over the epoch."""
        return self._cases / max(self._flushed - self._started, 1e-9)


def predict_cases(
    runtime: Runtime,
    model: torch.nn.Module,
    dataset: CaseDataset,
    classes: tuple[str, ...],
    *,
    batch_size: int,
    title: str = "validation",
) -> Predictions:
    """The predictions table of a dataset, the same on every process."""
    share = -(-len(dataset) // runtime.num_processes)
    with Bar(title, share, "case", is_speaker=runtime.is_main) as bar:
        logits = predict_all(runtime, model, dataset, len(classes), batch_size=batch_size, each=bar.to)
    return Predictions(
        cases=[case.name for case in dataset.cases],
        patients=[case.patient for case in dataset.cases],
        labels=np.array(dataset.labels, dtype=np.int64),
        logits=logits,
        present=dataset.present(),
        classes=classes,
        modalities=list(dataset.modalities),
        extra=[case.extra for case in dataset.cases],
    )


def is_better(value: float | None, best: float | None, monitor: str, *, by: float = 0.0) -> bool:
    """Whether a value of `train.monitor` beats the best so far by more than `by`; one that is missing never does."""
    if value is None or not math.isfinite(value):
        return False
    if best is None:
        return True
    return (best - value if monitor == "loss" else value - best) > by


def describe_epoch(record: dict[str, Any], epochs: int, predictions: Predictions) -> str:
    """One line for people; the interval is over patients."""
    correct = predictions.probabilities().argmax(axis=1) == predictions.labels
    interval = accuracy_interval(correct, np.array(predictions.patients))
    auroc = "-" if record["auroc"] is None else f"{record['auroc']:.3f}"
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return (
        f"epoch {record['epoch']}/{epochs}  train loss {record['train_loss']:.4f}  val loss {record['loss']:.4f}  "
        f"accuracy {record['accuracy']:.3f}{bounds} (n={record['cases']})  auroc {auroc}  "
        f"{record['cases_per_s']:.3g} cases/s"
    )


def _validation_values(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("loss", "accuracy", "balanced_accuracy", "auroc")
    return {**{f"val/{key}": record[key] for key in keys}, "epoch": record["epoch"]}
