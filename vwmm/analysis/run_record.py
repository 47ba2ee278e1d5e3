"""Reads a run folder into one record for the pages; absent or broken files become notes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from vwmm.analysis.statistics.metrics import METRICS
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions, read_predictions, read_written_table
from vwmm.config.run_digests import altered_files, altered_notes
from vwmm.config.run_folder import RunFolder
from vwmm.config.split_record import SplitRecord

TRAIN_COLUMNS = ("epoch", "step", "loss")


def unimodal_columns() -> tuple[str, ...]:
    """What metrics.jsonl has of one modality by itself."""
    return ("epoch", "loss", *METRICS, "cases")


def validation_columns() -> tuple[str, ...]:
    """What metrics.jsonl has of a validation."""
    return ("epoch", "step", "loss", *METRICS, "cases", "train_loss", "lr")


@dataclass(frozen=True)
class History:
    """The course of a training; NaN stands for a value that does not exist."""

    train: pd.DataFrame
    """A row per logged step: `TRAIN_COLUMNS` and `epochs_done`, the step as a number of epochs; float64."""
    validation: pd.DataFrame
    """A row per epoch: `validation_columns`; float64."""
    best_epoch: int | None
    """The epoch of the best checkpoint, counted from 1."""
    unimodal: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By modality, of its predictions by itself: a row per epoch, `unimodal_columns`; float64."""
    shapley: Mapping[str, float] = field(default_factory=dict)
    """By modality, what it adds to the true class's probability, the mean over the cases of the best epoch."""


@dataclass(frozen=True)
class RunRecord:
    """All that the report is made from."""

    name: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    status: Mapping[str, Any]
    classes: list[str]
    modalities: list[str]
    history: History
    split_table: pd.DataFrame | None
    """A row per case: `case`, `patient`, `label`, `split`; None without a split.csv."""
    presence: pd.DataFrame
    """(N, M) bool, in the split table's order."""
    predictions: RecordedPredictions | None
    """None where there is no predictions_val.csv."""
    split: SplitRecord | None
    """The origin of the split; None in runs of versions that did not record it."""
    notes: list[str]
    """Notes on absent or unreadable files, for the reader."""


def read_run(run: Path, *, status: Mapping[str, Any] | None = None) -> RunRecord:
    """Reads a run folder (docs/run_folder.md); a missing or broken file becomes a note.

    status: instead of what status.json holds.
    """
    notes: list[str] = []
    config = _mapping(run / "config.yaml", yaml.safe_load, notes)
    environment = _mapping(run / "environment.json", json.loads, notes)
    status = _mapping(run / "status.json", json.loads, notes) if status is None else status
    notes += altered_notes(RunFolder(run), status)
    split_table = _table(run / "split.csv", notes)
    predicted = _table(run / "predictions_val.csv", notes)
    if "predictions_val.csv" in altered_files(RunFolder(run), status):
        predicted = None  # no number of theirs is shown
    classes = _classes(environment, predicted, split_table)
    modalities = _modalities(environment, config, split_table)
    return RunRecord(
        name=run.resolve().name,
        config=config,
        environment=environment,
        status=status,
        classes=classes,
        modalities=modalities,
        history=read_history(run / "metrics.jsonl", config=config, status=status, notes=notes),
        split_table=split_table,
        presence=_presence(split_table, modalities),
        predictions=None if predicted is None else read_predictions(predicted, classes, modalities, notes),
        split=SplitRecord.of_json(environment.get("split")),
        notes=notes,
    )


def read_history(path: Path, *, config: Mapping[str, Any], status: Mapping[str, Any], notes: list[str]) -> History:
    """The events of metrics.jsonl; a line that is not JSON, as a kill may leave one, is counted in `notes`."""
    events: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    num_unreadable = 0
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            event = json.loads(line)
            events.setdefault(event["event"], []).append(event)
        except (ValueError, KeyError, TypeError):
            num_unreadable += bool(line.strip())
    if num_unreadable:
        notes.append(f"metrics.jsonl has {num_unreadable} incomplete line{'s' if num_unreadable > 1 else ''}.")
    validation = _numbers(events["validation"], validation_columns())
    train = _numbers(events["train"], TRAIN_COLUMNS)
    train["epochs_done"] = _epochs_done(train, validation)
    best = _best_epoch(validation, config, status)
    return History(train, validation, best, _unimodal(events["validation"]), _shapley(events["validation"], best))


