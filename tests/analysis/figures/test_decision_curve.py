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

    curve = decision_curve(is_class, scores, np.array([0.1, 0.2, 0.5, 0.95]))

    # At 0.2 two true and two false positives, each of these worth a quarter; at 0.1 all five are acted on.
    assert curve.model == pytest.approx([(2 - 3 / 9) / 5, (2 - 2 * 0.25) / 5, (1 - 1) / 5, 0])
    assert curve.everybody == pytest.approx([(2 - 3 / 9) / 5, (2 - 3 * 0.25) / 5, (2 - 3) / 5, (2 - 3 * 19) / 5])


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
