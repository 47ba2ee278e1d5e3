"""Thresholds against scikit-learn's ROC curve."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from vwmm.analysis.recalibration.operating_point import at_point, check_kind, fit_operating_point, numbers_at
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("decimals", [1, 8])
def test_thresholds_are_the_best_of_the_roc_curve(seed: int, decimals: int) -> None:
    generator = np.random.default_rng(seed)
    is_class = generator.random(40) < 0.4
    scores = np.clip(0.3 * is_class + generator.random(40) * 0.7, 0, 1).round(decimals)
    false, true, thresholds = roc_curve(is_class, scores, drop_intermediate=False)

    youden, _ = fit_operating_point(is_class, scores, "youden")
    assert youden is not None
    assert youden.sensitivity + youden.specificity - 1 == pytest.approx((true - false).max())
    wanted, _ = fit_operating_point(is_class, scores, "sensitivity=0.9")
    assert wanted is not None
    assert wanted.threshold == thresholds[true >= 0.9 - 1e-12].max()
    assert wanted.sensitivity == np.mean(scores[is_class] >= wanted.threshold) >= 0.9
    specific, _ = fit_operating_point(is_class, scores, "specificity=1")
    assert specific is not None
    assert np.mean(scores[~is_class] < specific.threshold) == specific.specificity == 1.0
    assert specific.sensitivity == pytest.approx(true[false == 0].max())


def test_one_half_is_the_prediction_itself_and_one_class_has_no_point() -> None:
    scores = np.array([0.2, 0.5, 0.51, 0.9])
    probabilities = np.stack([1 - scores, scores], axis=1)
    point, _ = fit_operating_point(np.array([False, False, True, True]), scores, "0.5")
    assert point is not None
    assert at_point(probabilities, point).tolist() == probabilities.argmax(axis=1).tolist() == [0, 0, 1, 1]
    assert fit_operating_point(np.ones(4, bool), scores, "youden") == (None, "the validation cases are of one class")


def test_numbers_at_a_point_are_counted_on_the_cases_at_hand() -> None:
    labels, scores = np.array([0] * 20 + [1] * 20), np.concatenate([np.full(15, 0.1), np.full(25, 0.3)])
    point, _ = fit_operating_point(labels == 1, scores, "sensitivity=0.9")
    assert point is not None
    table = RecordedPredictions(
        labels, np.stack([1 - scores, scores], axis=1), np.arange(40).astype(str), pd.DataFrame(index=range(40))
    )
    found = numbers_at(table, point)
    assert (found["sensitivity"].right, found["specificity"].right, found["precision"].n) == (20, 15, 25)
    assert found["accuracy"].value == 35 / 40


@pytest.mark.parametrize("text", ["sensitivity", "sensitivity=90", "recall=0.9", "0.4", "specificity=0", "youden=1"])
def test_an_unknown_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.5, youden, sensitivity=0\.9 or specificity=0\.9"):
        check_kind(text)
