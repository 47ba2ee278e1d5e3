"""The model's predictions, and the table written from them, one row per case.

`recorded_predictions.py` reads the table. Two records, because neither holds the other: the table has no logits, whose
losses go beyond the 744 nats of the least probability of float64, and of a table that was read only the rows with a
known class and finite probabilities count.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vwmm.analysis.statistics.metrics import classification_metrics, mean_loss
from vwmm.system.csv_cells import csv_text


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
