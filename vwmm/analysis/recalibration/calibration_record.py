"""calibration.json: the validation cases' probabilities, and what was fitted on them, with the checkpoint's hash.

No name of a case or patient is in it: patients are numbers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vwmm.analysis.recalibration.operating_point import DEFAULT, OperatingPoint, fit_operating_point
from vwmm.analysis.recalibration.temperature import fit_temperature
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

FORMAT = 1


@dataclass(frozen=True)
class CalibrationRecord:
    """What was fitted on validation cases, and these."""

    weights_xxh3: str
    """Hash of the checkpoint's model.safetensors."""
    classes: tuple[str, ...]
    labels: np.ndarray
    """(N,) int64."""
    probabilities: np.ndarray
    """(N, K) float64."""
    patients: np.ndarray
    """(N,) int64, numbers without a meaning."""
    temperature: float | None
    no_temperature: str = ""
    """Why there is no temperature."""

    def operating_point(self, kind: str) -> tuple[OperatingPoint | None, str]:
        """That of two classes, or None and why there is none."""
        if len(self.classes) != 2:
            return None, f"an operating point needs two classes, and there are {len(self.classes)}"
        return fit_operating_point(self.labels == 1, self.probabilities[:, 1], kind)

    def fitted_on(self) -> dict[str, Any]:
        """What it is from, for a reader."""
        return {"cases": len(self.labels), "patients": len(np.unique(self.patients)), "of": "validation"}

    def to_json(self) -> str:
        """The content of calibration.json."""
        point, reason = self.operating_point(DEFAULT)
        threshold = {"no_threshold": reason} if point is None else {"threshold": point.threshold}
        content = {
            "format": FORMAT,
            "weights_xxh3": self.weights_xxh3,
            "fitted_on": self.fitted_on(),
            "classes": list(self.classes),
            "temperature": self.temperature,
            **({"no_temperature": self.no_temperature} if self.no_temperature else {}),
            "operating_point": {"kind": DEFAULT} | threshold,
            "validation": {
                "patients": self.patients.tolist(),
                "labels": self.labels.tolist(),
                "probabilities": self.probabilities.tolist(),
            },
        }
        return json.dumps(content) + "\n"


def fit_record(predictions: RecordedPredictions, classes: Sequence[str], weights_xxh3: str) -> CalibrationRecord:
    """The record of a run's validation cases."""
    temperature, reason = fit_temperature(predictions.labels, predictions.probabilities)
    patients = np.unique(predictions.patients, return_inverse=True)[1]
    return CalibrationRecord(
        weights_xxh3, tuple(classes), predictions.labels, predictions.probabilities, patients, temperature, reason
    )


def read_record(path: Path, weights_xxh3: str, classes: Sequence[str]) -> tuple[CalibrationRecord | None, str]:
    """A run's record, or None and why it cannot be used."""
    again = "`vwmm report RUN` writes it"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return None, f"{path.name} is of another version of vwmm; {again}"
        if content["weights_xxh3"] != weights_xxh3 or content["classes"] != list(classes):
            return None, f"{path.name} belongs to another checkpoint; {again}"
        cases = content["validation"]
        record = CalibrationRecord(
            weights_xxh3,
            tuple(classes),
            np.array(cases["labels"], dtype=np.int64),
            np.array(cases["probabilities"], dtype=np.float64),
            np.array(cases["patients"], dtype=np.int64),
            None if content["temperature"] is None else float(content["temperature"]),
            str(content.get("no_temperature", "")),
        )
    except FileNotFoundError:
        return None, f"{path.name} is not there (the run is of an older version); {again}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{path.name} cannot be read ({type(error).__name__}); {again}"
    n, k = len(record.labels), len(classes)
    is_whole = record.probabilities.shape == (n, k) and record.patients.shape == (n,) and n > 0
    if (
        not is_whole
        or not np.isfinite(record.probabilities).all()
        or not (record.labels >= 0).all()
        or (record.labels >= k).any()
    ):
        return None, f"{path.name} is damaged; {again}"
    return record, ""
