"""Writes checkpoints in the background."""

import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.engine.checkpoints.checkpoint import write_checkpoint
from vwmm.engine.checkpoints.state import Progress, State
from vwmm.engine.console import LOG
from vwmm.engine.tracking.metrics_file import MetricsFile
from vwmm.system.errors import RunError


class Saver:
    """Checkpoints of one run, written by the main process one after another."""

    def __init__(
        self,
        run: RunFolder,
        metrics: MetricsFile,
        *,
        keep: int,
        snapshot: Path | None = None,
        saved: Progress | None = None,
    ) -> None:
        """snapshot: where each step's state is kept in memory; None: nowhere. saved: where the run resumes from."""
        self.run, self.metrics, self.keep, self.snapshot = run, metrics, keep, snapshot
        self.saved = saved
        """Where the run stood in the last checkpoint that is on the disk."""
        self.files: dict[str, Any] = {}
        """Digests of what the last checkpoint's state stands beside, for status.json."""
        self._has_failed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saving")
        self._writing: Future[None] | None = None
        self._last_at = time.monotonic()

    def is_due(self, every_minutes: float | None) -> bool:
        """Whether the last checkpoint is that old."""
        return every_minutes is not None and time.monotonic() - self._last_at > every_minutes * 60

    def save(self, state: State, *, best: State | None = None, predictions: str | None = None) -> None:
        """Writes a state to go on from, and first what is the best and its predictions, if it is given.

        If the disk is full, this checkpoint is lost; the previous one stays, and training continues.
        """
        self.wait()
        self._last_at = time.monotonic()
        self._writing = self._pool.submit(self._write, state, best, predictions)

    def check(self) -> None:
        """Raises RunError where the writing has failed for good; does not wait for it."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def keep_in_memory(self, state: State) -> None:
        """Keeps a state where it survives this process, but not its machine."""
        if self.snapshot is None:
            return
        self.wait()  # the best checkpoint it names must be on the disk
        try:
            self.metrics.flush(is_durable=False)
            write_checkpoint(self.snapshot, state, is_durable=False)
        except OSError as error:
            LOG.info("run.snapshots: %s: %s; from here on only checkpoints are written", self.snapshot.parent, error)
            self._forget_snapshot()

    def require(self, step: int) -> None:
        """Raises RunError unless the state after this step is on the disk."""
        self.wait()
        if self.saved is None or self.saved.step != step:
            kept = "there is none" if self.saved is None else f"the last one is of step {self.saved.step}"
            raise RunError(
                f"the checkpoint of step {step} could not be written (see train.log); {kept}. Make room on the disk of "
                f"{self.run.path}: the same command resumes from there"
            )

    def close(self) -> None:
        """Ends the writing."""
        self._pool.shutdown(wait=True)

    def _forget_snapshot(self) -> None:
        if self.snapshot is not None:
            shutil.rmtree(self.snapshot.parent, ignore_errors=True)
        self.snapshot = None

    def _write(self, state: State, best: State | None, predictions: str | None) -> None:
        try:
            self.metrics.flush()  # a checkpoint without the lines up to it would leave a gap
            if best is not None:
                write_checkpoint(self.run.best, best)
            if predictions is not None:
                write_whole(self.run.predictions, predictions)
            write_checkpoint(self.run.last, state, keep=self.keep)
            self.files = {self.run.metrics.name: self.metrics.digest}
            self.saved = state.progress
            if self._has_failed:
                LOG.info("checkpoints are written again, from step %d on", state.progress.step)
            self._has_failed = False
        except OSError as error:
            if self.saved is None:  # to train on would be to lose all of it
                raise RunError(
                    f"the first checkpoint, of step {state.progress.step}, could not be written "
                    f"({error.strerror or error}): make room on the disk of {self.run.path}, or choose another run.dir"
                ) from error
            if not self._has_failed:  # reported once, until saving works again
                LOG.info(
                    "the checkpoint of step %d could not be written (%s); that of step %d is kept, training continues",
                    state.progress.step,
                    error.strerror or error,
                    self.saved.step,
                )
            self._has_failed = True


def describe_model(
    config: Config, classes: Sequence[str], mixed_precision: str, record: Mapping[str, Any]
) -> dict[str, Any]:
    """What is needed to use the weights elsewhere; `record`: of the last validation, if there was one."""
    return {
        "classes": list(classes),
        "modalities": {name: modality.model_dump(mode="json") for name, modality in config.modalities.items()},
        "model": config.model.model_dump(mode="json"),
        "mixed_precision": mixed_precision,
        "eval_batch_size": config.train.eval_batch_size,
        "validation": {key: value for key, value in record.items() if key != "event"},
    }
