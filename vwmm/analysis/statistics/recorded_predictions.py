"""A table of predictions that was read: a row per case, as probabilities."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vwmm.analysis.statistics.predictions import ScoredCases
from vwmm.system.csv_cells import as_meant

if TYPE_CHECKING:
    import pandas as pd  # half a second, which `vwmm predict` does not need


@dataclass(frozen=True)
class RecordedPredictions(ScoredCases):
    """The rows of a predictions table for N cases, K classes and M modalities."""

    labels: np.ndarray
    """(N,) int64."""
    probabilities: np.ndarray
    """(N, K) float64."""
    patients: np.ndarray
    """(N,) str; only ever counted and grouped by, never shown."""
    present: "pd.DataFrame"
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


def read_written_table(source: Path | io.StringIO) -> "pd.DataFrame":
    """A CSV that vwmm wrote, as text; `NA` and `null` are names like any other. Raises OSError or ValueError."""
    import pandas as pd

    table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8")
    return table.rename(columns=as_meant).map(as_meant)


def read_predictions(
    table: "pd.DataFrame", classes: list[str], modalities: list[str], notes: list[str]
) -> RecordedPredictions | None:
    """The rows of a table, all text, that have a known class and finite probabilities; what is left out is noted."""
    import pandas as pd

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
