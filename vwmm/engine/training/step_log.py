"""Collects the metrics of each step and writes them every few steps."""

import time
from typing import Any

from vwmm.engine.checkpoints.state import Progress
from vwmm.engine.console import ProgressBar
from vwmm.engine.tracking.metrics_file import MetricsFile
from vwmm.engine.tracking.trackers import Trackers
from vwmm.engine.training.step_reduction import StepResult


class StepRecorder:
    """Collects what came of the steps, and writes it every `log_every` steps."""

    def __init__(
        self,
        progress: Progress,
        metrics: MetricsFile | None,
        trackers: Trackers | None,
        bar: ProgressBar,
        *,
        epoch: int,
        log_every: int,
    ) -> None:
        """progress: where the run stands, to which each step is added. metrics, trackers: None: none."""
        self.progress, self.bar = progress, bar
        self.metrics, self.trackers = metrics, trackers
        self.epoch, self.log_every = epoch, log_every
        self._waiting: list[dict[str, Any]] = []
        self._started = self._flushed = time.monotonic()
        self._cases, self._new_cases = 0, 0

    def note(self, result: StepResult) -> None:
        """Notes a step; nothing is written before `flush`, so that a state can be kept first."""
        record = {
            "event": "train",
            "epoch": self.epoch,
            "step": result.step,
            "lr": result.lr,
            **result.values(),
        }
        if not result.is_finite:
            record["skipped"] = True
        self._waiting.append(record)
        counted = result.num_cases if result.is_finite else 0
        self.progress.add_step(
            result.step, record, loss_sum=result.loss * counted if counted else 0.0, num_cases=counted
        )
        self._new_cases += result.num_cases
        losses, cases = self.progress.loss_sum, self.progress.loss_cases
        self.bar.advance(result.num_cases, note=f"loss {losses / cases:.4f}" if cases else "")

    def flush_if_due(self) -> None:
        """Writes once `log_every` steps wait."""
        if len(self._waiting) >= self.log_every:
            self.flush()

    def flush(self) -> None:
        """Writes a line for each step."""
        if not self._waiting:
            return
        now = time.monotonic()
        speed = self._new_cases / max(now - self._flushed, 1e-9)
        records = [{**record, "cases_per_s": speed} for record in self._waiting]
        if self.metrics is not None:
            self.metrics.write(records)
        if self.trackers is not None:
            self.trackers.log(records)
        self._cases += self._new_cases
        self._waiting, self._new_cases, self._flushed = [], 0, now

    def cases_per_s(self) -> float | None:
        """Training cases a second, over what this start has trained of the epoch; None if that is nothing."""
        return self._cases / max(self._flushed - self._started, 1e-9) if self._cases else None
