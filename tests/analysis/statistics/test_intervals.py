"""Intervals against scipy, published values, a loop and simulation; at length: benchmarks/interval_coverage.py."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binomtest

from vwmm.analysis.statistics import bootstrap
from vwmm.analysis.statistics.auroc_intervals import auroc_limits, macro_auroc_limits
from vwmm.analysis.statistics.bootstrap import mean_limits
from vwmm.analysis.statistics.intervals import (
    LEVEL,
    Interval,
    Limits,
    Z,
    balanced_accuracy_limits,
    excess_limits,
    share_limits,
)
from vwmm.analysis.statistics.metrics import class_ranks

Limiter = Callable[[np.ndarray, np.ndarray, np.ndarray], Limits]
LIMITERS: dict[str, Limiter] = {
    "share": lambda labels, scores, patients: share_limits((scores > 0) == labels, patients),
    "balanced accuracy": lambda labels, scores, patients: balanced_accuracy_limits(labels, scores > 0, patients),
    "auroc": lambda labels, scores, patients: auroc_limits(labels == 1, scores, patients),
    "mean": lambda labels, scores, patients: mean_limits((expit(scores) - labels) ** 2, patients),
    "excess": lambda labels, scores, patients: excess_limits(expit(scores), labels == 1, patients),
}


def expit(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def binormal(num_negative: int, num_positive: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores; the area is 0.856, either class is right in 0.773."""
    labels = np.repeat([0, 1], [num_negative, num_positive])
    return labels, np.random.default_rng(seed).normal(size=len(labels)) + 0.75 * (2 * labels - 1)


def interval_of(limits: Limits) -> Interval:
    assert limits.interval is not None, limits.reason
    return limits.interval


@pytest.mark.parametrize(("right", "of"), [(57, 60), (60, 60), (0, 12), (1, 10), (500, 1000)])
def test_one_case_a_patient_has_the_wilson_interval_of_scipy(right: int, of: int) -> None:
    found = share_limits(np.arange(of) < right, np.arange(of))

    assert interval_of(found) == pytest.approx(binomtest(right, of).proportion_ci(method="wilson"), abs=1e-7)
    assert found.method == "Wilson"


def test_balanced_accuracy_of_5_of_5_and_40_of_45() -> None:
    labels = np.repeat([1, 0], [5, 45])
    predicted = np.concatenate([np.ones(5), np.zeros(40), np.ones(5)]).astype(np.int64)

    assert interval_of(balanced_accuracy_limits(labels, predicted, np.arange(50))) == pytest.approx(
        (0.719, 0.976), abs=5e-4
    )


def test_balanced_accuracy_of_equal_classes_reaches_as_high_as_wilsons_interval() -> None:
    labels = np.repeat([0, 1], 10)
    predicted = np.where(np.arange(20) % 10 < 8, labels, 1 - labels)  # 8 of 10 right in each

    low, high = interval_of(balanced_accuracy_limits(labels, predicted, np.arange(20)))

    assert high == pytest.approx(binomtest(16, 20).proportion_ci(method="wilson").high, abs=1e-6)
    assert low == pytest.approx(0.8 - np.hypot(0.8 - 0.4902, 0.8 - 0.4902) / 2, abs=1e-3)  # of MOVER; Wilson: 0.584


def test_a_perfect_auroc_of_10_and_10() -> None:
    found = auroc_limits(np.arange(20) >= 10, np.arange(20.0), np.arange(20))

    assert interval_of(found) == pytest.approx((0.800, 1.0), abs=5e-4)
    assert found.method == "Newcombe 5"


def test_an_auroc_and_its_complement_have_mirrored_intervals() -> None:
    labels, scores = binormal(12, 20)
    low, high = interval_of(auroc_limits(labels == 1, scores, np.arange(32)))

    assert interval_of(auroc_limits(labels == 1, -scores, np.arange(32))) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("name", LIMITERS)
def test_the_same_case_four_times_is_one_case(name: str) -> None:
    labels, scores = binormal(40, 60)
    once, patients = LIMITERS[name](labels, scores, np.arange(100)), np.arange(100)
    again = LIMITERS[name](np.repeat(labels, 4), np.repeat(scores, 4), np.repeat(patients, 4))

    assert interval_of(again) == pytest.approx(interval_of(once), abs=1e-6)


@pytest.mark.parametrize("name", LIMITERS)
def test_a_second_case_of_one_patient_changes_little(name: str) -> None:
    labels, scores = binormal(40, 70)
    once = interval_of(LIMITERS[name](labels, scores, np.arange(110)))
    more = [np.append(values, values[-1]) for values in (labels, scores, np.arange(110))]

    assert interval_of(LIMITERS[name](*more)) == pytest.approx(once, abs=0.012)


@pytest.mark.parametrize("name", LIMITERS)
def test_names_and_order_of_patients_change_nothing(name: str) -> None:
    labels, scores = binormal(100, 120)
    patients, order = np.arange(220) // 2, np.random.default_rng(1).permutation(220)
    names = np.array([f"p{n:03}" for n in patients])

    found = LIMITERS[name](labels[order], scores[order], names[order])

    assert interval_of(found) == pytest.approx(interval_of(LIMITERS[name](labels, scores, patients)), abs=1e-9)


