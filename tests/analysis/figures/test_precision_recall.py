"""Precision over sensitivity: the curve of scikit-learn, and an interval for the area below it."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from vwmm.analysis.figures.precision_recall import precision_curves


def test_the_curve_and_its_area_are_those_of_sklearn() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    probabilities = generator.dirichlet(np.ones(3), size=60)

    curves = precision_curves(labels, probabilities, np.arange(60))

    assert [curve.label for curve in curves] == [0, 1, 2]
    for curve in curves:
        expected = average_precision_score(labels == curve.label, probabilities[:, curve.label])
        assert curve.average_precision == pytest.approx(expected)
        assert curve.share == pytest.approx(1 / 3)
        assert curve.limits.interval is not None
        assert curve.limits.interval.low < expected < curve.limits.interval.high
        assert (np.diff(curve.sensitivity) >= 0).all()


def test_the_interval_holds_the_true_value_in_95_of_100_cohorts_or_more() -> None:
    generator = np.random.default_rng(0)
    many = np.arange(200_000) % 3 == 0
    truth = average_precision_score(many, generator.normal(size=len(many)) + 1.3 * many)
    labels, held = (np.arange(60) % 3 == 0).astype(int), 0
    for _ in range(200):
        positive = 1 / (1 + np.exp(-(generator.normal(size=60) + 1.3 * labels)))
        (_, curve) = precision_curves(labels, np.stack([1 - positive, positive], axis=1), np.arange(60))
        assert curve.limits.interval is not None
        held += curve.limits.interval.low <= truth <= curve.limits.interval.high

    assert held >= 0.93 * 200


@pytest.mark.parametrize(("num_positive", "low"), [(9, None), (12, 0.758), (30, 0.886)])
def test_the_interval_of_a_perfect_order_is_that_of_wilson_or_has_a_reason(num_positive: int, low: float) -> None:
    labels = (np.arange(40) < num_positive).astype(int)
    positive = 0.2 + 0.5 * labels

    (_, curve) = precision_curves(labels, np.stack([1 - positive, positive], axis=1), np.arange(40))

    if low is None:
        assert (curve.limits.interval, curve.limits.reason) == (None, "fewer than 10 patients")
    else:
        assert curve.limits.interval == pytest.approx((low, 1.0), abs=5e-4)


def test_a_class_that_does_not_occur_has_no_curve() -> None:
    assert precision_curves(np.zeros(5, dtype=int), np.full((5, 2), 0.5), np.arange(5)) == []