def _unimodal(events: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        alone = event.get("unimodal")
        for name, scores in alone.items() if isinstance(alone, dict) else ():
            if isinstance(scores, dict):
                rows.setdefault(name, []).append({**scores, "epoch": event.get("epoch")})
    return {name: _numbers(found, unimodal_columns()) for name, found in rows.items()}


def _shapley(events: list[dict[str, Any]], best_epoch: int | None) -> dict[str, float]:
    found = next((event.get("shapley") for event in events[::-1] if event.get("epoch") == best_epoch), None)
    values = found if isinstance(found, dict) else {}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def setting(config: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key, or None where the configuration has none."""
    node: Any = config
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _numbers(events: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    rows = [[event.get(column) for column in columns] for event in events]
    table = pd.DataFrame(rows, columns=list(columns)).apply(pd.to_numeric, errors="coerce").astype(np.float64)
    return table.where(np.isfinite(table))


def _epochs_done(train: pd.DataFrame, validation: pd.DataFrame) -> pd.Series:
    """Steps as epochs: the last validation gives the steps per epoch; before it, the steps seen so far do."""
    ends = validation.dropna(subset=["epoch", "step"])
    ends = ends if len(ends) else train.dropna(subset=["epoch", "step"])
    if not len(ends) or not ends["epoch"].iloc[-1]:
        return train["epoch"]
    steps_per_epoch = ends["step"].iloc[-1] / ends["epoch"].iloc[-1]
    return train["step"] / steps_per_epoch if steps_per_epoch else train["epoch"]


def _best_epoch(validation: pd.DataFrame, config: Mapping[str, Any], status: Mapping[str, Any]) -> int | None:
    """The epoch that status.json names, else the best `train.monitor`, by the rule that keeps the best checkpoint.

    The rule: the first epoch, then each that is better than the best so far.
    """
    if isinstance(status.get("best_epoch"), int):
        return int(status["best_epoch"])
    monitor = setting(config, "train.monitor") or "loss"
    best_epoch, best = None, np.nan
    if monitor not in validation_columns():
        return None
    for epoch, value in validation.dropna(subset=["epoch"])[["epoch", monitor]].to_numpy():
        gain = best - value if monitor == "loss" else value - best
        if best_epoch is None or gain > 0 or (np.isnan(best) and not np.isnan(value)):
            best_epoch, best = int(epoch), value
    return best_epoch


def _mapping(path: Path, parse: Callable[[str], Any], notes: list[str]) -> Mapping[str, Any]:
    try:
        content = parse(path.read_text("utf-8"))
    except FileNotFoundError:
        content = None
    except (OSError, ValueError, yaml.YAMLError):
        notes.append(f"{path.name} could not be read.")
        return {}
    return content if isinstance(content, Mapping) else {}


def _table(path: Path, notes: list[str]) -> pd.DataFrame | None:
    try:
        return read_written_table(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        notes.append(f"{path.name} could not be read.")
        return None


def _classes(
    environment: Mapping[str, Any], predicted: pd.DataFrame | None, split_table: pd.DataFrame | None
) -> list[str]:
    """From environment.json, else the columns `p_...` right after `predicted`, else the labels found."""
    if environment.get("classes"):
        return [str(name) for name in environment["classes"]]
    if predicted is not None and "predicted" in predicted:
        names: list[str] = []
        for column in predicted.columns[list(predicted.columns).index("predicted") + 1 :]:
            if not column.startswith("p_"):
                break
            names.append(column.removeprefix("p_"))
        return names
    return sorted(set(split_table["label"])) if split_table is not None and "label" in split_table else []


def _modalities(
    environment: Mapping[str, Any], config: Mapping[str, Any], split_table: pd.DataFrame | None
) -> list[str]:
    named = environment.get("modalities") or list(setting(config, "modalities") or {})
    columns = [] if split_table is None else [str(column) for column in split_table.columns]
    hashed = [column.removeprefix("hash_") for column in columns if column.startswith("hash_")]
    return [str(name) for name in named] or hashed


def _presence(split_table: pd.DataFrame | None, modalities: list[str]) -> pd.DataFrame:
    if split_table is None:
        return pd.DataFrame(index=range(0))
    return pd.DataFrame({name: split_table[f"hash_{name}"] != "" for name in modalities if f"hash_{name}" in
                         split_table}, index=split_table.index)  # fmt: skip
