"""calibration.json there and back, and what makes it unusable."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vwmm.analysis.recalibration.applied import apply_record, words_of_sets
from vwmm.analysis.recalibration.calibration_record import fit_record, read_record
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

CLASSES = ["no", "yes"]


def drawn(number: int, seed: int = 0) -> RecordedPredictions:
    """An overconfident model."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=number)
    score = 1 / (1 + np.exp(-3 * (generator.normal(size=number) + 1.5 * (labels - 0.5))))
    names = np.array([f"secret-{n}" for n in range(number)])
    return RecordedPredictions(labels, np.stack([1 - score, score], axis=1), names, pd.DataFrame(index=range(number)))


def test_what_is_read_is_what_was_fitted_and_names_nobody(tmp_path: Path) -> None:
    record = fit_record(drawn(100), CLASSES, "abc")
    path = tmp_path / "calibration.json"
    path.write_text(record.to_json())
    again, why = read_record(path, "abc", CLASSES)

    assert why == ""
    assert again is not None
    assert again.to_json() == record.to_json()
    assert "secret" not in path.read_text()
    assert json.loads(path.read_text())["temperature"] == record.temperature
    assert record.temperature is not None
    assert record.temperature > 1.5


@pytest.mark.parametrize(
    ("damage", "weights", "reason"),
    [
        (lambda content: content, "other", "belongs to another checkpoint"),
        (lambda content: content | {"format": 9}, "abc", "of another version"),
        (lambda content: content | {"classes": ["x", "y"]}, "abc", "belongs to another checkpoint"),
        (lambda content: {"format": 1}, "abc", "cannot be read"),
        (lambda content: content | {"validation": content["validation"] | {"labels": [5] * 100}}, "abc", "is damaged"),
        (lambda content: content | {"validation": content["validation"] | {"labels": [0]}}, "abc", "is damaged"),
        (lambda content: [], "abc", "cannot be read"),
    ],
)
def test_a_record_that_does_not_fit_is_not_used(damage: object, weights: str, reason: str, tmp_path: Path) -> None:
    assert callable(damage)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(damage(json.loads(fit_record(drawn(100), CLASSES, "abc").to_json()))))
    record, why = read_record(path, weights, CLASSES)
    assert record is None
    assert reason in why
    assert "`vwmm report RUN` writes it" in why
    assert "older version" in read_record(tmp_path / "absent", "abc", CLASSES)[1]


def test_on_other_cases_the_temperature_improves_the_loss_and_the_sets_cover() -> None:
    record, other = fit_record(drawn(400), CLASSES, "abc"), drawn(2000, seed=1)
    found = apply_record(other, record, "youden")

    raw = float(other.losses().mean())
    assert found.recalibrated["loss"].value is not None
    assert found.recalibrated["loss"].value < raw
    slope = found.recalibrated["calibration_slope"]
    assert slope.limits.interval is not None
    assert slope.limits.interval.low < 1 < slope.limits.interval.high
    assert found.point is not None
    assert found.at_point["sensitivity"].n == (other.labels == 1).sum()
    for one in found.sets:
        assert one.covered.value == pytest.approx(one.rule.level, abs=0.06)
        assert one.covered.limits.method == "Wilson"
    assert found.sets[0].mean_size < found.sets[2].mean_size
    assert words_of_sets(found.sets[0], CLASSES) == ""
    few = apply_record(other, fit_record(drawn(12), CLASSES, "abc"), "youden")
    assert "yes (" in words_of_sets(few.sets[5], CLASSES)
    assert few.no_temperature == "fewer than 20 validation cases"
