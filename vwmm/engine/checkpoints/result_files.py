"""Digests of results in status.json."""

from typing import Any

from vwmm.config.run_digests import altered_files, file_digest, predictions_differ
from vwmm.config.run_folder import RunFolder
from vwmm.engine.console import LOG
from vwmm.engine.tracking.metrics_file import MetricsFile


class ResultFiles:
    """The results of one run; used by the main process."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._altered: list[str] = []

    def note_altered(self) -> None:
        """Reports changed result files. Removes from status.json the digest of files that are cut back next."""
        self._altered = [name for name in altered_files(self.run) if name != self.run.predictions.name]
        for name in self._altered:
            LOG.info("warning: %s was changed after the run wrote it; the report will note this", self.run.path / name)
        if self.run.status.exists():
            place = {key: value for key, value in self.run.position().items() if key != "files"}
            self.run.write_status("running", **{**place, **self.altered_entry()})

    def altered_entry(self) -> dict[str, Any]:
        """For status.json, during the run."""
        return {"altered": self._altered} if self._altered else {}

    def final_entry(self, metrics: MetricsFile) -> dict[str, Any]:
        """For status.json, of a run that is done."""
        metrics.flush()
        files = {self.run.metrics.name: metrics.digest, self.run.predictions.name: file_digest(self.run.predictions)}
        return {"files": files, **self.altered_entry()}

    def have_lost_predictions(self) -> bool:
        """Whether predictions_val.csv is gone, or is not what was written with the best checkpoint."""
        if not self.run.predictions.exists():
            return True
        if predictions_differ(self.run):
            LOG.info("%s is not what was written with the best checkpoint: it is computed again", self.run.predictions)
            return True
        return False
