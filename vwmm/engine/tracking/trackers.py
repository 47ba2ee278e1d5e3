"""Sends metrics to the trackers that the configuration names.

metrics.jsonl is the source. When a run starts, or starts again, a tracker first receives the steps it lacks, so that
none has a gap or a duplicate step, even after a crash; `vwmm sync` does the same for a run that does not start again.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from vwmm.analysis.statistics.metrics import METRICS
from vwmm.config.loading import PATH_KEYS
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.engine.console import LOG
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.tracking.base import Results, Row, RunInfo, Tracker
from vwmm.engine.tracking.metrics_file import read_records
from vwmm.engine.tracking.mlflow import MlflowTracker
from vwmm.engine.tracking.tensorboard import TensorBoardTracker
from vwmm.engine.tracking.trackio import TrackioTracker
from vwmm.engine.tracking.wandb import start_wandb
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

# By the name in `tracking.trackers`: what starts it. A missing library may raise ImportError.
TRACKERS: dict[str, Callable[[RunInfo], Tracker]] = {
    "wandb": start_wandb,
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
_OF_STEP = ("loss", "lr", "grad_norm", "cases_per_s")


def trackable_config(config: Config) -> dict[str, Any]:
    """The configuration without what holds a path: what a tracker may see."""
    values = config.model_dump(mode="json")
    for dotted in PATH_KEYS:
        section, key = dotted.split(".")
        values[section].pop(key, None)
    for modality in values["modalities"].values():
        modality.pop("folder", None)
    return values


def values_of(record: Mapping[str, Any]) -> Row:
    """A line of metrics.jsonl for a tracker: its step and its numbers, without nulls."""
    if record["event"] == "train":
        found = {f"train/{key}": record.get(key) for key in _OF_STEP}
    else:
        names = ("loss", *METRICS, "cases")
        found = {f"val/{key}": record.get(key) for key in names}
        for modality, scores in record.get("unimodal", {}).items():
            found |= {f"val/{modality}_unimodal/{key}": scores.get(key) for key in names}
    found["epoch"] = record.get("epoch")
    values = {key: value for key, value in found.items() if isinstance(value, int | float)}
    return int(record["step"]), values


class Trackers:
    """The trackers of this run; one that fails is disabled, and the run continues."""

    def __init__(self, run: RunFolder, trackers: Sequence[Tracker] = ()) -> None:
        self._run, self._trackers = run, list(trackers)
        # By tracker and event: the last step that it has from an earlier start. A step that is done again after a
        # kill has the same bits.
        self._last: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._trackers)

    def where(self) -> list[str]:
        """What each is and where a person finds it."""
        return [tracker.where for tracker in self._trackers]

    def log(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Lines of metrics.jsonl, as they are written."""
        self._each(lambda tracker: self._tell(tracker, records))

    def catch_up(self) -> None:
        """Tells each what it lacks of metrics.jsonl."""
        # Of a step that stands there twice the first counts; an epoch's line comes after its last step's.
        found: dict[tuple[str, int], Mapping[str, Any]] = {}
        for key, record, _ in read_records(self._run.metrics):
            found.setdefault(key, record)
        records = sorted(found.values(), key=lambda record: (record["step"], record["event"] != "train"))

        def tell(tracker: Tracker) -> None:
            self._last[id(tracker)] = {event: tracker.last_logged_step(event) for event in ("train", "validation")}
            self._tell(tracker, records)
            tracker.drop_superseded()

        self._each(tell)

    def show(self, results: Results) -> None:
        """The result."""
        self._each(lambda tracker: tracker.show(results))

    def finish(self, *, is_good: bool = True) -> None:
        """No more to come."""
        self._each(lambda tracker: tracker.finish(is_good=is_good))
        self._trackers.clear()

    def _tell(self, tracker: Tracker, records: Sequence[Mapping[str, Any]]) -> None:
        last = self._last.get(id(tracker), {})
        if rows := [values_of(record) for record in records if record["step"] > last.get(record["event"], 0)]:
            tracker.log(rows)

    def _each(self, tell: Any) -> None:
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # a tracker's library may raise anything; the run must continue
                why = (str(error).splitlines() or [repr(error)])[0]
                LOG.info("%s: %s; it is disabled; `vwmm sync %s` completes its log", tracker.name, why, self._run.path)
                self._trackers.remove(tracker)


