"""Differences of two models against independent computations, and at their edges."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from vwmm.analysis.comparison.paired_tests import (
    DIFFERENCES,
    accuracy_difference,
    auroc_difference,
    balanced_accuracy_difference,
    brier_difference,
    exchange_p,
    holm,
)


def two_models(
    counts: tuple[int, ...], *, seed: int = 0, shifts: tuple[float, float] = (1.5, 0.5)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities of two models whose errors go together, and patients with one case each."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    truth, common = np.eye(len(counts))[labels], generator.normal(size=(len(labels), len(counts)))
    found = []
    for shift in shifts:
        powers = np.exp(shift * truth + 0.7 * common + 0.7 * generator.normal(size=common.shape))
        found.append(powers / powers.sum(axis=1, keepdims=True))
    return labels, found[0], found[1], np.arange(len(labels))


def delong_error(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """DeLong's standard error of the difference, pair by pair, as the paper has it."""
    wins = []
    for scores in (a, b):
        positives, negatives = scores[labels == 1], scores[labels == 0]
        wins.append(np.array([[(p > n) + 0.5 * (p == n) for n in negatives] for p in positives], dtype=float))
    of_positives = np.cov([won.mean(axis=1) for won in wins])
    of_negatives = np.cov([won.mean(axis=0) for won in wins])
    both = of_positives / wins[0].shape[0] + of_negatives / wins[0].shape[1]
    return float(np.sqrt(both[0, 0] + both[1, 1] - 2 * both[0, 1]))


@pytest.mark.parametrize("counts", [(12, 18), (5, 45)])
def test_auroc_difference_has_delongs_error_and_welchs_p(counts: tuple[int, int]) -> None:
    labels, a, b, patients = two_models(counts)

    found = auroc_difference(labels, a, b, patients)

    expected = roc_auc_score(labels, a[:, 1]) - roc_auc_score(labels, b[:, 1])
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.error == pytest.approx(delong_error(labels, a[:, 1], b[:, 1]), rel=1e-9)
    terms = []
    for is_class in (labels == 1, labels == 0):
        others = ~is_class
        won = [
            np.array([((s > t) + 0.5 * (s == t)).mean() for s, t in ((v, scores[others]) for v in scores[is_class])])
            for scores in (a[:, 1], b[:, 1])
        ]
        terms.append(won[0] - won[1])
    welch = stats.ttest_ind(terms[0], -terms[1], equal_var=False)  # Welch's degrees of freedom for these two means
    assert found.p == pytest.approx(2 * stats.t.sf(abs(expected) / found.error, welch.df), rel=1e-9)
    assert found.limits.interval is not None
    low, high = found.limits.interval
    half = stats.t.ppf(0.975, welch.df) * found.error
    assert low <= max(-1, expected - half) + 1e-12
    assert high >= min(1, expected + half) - 1e-12


def test_auroc_difference_of_three_classes_is_that_of_the_mean_areas() -> None:
    labels, a, b, patients = two_models((20, 20, 20))

    found = auroc_difference(labels, a, b, patients)

    areas = [[roc_auc_score(labels == k, scores[:, k]) for k in range(3)] for scores in (a, b)]
    assert found.value == pytest.approx(np.mean(areas[0]) - np.mean(areas[1]), abs=1e-3)  # ranks of logits, not of p
    assert found.p is not None
    assert 0 < found.p < 0.05


def test_a_case_twice_is_no_further_evidence() -> None:
    labels, a, b, patients = two_models((12, 18))
    doubled = [np.repeat(array, 2, axis=0) for array in (labels, a, b, patients)]

    for name in ("auroc", "brier"):
        once, twice = DIFFERENCES[name](labels, a, b, patients), DIFFERENCES[name](*doubled)
        assert twice.value == pytest.approx(once.value)
        assert twice.error == pytest.approx(once.error, rel=1e-9)


def test_accuracy_difference_is_tested_by_exact_mcnemar() -> None:
    labels, a, b, patients = two_models((40, 40), seed=3)
    hits = [scores.argmax(axis=1) == labels for scores in (a, b)]
    better, worse = int((hits[0] & ~hits[1]).sum()), int((~hits[0] & hits[1]).sum())

    found = accuracy_difference(labels, a, b, patients)

    p = sum(stats.binom.pmf(k, better + worse, 0.5) for k in range(min(better, worse) + 1)) * 2
    assert found.test == "exact McNemar"
    assert found.value == pytest.approx((better - worse) / 80)
    assert found.p == pytest.approx(min(1.0, p))


