"""The predictions table, one row per case: written from the logits of a model, read back as probabilities.

Two records, because neither holds the other: the table has no logits, whose losses go beyond the 744 nats of the least
probability of float64, and of a table that was read only the rows with a known class and finite probabilities count.
"""

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.statistics.metrics import classification_metrics, mean_loss
from vwmm.system.csv_cells import as_meant, csv_text


class ScoredCases(ABC):
    """N cases, each with a probability of each of K classes."""

    probabilities: np.ndarray
    """(N, K) float64."""

    @property
    def predicted(self) -> np.ndarray:
        """(N,) int64: the first maximum of each row, as in `metrics.classification_metrics`."""
        return np.argmax(self.probabilities, axis=1)

    @abstractmethod
    def losses(self) -> np.ndarray:
        """(N,) float64, in nats: cross-entropy of each case, unweighted."""


@dataclass(frozen=True)
class Predictions(ScoredCases):
    """The model's predictions, in the cases' order."""

    cases: Sequence[str]
    """Names of the cases."""
    patients: Sequence[str]
    """Their patients."""
    labels: np.ndarray
    """(N,) int64, index of the class; -1 where there is no label."""
    logits: np.ndarray
    """(N, K) float32."""
    present: np.ndarray
    """(N, M) bool, which images there are."""
    classes: Sequence[str]
    """The K classes."""
    modalities: Sequence[str]
    """The M modalities."""
    extra: Sequence[Mapping[str, str]] = field(default=())
    """Further columns of each case."""
    unimodal: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(N, K) float32 by modality, the logits as if the other images were missing; empty if not requested."""

    @property
    def probabilities(self) -> np.ndarray:  # type: ignore[override]
        """(N, K) float64, the softmax of the logits."""
        return np.exp(self._log_probabilities())

    def losses(self) -> np.ndarray:
        """From the logits: exact beyond what a probability can hold."""
        return -self._log_probabilities()[np.arange(len(self.labels)), self.labels]

    def metrics(self) -> dict[str, float | int | None]:
        """Loss, accuracy, balanced accuracy and AUROC over the cases that have a label, each counted once."""
        known = self.labels >= 0
        scores: dict[str, float | int | None] = {"loss": mean_loss(self.losses()[known])}
        scores.update(classification_metrics(self.labels[known], self.probabilities[known]))
        return {**scores, "cases": int(known.sum())}

    def unimodal_metrics(self) -> dict[str, dict[str, float | int | None]]:
        """Of each modality by itself, over the cases that have its image."""
        found = {}
        for m, (name, logits) in enumerate(self.unimodal.items()):
            has_image = self.present[:, m]
            scores = replace(self, labels=np.where(has_image, self.labels, -1), logits=logits).metrics()
            if has_image.any():
                found[name] = scores
        return found

    def _log_probabilities(self) -> np.ndarray:
        logits = self.logits.astype(np.float64)
        logits = logits - logits.max(axis=1, keepdims=True)
        log_probabilities: np.ndarray = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_probabilities

    def to_csv(self) -> str:
        """`case,patient,label,predicted,p_<class>...,present_<modality>...` and the further columns."""
        further = list(self.extra[0]) if self.extra else []
        header = ["case", "patient", "label", "predicted"]
        header += [f"p_{name}" for name in self.classes] + [f"present_{name}" for name in self.modalities]
        rows: list[list[Any]] = [header + [name if name not in header else f"cohort_{name}" for name in further]]
        probabilities = self.probabilities
        for row, case in enumerate(self.cases):
            label = self.classes[self.labels[row]] if self.labels[row] >= 0 else ""
            predicted = self.classes[int(probabilities[row].argmax())]
            numbers = [repr(float(p)) for p in probabilities[row]] + [int(flag) for flag in self.present[row]]
            more = [self.extra[row].get(name, "") for name in further]
            rows.append([case, self.patients[row], label, predicted, *numbers, *more])
        return csv_text(rows)


@dataclass(frozen=True)
class RecordedPredictions(ScoredCases):
    """The rows of a predictions table for N cases, K classes and M modalities."""

    labels: np.ndarray
    """(N,) int64."""
    probabilities: np.ndarray
    """(N, K) float64."""
    patients: np.ndarray
    """(N,) str; only ever counted and grouped by, never shown."""
    present: pd.DataFrame
    """(N, M) bool, a column per modality."""

    def losses(self) -> np.ndarray:
        """Minus the logarithm of the true class's probability, at most 744 (float64's least)."""
        of_true_class = self.probabilities[np.arange(len(self.labels)), self.labels]
        return np.negative(np.log(np.clip(of_true_class, math.ulp(0.0), 1.0)))

    def part(self, chosen: np.ndarray) -> "RecordedPredictions":
        """Some of the cases; chosen: (N,) bool."""
        return RecordedPredictions(
            self.labels[chosen], self.probabilities[chosen], self.patients[chosen], self.present[chosen]
        )


def read_written_table(source: Path | io.StringIO) -> pd.DataFrame:
    """A CSV that vwmm wrote, as text; `NA` and `null` are names like any other. Raises OSError or ValueError."""
    table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8")
    return table.rename(columns=as_meant).map(as_meant)


def read_predictions(
    table: pd.DataFrame, classes: list[str], modalities: list[str], notes: list[str]
) -> RecordedPredictions | None:
    """The rows of a table, all text, that have a known class and finite probabilities; what is left out is noted."""
    absent = [name for name in ("patient", "label", *(f"p_{name}" for name in classes)) if name not in table]
    if absent or not classes:
        notes.append("predictions_val.csv lacks columns for the patient, the label or a class.")
        return None
    index = {name: number for number, name in enumerate(classes)}
    columns = [f"p_{name}" for name in classes]
    probabilities = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    usable = table["label"].isin(list(index)).to_numpy() & np.isfinite(probabilities).all(axis=1)
    if not usable.all():
        notes.append(
            f"predictions_val.csv: {int((~usable).sum())} of {len(table)} cases are left out, "
            "without a known class or without a finite probability."
        )
    kept = table[usable]
    flags = {name: kept[f"present_{name}"].isin(["1", "True", "true"]) for name in modalities
             if f"present_{name}" in kept}  # fmt: skip
    return RecordedPredictions(
        labels=kept["label"].map(index).to_numpy(dtype=np.int64),
        probabilities=probabilities[usable],
        patients=kept["patient"].to_numpy(dtype=str),
        present=pd.DataFrame(flags, index=kept.index),
    )