@contextmanager
def start_trackers(runtime: Runtime, config: Config, run: RunFolder) -> Iterator[Trackers]:
    """The configured trackers, on the main process, with all earlier steps sent.

    Raises UserError on every process where one cannot be started as asked.
    """
    trackers = Trackers(run)

    def start() -> None:
        nonlocal trackers
        trackers = open_trackers(config, run)

    runtime.broadcast_from_main(start)
    for where in trackers.where():
        LOG.info("  tracking   %s", where)
    trackers.catch_up()
    try:
        yield trackers
    except BaseException:
        trackers.finish(is_good=False)
        raise
    trackers.finish()


def name_in_group(run: RunFolder, group: str | None) -> str:
    """The run's name; in a group the folders below the group's as well, such as `fusion/only_ct/fold-0`."""
    if group is None:
        return run.name
    parts = run.path.parts
    below = parts[len(parts) - parts[::-1].index(group) :] if group in parts else ()
    return "/".join([group, *(below or (run.name,))])


def open_trackers(config: Config, run: RunFolder) -> Trackers:
    """Starts the trackers asked for. Raises UserError with every one that cannot be started."""
    started, problems = list[Tracker](), list[Problem]()
    known = _identities(run)
    for kind in config.tracking.trackers:
        if kind == "wandb" and config.tracking.mode == "disabled":
            continue
        run_info = RunInfo(
            project=config.tracking.project,
            name=name_in_group(run, config.tracking.group),
            group=config.tracking.group,
            folder=run.path,
            config=trackable_config(config),
            mode=config.tracking.mode,
            known_id=known.get(f"{kind}_id"),
            keep_identity=partial(_remember, run, known, kind),
        )
        try:
            started.append(_start(kind, run_info))
        except UserError as error:
            problems += error.problems
            continue
        except Exception as error:  # its library may raise anything
            reason = (str(error).splitlines() or ["?"])[0]
            problems.append(Problem(f"{kind} cannot be started: {reason}", key="tracking.trackers"))
            continue
        run_info.keep_identity(started[-1].identity)
    if problems:
        Trackers(run, started).finish(is_good=False)
        raise UserError(problems)
    return Trackers(run, started)


def _start(kind: str, run_info: RunInfo) -> Tracker:
    """Raises UserError where it is not installed."""
    # None of them is to report home how it is used.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "true")
    try:
        return TRACKERS[kind](run_info)
    except ImportError as error:
        found = f"{kind} is not installed (pip install 'vwmm[{kind}]')"
        raise UserError(Problem(found, key="tracking.trackers")) from error


def _identities(run: RunFolder) -> dict[str, str]:
    """By which trackers know this run; of a copy of another run's folder none, since the entries are the other's."""
    try:
        found = json.loads(run.tracker.read_text())
        is_name = re.compile(r"[\w-]+").fullmatch
        known = {key: value for key, value in found.items() if isinstance(value, str) and is_name(value)}
    except (OSError, ValueError, AttributeError):
        return {}
    # A folder that was moved keeps its number, one that was brought back its path.
    if known.keys() & {"path", "folder"} and not known.items() & _place(run).items():
        LOG.info("%s is a copy of another run's folder: trackers get an entry of its own", run.path)
        return {}
    return known


def _place(run: RunFolder) -> dict[str, str]:
    path = str(run.path.resolve()).encode("utf-8", "surrogateescape")
    return {"path": hashlib.sha256(path).hexdigest()[:16], "folder": str(run.path.stat().st_ino)}


def _remember(run: RunFolder, known: dict[str, str], kind: str, identity: str) -> None:
    if identity and known.get(f"{kind}_id") != identity:
        known |= {f"{kind}_id": identity, **_place(run)}
        write_whole(run.tracker, json.dumps(known) + "\n")