def test_exchange_test_is_that_of_all_exchanges() -> None:
    changes = np.array([0.3, -0.1, 0.25, 0.4, 0.15, 0.05, -0.2, 0.35, 0.0])
    sums = [abs(np.dot(signs, changes)) for signs in itertools.product((-1, 1), repeat=len(changes))]
    exact = np.mean(np.array(sums) >= abs(changes.sum()) - 1e-12)

    assert exchange_p(changes) == pytest.approx(exact, abs=0.012)  # three standard errors of 9,999 draws
    assert exchange_p(np.zeros(5)) == 1.0


def test_balanced_accuracy_difference_weighs_the_classes_alike() -> None:
    labels, a, b, patients = two_models((10, 40), seed=5)

    found = balanced_accuracy_difference(labels, a, b, patients)

    hits = [scores.argmax(axis=1) == labels for scores in (a, b)]
    means = [(hit[:10].mean() + hit[10:].mean()) / 2 for hit in hits]
    assert found.value == pytest.approx(means[0] - means[1])
    weights = np.where(labels == 0, 1 / 20, 1 / 80)
    assert found.p == exchange_p(weights * (hits[0].astype(float) - hits[1]))


def test_brier_difference_is_positive_where_the_first_is_better() -> None:
    labels, a, b, patients = two_models((40, 40), shifts=(3.0, 0.0))

    found = brier_difference(labels, a, b, patients)

    expected = brier_score_loss(labels, b[:, 1]) - brier_score_loss(labels, a[:, 1])
    assert found.value == pytest.approx(expected)
    assert found.p is not None
    assert found.p < 0.01
    assert found.limits.interval is not None
    assert found.limits.interval.low > 0


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_model_and_itself_differ_by_nothing(name: str) -> None:
    labels, a, _, patients = two_models((20, 20))

    found = DIFFERENCES[name](labels, a, a, patients)

    assert found.value == 0
    assert found.p in (1.0, None)
    if found.limits.interval is not None:
        low, high = found.limits.interval
        assert low <= 0 <= high


@pytest.mark.parametrize("name", DIFFERENCES)
def test_models_are_compared_the_same_either_way_round(name: str) -> None:
    labels, a, b, patients = two_models((15, 25), seed=7)

    one, other = DIFFERENCES[name](labels, a, b, patients), DIFFERENCES[name](labels, b, a, patients)

    assert one.value is not None
    assert other.value is not None
    assert one.value == pytest.approx(-other.value)
    assert one.p == pytest.approx(other.p, abs=2e-3)


def test_two_perfect_models_have_an_interval_that_is_not_zero_wide() -> None:
    labels = np.repeat([0, 1], 20)
    perfect = np.stack([1 - labels, labels], axis=1) * 0.8 + 0.1

    found = auroc_difference(labels, perfect, perfect, np.arange(40))

    assert found.p == 1.0
    assert found.limits.interval is not None
    low, high = found.limits.interval
    assert low < -0.01
    assert high > 0.01


@pytest.mark.parametrize("name", DIFFERENCES)
@pytest.mark.parametrize("counts", [(1, 1), (0, 6), (3, 4)])
def test_too_few_patients_have_a_reason_and_no_interval(name: str, counts: tuple[int, int]) -> None:
    labels, a, b, patients = two_models(counts)

    found = DIFFERENCES[name](labels, a, b, patients)

    assert (found.p, found.limits.interval) == (None, None)
    assert found.limits.reason


def test_holm_multiplies_the_smallest_by_their_number() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("name", DIFFERENCES)
def test_patients_with_cases_of_both_classes_are_compared(name: str) -> None:
    labels, a, b, _ = two_models((20, 20))
    both = np.concatenate([np.arange(20), np.arange(20)])  # each patient has one case of each class

    found = DIFFERENCES[name](labels, a, b, both)

    assert found.value is not None
    assert found.p is not None
    assert found.limits.interval is not None


def test_sums_that_are_zero_but_for_rounding_are_no_difference() -> None:
    changes = np.array([0.1, 0.2, 0.3, -0.1, -0.2, -0.3])  # other signs give sums nearer to 0 than this one
    assert changes.sum() != 0
    assert exchange_p(changes) == 1.0


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy"])
def test_equal_answers_of_forty_patients_do_not_prove_that_models_are_equal(name: str) -> None:
    labels, a, _, patients = two_models((20, 20))

    interval = DIFFERENCES[name](labels, a, a * 0.9 + 0.1 * a, patients).limits.interval

    n = 40 if name == "accuracy" else 20
    assert interval is not None
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / n))  # Clopper and Pearson: 0 of n
    assert interval.low == -interval.high
