"""Net benefit by hand, and the lines beside it."""

import numpy as np
import pandas as pd
import pytest

from tests.analysis.pictures import text_of
from vwmm.analysis.figures.decision_curve import decision_curve, decision_plot
from vwmm.analysis.figures.style import to_svg
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions


def test_net_benefit_by_hand() -> None:
    is_class = np.array([True, True, False, False, False])
    scores = np.array([0.9, 0.2, 0.2, 0.6, 0.1])

    curve = decision_curve(is_class, scores, np.arange(5), np.array([0.1, 0.2, 0.5, 0.95]))

    # At 0.2 two true and two false positives, each of these worth a quarter; at 0.1 all five are acted on.
    assert curve.model == pytest.approx([(2 - 3 / 9) / 5, (2 - 2 * 0.25) / 5, (1 - 1) / 5, 0])
    assert curve.everybody == pytest.approx([(2 - 3 / 9) / 5, (2 - 3 * 0.25) / 5, (2 - 3) / 5, (2 - 3 * 19) / 5])


def test_the_interval_is_that_of_the_shares_of_true_and_false_positives() -> None:
    """40 true and no false positives of 100: Wilson's of 0.4 upwards; 20 of each may cancel."""
    scores = np.array([0.9] * 40 + [0.1] * 60)
    alone = decision_curve(scores > 0.5, scores, np.arange(100), np.array([0.5])).limits[0]
    both = decision_curve((scores > 0.5) & (np.arange(100) < 20), scores, np.arange(100), np.array([0.5])).limits[0]

    assert alone.interval is not None
    assert both.interval is not None
    assert alone.interval.high == pytest.approx(0.4980, abs=2e-4)  # Wilson's 0.3094 to 0.4980
    assert alone.interval.low == pytest.approx(0.4 - np.hypot(0.4 - 0.3094, 0.0370), abs=2e-4)  # 0 of 100: up to 0.037
    assert both.interval.low < 0 < both.interval.high
    assert decision_curve(scores[:9] > 0, scores[:9], np.arange(9)).limits[0].reason == "fewer than 10 patients"


@pytest.mark.parametrize("label", [0, 1])
def test_a_plot_of_one_class_alone_is_drawn(label: int) -> None:
    positive = np.linspace(0, 1, 12)
    table = pd.DataFrame({"ct": np.ones(12, bool)})
    labels = np.full(12, label)
    predictions = RecordedPredictions(
        labels, np.stack([1 - positive, positive], axis=1), np.arange(12).astype(str), table
    )

    words = text_of(to_svg(decision_plot(predictions, ["no", "yes"])))

    for text in ("Decision curve (N = 12 cases)", "act on all", "act on none", "threshold: probability of yes"):
        assert text in words
