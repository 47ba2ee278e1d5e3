"""MLflow."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vwmm.engine.tracking.base import Results, Row, RunInfo, quiet

_MAX_BATCH = 900  # metrics that MLflow takes at once: 1000


class MlflowTracker:
    """MLflow, on the server of MLFLOW_TRACKING_URI or in a database file beside the run folders."""

    name = "MLflow"

    def __init__(self, run_info: RunInfo) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        place = os.environ.get("MLFLOW_TRACKING_URI")
        local = run_info.folder.parent / "mlflow.db"
        with quiet():
            self._client = MlflowClient(tracking_uri=place or f"sqlite:///{local}")
            experiment = self._client.get_experiment_by_name(run_info.project)
            if experiment is not None:
                number = experiment.experiment_id
            else:
                artifacts = None if place else (local.parent / "mlflow_artifacts").as_uri()
                number = self._client.create_experiment(run_info.project, artifact_location=artifacts)
            self.identity = run_info.known_id or ""
            try:
                self._client.get_run(self.identity or "none")
                self._client.update_run(self.identity, status="RUNNING")
            except MlflowException:
                tags = {"group": run_info.group} if run_info.group else {}
                self.identity = self._client.create_run(number, run_name=run_info.name, tags=tags).info.run_id
                self._log_config(run_info.config)
        self.where = f"MLflow: {place}" if place else f"MLflow: mlflow ui --backend-store-uri sqlite:///{local}"
        self._step = 0

    def _log_config(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:6000]) for name, value in _flat(config)]
        for start in range(0, len(flat), 100):
            self._client.log_batch(self.identity, params=flat[start : start + 100])

    def last_logged_step(self, event: str) -> int:
        history = self._client.get_metric_history(self.identity, f"{'train' if event == 'train' else 'val'}/loss")
        return max((metric.step for metric in history), default=0)

    def log(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for step, values in rows for name, value in values.items()]
        for start in range(0, len(metrics), _MAX_BATCH):
            self._client.log_batch(self.identity, metrics=metrics[start : start + _MAX_BATCH])
        self._step = rows[-1][0] if rows else self._step

    def drop_superseded(self) -> None:
        pass

    def show(self, results: Results) -> None:
        with quiet():
            for name, figure in results.figures.items():
                self._client.log_figure(self.identity, figure, f"{name}.png")
            columns = {name: [row[k] for row in results.rows] for k, name in enumerate(results.columns)}
            self._client.log_dict(self.identity, columns, f"{results.table}.json")
        self.log([(self._step, results.summary)])

    def finish(self, *, is_good: bool) -> None:
        self._client.set_terminated(self.identity, "FINISHED" if is_good else "KILLED")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
