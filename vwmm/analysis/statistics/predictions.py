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
from vwmm.analysis.statistics.shapley import Shapley, shapley_values
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


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(..., K) float64."""
    exact = logits.astype(np.float64)
    exact = exact - exact.max(axis=-1, keepdims=True)
    found: np.ndarray = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return found


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
    of_subsets: np.ndarray | None = None
    """(N, 2^M, K) float32, the logits as if only the images of `shapley.subsets` were there; None if not requested."""

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
        found = dict[str, dict[str, float | int | None]]()
        if self.of_subsets is None or len(self.modalities) < 2:
            return found
        for m, name in enumerate(self.modalities):
            logits = self.of_subsets[:, 1 << m]
            has_image = self.present[:, m]
            scores = replace(self, labels=np.where(has_image, self.labels, -1), logits=logits).metrics()
            if has_image.any():
                found[name] = scores
        return found

    def shapley(self) -> "Shapley | None":
        """What each image adds to the probabilities of each case; None if the subsets were not requested."""
        if self.of_subsets is None:
            return None
        probabilities = np.exp(log_softmax(self.of_subsets))  # (N, 2^M, K)
        return Shapley(shapley_values(probabilities), probabilities[:, 0])

    def with_shapley_columns(self) -> "Predictions":
        """With further columns of the table, the last ones: `without_images` and `shapley_<modality>`.

        They are of the predicted class and add up to its probability. Unchanged where the subsets were not requested.
        """
        found, rows = self.shapley(), np.arange(len(self.cases))
        if found is None:
            return self
        columns = {"without_images": found.without_images[rows, self.predicted]}
        of_predicted = found.values[rows, :, self.predicted]  # (N, M)
        columns |= {f"shapley_{name}": of_predicted[:, m] for m, name in enumerate(self.modalities)}
        before = self.extra or [{} for _ in self.cases]
        renamed = [{f"cohort_{key}" if key in columns else key: text for key, text in row.items()} for row in before]
        texts = [{key: repr(float(values[n])) for key, values in columns.items()} for n in rows]
        return replace(self, extra=[row | own for row, own in zip(renamed, texts, strict=True)])

    def of_true_class(self) -> np.ndarray | None:
        """(N', M) float64: what each image adds to the true class's probability, of the cases with a label."""
        known, found = np.flatnonzero(self.labels >= 0), self.shapley()
        return None if found is None else np.asarray(found.values[known, :, self.labels[known]])

    def mean_shapley(self) -> dict[str, float]:
        """By modality, the mean over the cases with a label of what it adds to the true class's probability."""
        of_truth = self.of_true_class()
        if of_truth is None or not len(of_truth):
            return {}
        return {name: float(of_truth[:, m].mean()) for m, name in enumerate(self.modalities)}

    def _log_probabilities(self) -> np.ndarray:
        return log_softmax(self.logits)

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
