"""W&B, TensorBoard, MLflow and trackio behind one interface.

Their values come from metrics.jsonl and from predictions_val.csv, during the run and afterwards alike
(tracking.py). None receives a path, a command line, or a case's or patient's name.
"""

import contextlib
import importlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vwmm.system.errors import UserError

if TYPE_CHECKING:  # a process that draws nothing need not wait for it
    from matplotlib.figure import Figure

Row = tuple[int, Mapping[str, float]]
"""A global step and its values by name."""
_MAX_BATCH = 900  # metrics that MLflow takes at once: 1000


@dataclass(frozen=True)
class Sheet:
    """The description of a run that a tracker receives before its values."""

    project: str
    """The tracker's project; MLflow calls it an experiment."""
    name: str
    """The run's name; of a fold, with its group's before it."""
    group: str | None
    """Under which runs are shown together."""
    folder: Path
    """The run's folder, for what the tracker keeps on this machine."""
    config: Mapping[str, Any]
    """The recipe, without any path."""
    known: str | None
    """Its identity with this tracker, from an earlier start."""


@dataclass(frozen=True)
class Results:
    """What came of a run that is done."""

    summary: Mapping[str, float]
    """The best checkpoint's metrics."""
    columns: Sequence[str]
    """Of the validation table."""
    rows: Sequence[Sequence[Any]]
    """Its rows: a number instead of a name, label, prediction, probabilities and which images there were."""
    figures: Mapping[str, "Figure"]
    """Pictures by name."""


class Tracker(Protocol):
    """A tracker of a run."""

    where: str
    """What it is and where a person finds it."""
    identity: str
    """Identity by which a resumed run finds the same entry."""

    def sent(self, event: str) -> int:
        """The last step with a `train` or `validation` event for certain; 0: send everything."""

    def log(self, rows: Sequence[Row]) -> None:
        """Values, in the order of their steps."""

    def settle(self) -> None:
        """It has received everything from before this start: the log that it replaces may be removed."""

    def show(self, results: Results) -> None:
        """The result of a run that is done."""

    def finish(self, *, is_good: bool) -> None:
        """No more to come."""


class WandbTracker:
    """W&B. Online it continues after the server's last step; offline it writes the whole run again."""

    def __init__(self, sheet: Sheet, *, identity: str, is_online: bool, init_timeout_s: float) -> None:
        import wandb

        self._wandb, self.identity = wandb, identity
        self._folder = sheet.folder / "wandb"
        self._before = sorted(self._folder.glob("offline-run-*"))
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_save_requirements=False,
            host="-",
            silent=True,
            init_timeout=init_timeout_s,
            finish_timeout=60,
            finish_timeout_raises=False,
        )
        self._run = wandb.init(
            project=sheet.project,
            name=sheet.name,
            group=sheet.group,
            id=identity,
            config=dict(sheet.config),
            resume="allow" if is_online else None,
            mode="online" if is_online else "offline",
            dir=str(sheet.folder),
            settings=settings,
        )
        self._next = int(self._run.step) if is_online else 0
        if is_online:
            self.where = f"W&B, online: {self._run.url}"
        else:
            self.where = f"W&B, offline; files in {self._folder}"

    def sent(self, event: str) -> int:
        return max(0, self._next - 1)

    def log(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def settle(self) -> None:
        for folder in self._before:
            replaced = self._folder / "replaced"
            replaced.mkdir(exist_ok=True)
            shutil.move(folder, replaced / folder.name)
        self._before = []

    def show(self, results: Results) -> None:
        table = self._wandb.Table(columns=list(results.columns), data=[list(row) for row in results.rows])
        # A table that is logged as such becomes an artifact, too, with a path of this machine in its record.
        table.bind_to_run(self._run, "validation_table", self._run.step)
        pictures = {name: self._wandb.Image(_picture(figure)) for name, figure in results.figures.items()}
        self._run.log({"validation_table": table.to_json(self._run), **pictures})  # beside the last values
        self._run.summary.update(dict(results.summary))

    def finish(self, *, is_good: bool) -> None:
        self._run.finish(exit_code=0 if is_good else 1)


class TensorBoardTracker:
    """Event files in the run folder, rewritten by each start."""

    identity = ""

    def __init__(self, sheet: Sheet) -> None:
        import yaml
        from torch.utils.tensorboard import SummaryWriter

        folder = sheet.folder / "tensorboard"
        self._before = list(folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(folder))
        recipe = yaml.safe_dump(dict(sheet.config), sort_keys=False)
        self._add("add_text", "recipe", "    " + recipe.replace("\n", "\n    "))
        self.where = f"TensorBoard: tensorboard --logdir {folder}"
        self._step = 0

    def sent(self, event: str) -> int:
        return 0

    def log(self, rows: Sequence[Row]) -> None:
        for self._step, values in rows:
            for name, value in values.items():
                self._add("add_scalar", name, value, self._step)

    def settle(self) -> None:
        self._add("flush")
        for file in self._before:
            file.unlink(missing_ok=True)

    def show(self, results: Results) -> None:
        for name, figure in results.figures.items():
            self._add("add_figure", name, figure, self._step, close=False)
        lines = [results.columns, ["---"] * len(results.columns), *results.rows]
        table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        self._add("add_text", "validation_table", table, self._step)
        for name, value in results.summary.items():
            self._add("add_scalar", name, value, self._step)

    def finish(self, *, is_good: bool) -> None:
        self._add("close")

    def _add(self, method: str, *arguments: Any, **more: Any) -> None:
        getattr(self._writer, method)(*arguments, **more)  # torch gives these no types


class MlflowTracker:
    """MLflow, on the server of MLFLOW_TRACKING_URI or in a database file beside the run folders."""

    def __init__(self, sheet: Sheet) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        place = os.environ.get("MLFLOW_TRACKING_URI")
        local = sheet.folder.parent / "mlflow.db"
        with _quiet():
            self._client = MlflowClient(tracking_uri=place or f"sqlite:///{local}")
            experiment = self._client.get_experiment_by_name(sheet.project)
            if experiment is not None:
                number = experiment.experiment_id
            else:
                artifacts = None if place else (local.parent / "mlflow_artifacts").as_uri()
                number = self._client.create_experiment(sheet.project, artifact_location=artifacts)
            self.identity = sheet.known or ""
            try:
                self._client.get_run(self.identity or "none")
                self._client.update_run(self.identity, status="RUNNING")
            except MlflowException:
                tags = {"group": sheet.group} if sheet.group else {}
                self.identity = self._client.create_run(number, run_name=sheet.name, tags=tags).info.run_id
                self._tell_recipe(sheet.config)
        self.where = f"MLflow: {place}" if place else f"MLflow: mlflow ui --backend-store-uri sqlite:///{local}"
        self._step = 0

    def _tell_recipe(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:6000]) for name, value in _flat(config)]
        for start in range(0, len(flat), 100):
            self._client.log_batch(self.identity, params=flat[start : start + 100])

    def sent(self, event: str) -> int:
        history = self._client.get_metric_history(self.identity, f"{'train' if event == 'train' else 'val'}/loss")
        return max((metric.step for metric in history), default=0)

    def log(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for step, values in rows for name, value in values.items()]
        for start in range(0, len(metrics), _MAX_BATCH):
            self._client.log_batch(self.identity, metrics=metrics[start : start + _MAX_BATCH])
        self._step = rows[-1][0] if rows else self._step

    def settle(self) -> None:
        pass

    def show(self, results: Results) -> None:
        with _quiet():
            for name, figure in results.figures.items():
                self._client.log_figure(self.identity, figure, f"{name}.png")
            columns = {name: [row[k] for row in results.rows] for k, name in enumerate(results.columns)}
            self._client.log_dict(self.identity, columns, "validation_table.json")
        self.log([(self._step, results.summary)])

    def finish(self, *, is_good: bool) -> None:
        self._client.set_terminated(self.identity, "FINISHED" if is_good else "KILLED")