def test_all_right_counts_patients_by_their_cases() -> None:
    equal = share_limits(np.ones(40, dtype=bool), np.repeat(np.arange(20), 2))
    one_large = share_limits(np.ones(40, dtype=bool), np.minimum(np.arange(40), 20))

    assert interval_of(equal) == pytest.approx(binomtest(20, 20).proportion_ci(method="wilson"), abs=1e-7)
    assert (one_large.interval, one_large.reason) == (None, "fewer than 10 patients, counted by their cases")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (share_limits(np.zeros(0, dtype=bool), np.zeros(0)), "no case"),
        (share_limits(np.arange(9) > 2, np.arange(9)), "fewer than 10 patients"),
        (share_limits(np.arange(90) > 20, np.arange(90) % 9), "fewer than 10 patients"),
        (
            auroc_limits(np.arange(40) < 4, np.arange(40.0), np.arange(40)),
            "fewer than 5 patients of a class, counted by their cases",
        ),
        (
            balanced_accuracy_limits(np.arange(40) // 36, np.zeros(40), np.arange(40)),
            "fewer than 5 patients of a class, counted by their cases",
        ),
        (mean_limits(np.linspace(0, 1, 19), np.arange(19)), "fewer than 20 patients"),
        (mean_limits(np.full(30, 0.25), np.arange(30)), "all cases have the same value"),
        (excess_limits(np.linspace(0, 1, 99), np.arange(99) > 9, np.arange(99)), "fewer than 100 patients"),
    ],
)
def test_where_an_interval_would_not_hold_there_is_a_reason_instead(limits: Limits, reason: str) -> None:
    assert (limits.interval, limits.reason, limits.method) == (None, reason, "")


def test_the_bootstrap_is_that_of_a_plain_loop() -> None:
    values = np.random.default_rng(1).beta(0.4, 2, size=60)
    patients = np.minimum(np.arange(60), 56)  # the last one has 4 cases
    sizes, sums = np.bincount(patients), np.bincount(patients, weights=values)

    ratios = []
    for drawn in bootstrap._whole(57, bootstrap.NUM_RESAMPLES, 0).astype(int):
        chosen = np.repeat(np.arange(57), drawn)
        mean = sums[chosen].sum() / sizes[chosen].sum()
        error = np.sqrt(((sums[chosen] - mean * sizes[chosen]) ** 2).sum()) / sizes[chosen].sum()
        ratios.append((mean - values.mean()) / error)
    error = np.sqrt(((sums - values.mean() * sizes) ** 2).sum()) / 60
    low, high = values.mean() - np.quantile(ratios, [0.975, 0.025]) * error

    assert interval_of(mean_limits(values, patients)) == pytest.approx((low, high), abs=1e-9)


def test_the_bootstrap_is_repeatable_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients = np.random.default_rng(0).beta(1, 3, size=60), np.arange(60) // 2

    whole = mean_limits(values, patients)
    monkeypatch.setattr("vwmm.analysis.statistics.bootstrap.CHUNK_NUMBERS", 30 * 7)
    in_chunks = mean_limits(values, patients)

    assert interval_of(whole) == pytest.approx(interval_of(in_chunks), abs=1e-12)
    assert whole != mean_limits(values, patients, seed=1)


def test_the_mean_area_of_two_classes_is_that_of_the_second_one() -> None:
    labels, scores = binormal(12, 20)
    ranks = class_ranks(np.stack([1 - expit(scores), expit(scores)], axis=1))

    found = macro_auroc_limits(labels, ranks, np.arange(32))

    assert interval_of(found) == pytest.approx(interval_of(auroc_limits(labels == 1, scores, np.arange(32))))


def test_the_mean_area_of_three_classes_is_surer_than_one_of_them() -> None:
    labels = np.arange(90) % 3
    logits = np.random.default_rng(0).normal(size=(90, 3)) + np.eye(3)[labels]
    ranks = class_ranks(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    single = [np.ptp(interval_of(auroc_limits(labels == k, ranks[:, k], np.arange(90)))) for k in range(3)]

    width = np.ptp(interval_of(macro_auroc_limits(labels, ranks, np.arange(90))))

    assert np.sqrt(1 / 3) * np.mean(single) < width < np.mean(single)  # the areas go together, though not wholly


@pytest.mark.parametrize(("name", "true"), [("balanced accuracy", 0.7734), ("auroc", 0.8556), ("share", 0.7734)])
def test_intervals_of_5_and_45_cases_cover_95_of_100_times(name: str, true: float) -> None:
    covered = 0
    for seed in range(400):
        labels, scores = binormal(45, 5, seed=seed)
        low, high = interval_of(LIMITERS[name](labels, scores, np.arange(50)))
        covered += low <= true <= high

    assert 0.92 < covered / 400 < 0.99  # the percentile bootstrap of balanced accuracy: 0.76


def test_quantile_of_the_normal_distribution_is_that_of_the_level() -> None:
    assert float(ndtri((1 + LEVEL) / 2)) == Z
