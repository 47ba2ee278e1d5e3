"""F1, Matthews' correlation and average precision against scikit-learn, and where they are not defined."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef

from vwmm.analysis.statistics.class_metrics import (
    average_precision,
    f1,
    f1_limits,
    macro_average_precision,
    macro_f1,
    matthews,
    matthews_limits,
)

RANDOM = [(n, k, seed) for n in (1, 2, 7, 60) for k in (2, 3, 5) for seed in range(15)]


def drawn(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes; of few cases often with absent ones."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(k, size=n)
    return labels, np.where(generator.random(n) < 0.6, labels, generator.integers(k, size=n))


@pytest.mark.parametrize(("n", "k", "seed"), RANDOM)
def test_values_agree_with_sklearn_and_are_none_where_it_puts_zero(n: int, k: int, seed: int) -> None:
    labels, predicted = drawn(n, k, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_sklearn = matthews_corrcoef(labels, predicted)
    value = matthews(labels, predicted, k)
    if len(set(labels)) == 1 or len(set(predicted)) == 1:
        assert value is None
    else:
        assert value == pytest.approx(of_sklearn, abs=1e-9)
    for label in range(k):
        of_class, called = labels == label, predicted == label
        if (of_class | called).any():
            assert f1(of_class, called) == pytest.approx(f1_score(of_class, called, zero_division=0), abs=1e-9)
        else:
            assert f1(of_class, called) is None
    if k > 2:  # scikit-learn averages over the classes that occur in either
        assert macro_f1(labels, predicted, k) == pytest.approx(
            f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-9
        )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_values", [1, 3, 1000])
def test_average_precision_agrees_with_sklearn_with_ties_too(seed: int, num_values: int) -> None:
    generator = np.random.default_rng(seed)
    is_class, ranks = generator.random(50) < 0.3, generator.integers(num_values, size=50)
    assert average_precision(is_class, ranks) == pytest.approx(average_precision_score(is_class, ranks), abs=1e-9)


def test_degenerate_input_is_none_or_exact() -> None:
    one, zero = np.ones(3, bool), np.zeros(3, bool)
    assert average_precision(zero, np.arange(3)) is None
    assert average_precision(one, np.zeros(3, int)) == 1.0
    assert f1(zero, zero) is None
    assert f1(one, zero) == 0.0
    assert macro_average_precision(np.array([0, 1]), np.zeros((2, 3), int)) is None
    assert matthews(np.array([0, 1]), np.array([1, 0]), 2) == -1.0


def test_f1_has_the_interval_of_the_share_that_it_rises_with() -> None:
    is_class, called = np.arange(40) < 30, (np.arange(40) >= 6) & (np.arange(40) < 34)
    limits = f1_limits(is_class, called, np.arange(40))
    # 24 of 34 are both: Wilson's interval of J = 0.7059 is 0.5383 to 0.8317 (R: prop.test without correction)
    low, high = 0.53831, 0.83168
    assert limits.interval == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)), abs=1e-4)
    assert f1_limits(is_class[:14], called[:14], np.arange(14)).reason == "fewer than 15 patients"


def test_matthews_interval_is_that_of_the_jackknife_and_absent_where_all_are_right() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 400)
    predicted = np.where(generator.random(1200) < 0.7, labels, generator.integers(3, size=1200))
    patients = np.arange(1200) // 2
    limits = matthews_limits(labels, predicted, patients, 3)
    whole = matthews(labels, predicted, 3)
    left_out = [matthews(labels[patients != one], predicted[patients != one], 3) for one in range(600)]
    deviations = np.array(left_out, float) - np.mean(np.array(left_out, float))
    error = np.sqrt(599 / 600 * (deviations @ deviations))
    assert limits.interval is not None
    assert whole is not None
    assert np.ptp(limits.interval) == pytest.approx(2 * 1.9639 * error, rel=0.02)
    assert matthews_limits(labels, labels, patients, 3).reason == "all cases right"
    assert "fewer than 20 patients" in matthews_limits(labels[:410], labels[:410], patients[:410], 3).reason