class TrackioTracker:
    """trackio, a dashboard on this machine; each start rewrites the whole run."""

    def __init__(self, sheet: Sheet) -> None:
        import trackio

        self._trackio, self._project, self._known = trackio, sheet.project, sheet.known
        with _quiet():
            self._run = trackio.init(
                project=sheet.project, name=sheet.name, group=sheet.group, config=dict(sheet.config), embed=False
            )
        self.identity = str(self._run.id)
        self.where = f"trackio: trackio show --project {sheet.project}"
        self._step = 0

    def sent(self, event: str) -> int:
        return 0

    def log(self, rows: Sequence[Row]) -> None:
        with _quiet():
            for self._step, values in rows:
                self._run.log(dict(values), step=self._step)

    def settle(self) -> None:
        with _quiet(), contextlib.suppress(ValueError):  # nothing has reached the project's file yet
            for run in self._trackio.Api().runs(self._project):
                if run.id == self._known and run.id != self.identity:
                    run.delete()

    def show(self, results: Results) -> None:
        import pandas as pd

        table = self._trackio.Table(dataframe=pd.DataFrame(results.rows, columns=list(results.columns)))
        pictures = {name: self._trackio.Image(_picture(figure)) for name, figure in results.figures.items()}
        with _quiet():
            self._run.log({"validation_table": table, **pictures, **results.summary}, step=self._step)

    def finish(self, *, is_good: bool) -> None:
        with _quiet():
            self._trackio.finish()  # the run's own method would be called, and heard, once more at the exit


OTHERS: dict[str, tuple[Callable[[Sheet], Tracker], str]] = {
    "tensorboard": (TensorBoardTracker, "tensorboard"),
    "mlflow": (MlflowTracker, "mlflow"),
    "trackio": (TrackioTracker, "trackio"),
}


def start_other(kind: str, sheet: Sheet) -> Tracker:
    """TensorBoard, MLflow or trackio. Raises UserError where it is not installed."""
    # None of them is to report home how it is used.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "true")
    started, module = OTHERS[kind]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"tracking.trackers: {kind} is not installed (pip install 'vwmm[{kind}]')") from error
    return started(sheet)


def _picture(figure: "Figure") -> Any:
    """A figure as an image of PIL's."""
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, bbox_inches="tight")
    stream.seek(0)
    return Image.open(stream)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a tracker prints about itself is not the run's output."""
    import logging

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
