"""Errors among the surest cases."""

import numpy as np
import pandas as pd

from tests.analysis.pictures import text_of
from vwmm.analysis.figures.risk_coverage import risk_coverage, risk_coverage_plot
from vwmm.analysis.figures.style import to_svg
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions


def predictions_of(labels: np.ndarray, positive: np.ndarray) -> RecordedPredictions:
    names = np.arange(len(labels)).astype(str)
    return RecordedPredictions(
        labels, np.stack([1 - positive, positive], axis=1), names, pd.DataFrame({"ct": np.ones(len(labels), bool)})
    )


def test_the_surest_cases_come_first_and_equally_sure_ones_together() -> None:
    positive = np.concatenate([np.full(40, 0.9), np.full(60, 0.2)])
    labels = np.concatenate([np.ones(36, int), np.zeros(4, int), np.ones(12, int), np.zeros(48, int)])

    first, last = risk_coverage(predictions_of(labels, positive))

    assert (first.coverage, first.confidence, first.wrong.right, first.wrong.n) == (0.4, 0.9, 4, 40)
    assert (last.coverage, last.confidence, last.wrong.right, last.wrong.n) == (1.0, 0.8, 16, 100)
    assert first.wrong.limits.method == "Wilson"


def test_probabilities_that_have_become_1_keep_their_order() -> None:
    far = np.linspace(40, 80, 20)
    others = np.exp(-far)
    labels = (far > 60).astype(int)  # the surer half is right
    predictions = predictions_of(labels, np.ones(20))
    predictions = RecordedPredictions(
        labels, np.stack([others, 1 - others], axis=1), predictions.patients, predictions.present
    )

    found = risk_coverage(predictions)

    assert [round(one.coverage, 1) for one in found] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert [one.wrong.right for one in found] == [0, 0, 0, 0, 0, 2, 4, 6, 8, 10]


def test_a_single_case_is_drawn() -> None:
    assert "Risk and coverage (N = 1 cases)" in text_of(
        to_svg(risk_coverage_plot(predictions_of(np.array([1]), np.array([0.7]))))
    )
