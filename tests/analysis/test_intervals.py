"""Intervals against published numbers, scikit-learn and simulation."""

import time

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from vwmm.analysis.intervals import (
    accuracy_interval,
    auroc_of,
    balanced_accuracy_of,
    bootstrap_interval,
    macro_auroc_of,
    mean_of,
)
from vwmm.analysis.metrics import macro_auroc


def drawn_cases(generator: np.random.Generator, num_resamples: int, num_cases: int) -> np.ndarray:
    """(R, N) float64: how often each case was drawn."""
    return generator.multinomial(num_cases, np.full(num_cases, 1 / num_cases), size=num_resamples).astype(np.float64)


def test_one_case_per_patient_has_the_wilson_interval() -> None:
    correct = np.arange(60) < 57

    interval = accuracy_interval(correct, np.arange(60))

    # Worked out from Wilson's formula with z = 1.959964: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n).
    z, n, p = 1.959964, 60, 0.95
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert interval == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert interval == pytest.approx((0.863, 0.983), abs=5e-4)


def test_repeated_cases_of_a_patient_widen_the_interval_instead_of_narrowing_it() -> None:
    correct = np.random.default_rng(0).random(40) < 0.7
    patients = np.arange(40)

    once = accuracy_interval(correct, patients)
    four_times = accuracy_interval(np.repeat(correct, 4), np.repeat(patients, 4))
    as_if_independent = accuracy_interval(np.repeat(correct, 4), np.arange(160))

    assert once is not None
    assert four_times is not None
    assert as_if_independent is not None
    assert np.diff(four_times) == pytest.approx(np.diff(once), rel=0.15)
    assert np.diff(as_if_independent) < 0.6 * np.diff(four_times)


def test_all_right_still_has_a_width() -> None:
    interval = accuracy_interval(np.ones(20, dtype=bool), np.repeat(np.arange(10), 2))

    assert interval == pytest.approx(accuracy_interval(np.ones(10, dtype=bool), np.arange(10)))
    assert interval is not None
    assert interval.low == pytest.approx(0.722, abs=1e-3)
    assert interval.high == 1.0


def test_no_cases_have_no_interval() -> None:
    assert accuracy_interval(np.zeros(0, dtype=bool), np.zeros(0)) is None
    assert bootstrap_interval(mean_of(np.zeros(0)), np.zeros(0)) is None


def test_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=200)

    interval = bootstrap_interval(mean_of(values), np.arange(200), num_resamples=4000)

    expected = values.mean() + np.array([-1.96, 1.96]) * values.std() / np.sqrt(200)
    assert interval == pytest.approx(expected, abs=0.012)


def test_ranked_auroc_agrees_with_sklearn_with_ties_and_weights() -> None:
    generator = np.random.default_rng(0)
    is_positive = generator.random(80) < 0.4
    scores = np.round(generator.random(80) + 0.3 * is_positive, 1)  # many ties
    weights = drawn_cases(generator, 20, 80)

    areas = auroc_of(is_positive, scores)(weights)

    expected = [roc_auc_score(is_positive, scores, sample_weight=row) for row in weights]
    assert areas == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_statistics_of_the_cohort_itself_are_the_metrics(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % num_classes
    probabilities = generator.dirichlet(np.ones(num_classes), size=60)
    predicted = probabilities.argmax(axis=1)
    once = np.ones((1, 60))

    assert macro_auroc_of(labels, probabilities)(once)[0] == pytest.approx(macro_auroc(labels, probabilities))
    assert balanced_accuracy_of(labels, predicted)(once)[0] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_an_interval_is_undefined_where_a_class_is_too_rare_or_nothing_varies() -> None:
    labels = np.array([0] * 30 + [1])
    scores = np.random.default_rng(0).random(31)

    assert bootstrap_interval(auroc_of(labels == 1, scores), np.arange(31)) is None
    assert bootstrap_interval(balanced_accuracy_of(labels, labels), np.arange(31)) is None
    assert bootstrap_interval(auroc_of(np.arange(40) >= 20, np.arange(40.0)), np.arange(40)) is None
    assert bootstrap_interval(mean_of(np.arange(5.0)), np.zeros(5)) is None


def test_the_interval_is_repeatable_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    statistic = mean_of(np.random.default_rng(0).normal(size=30))
    patients = np.arange(30) // 2

    whole = bootstrap_interval(statistic, patients)
    monkeypatch.setattr("vwmm.analysis.intervals.CHUNK_NUMBERS", 30 * 7)
    in_chunks = bootstrap_interval(statistic, patients)

    assert whole == pytest.approx(in_chunks, abs=1e-12)
    assert whole != bootstrap_interval(statistic, patients, seed=1)


def test_the_intervals_of_120_cases_take_less_than_3_s() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    probabilities = generator.dirichlet(np.ones(3), size=120)

    start = time.process_time()
    assert bootstrap_interval(macro_auroc_of(labels, probabilities), np.arange(120)) is not None
    assert bootstrap_interval(balanced_accuracy_of(labels, probabilities.argmax(axis=1)), np.arange(120)) is not None

    assert time.process_time() - start < 3
