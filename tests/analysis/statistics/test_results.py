"""All numbers of a predictions table against scikit-learn, on random and degenerate tables."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import foldnorm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)

from vwmm.analysis.statistics.calibration import debiased_ece, group_numbers
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import by_class, overall, size_warnings


def table(labels: np.ndarray, probabilities: np.ndarray) -> RecordedPredictions:
    names = np.array([f"p{number}" for number in range(len(labels))])
    return RecordedPredictions(labels, probabilities, names, pd.DataFrame({"ct": np.ones(len(labels), bool)}))


def softmax(logits: np.ndarray) -> np.ndarray:
    parts = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n", [30, 300])
def test_numbers_of_two_classes_agree_with_sklearn(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=n)
    probabilities = softmax(generator.normal(size=(n, 2)) * 2 + 2 * np.eye(2)[labels])
    found, score = overall(table(labels, probabilities)), probabilities[:, 1]
    expected = {
        "accuracy": accuracy_score(labels, score > 0.5),
        "auroc": roc_auc_score(labels, score),
        "auprc": average_precision_score(labels, score),
        "loss": log_loss(labels, score),
        "brier": brier_score_loss(labels, score),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        assert (found[name].n, found[name].events) == (n, labels.sum())
    (_, false), (missed, true) = confusion_matrix(labels, score > 0.5)
    left = n - false - missed - true
    row = by_class(table(labels, probabilities), ["a", "b"])[1]
    assert row.precision.value == pytest.approx(true / (true + false), abs=1e-9)
    assert row.npv.value == pytest.approx(left / (left + missed), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_baseline_is_what_sklearn_finds_for_the_shares_of_the_classes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = (generator.random(80) < 0.3).astype(np.int64)
    found = overall(table(labels, softmax(generator.normal(size=(80, 2)))))
    share = labels.mean()
    assert found["accuracy"].baseline == pytest.approx(1 - share, abs=1e-12)
    assert found["auroc"].baseline == 0.5
    assert found["auprc"].baseline == pytest.approx(share, abs=1e-12)
    assert found["brier"].baseline == pytest.approx(share * (1 - share), abs=1e-12)
    assert found["loss"].baseline == pytest.approx(log_loss(labels, np.full(80, share)), abs=1e-12)
    assert found["mcc"].baseline is None


@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_the_debiased_ece_is_the_groups_gap_less_its_bias(sharpness: float) -> None:
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=500)
    hits, scores = generator.random(500) < 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-sharpness * logits))
    total, plain = 0.0, 0.0
    for group in np.unique(group_numbers(scores)):
        inside = group_numbers(scores) == group
        share, gap = hits[inside].mean(), abs(scores[inside].mean() - hits[inside].mean())
        error = np.sqrt(share * (1 - share) / inside.sum())
        expected = foldnorm.mean(gap / error, scale=error) if error else gap
        total += inside.mean() * (gap - (expected - gap))
        plain += inside.mean() * gap
    assert debiased_ece(scores, hits) == pytest.approx(max(0.0, total), abs=1e-9)
    assert total < plain


def test_the_debiased_ece_of_a_calibrated_model_is_much_nearer_to_0_than_the_plain_one() -> None:
    generator, values, plain = np.random.default_rng(1), list[float](), list[float]()
    for _ in range(200):
        scores = generator.random(200)
        hits = generator.random(200) < scores
        value, groups = debiased_ece(scores, hits), group_numbers(scores)
        assert value is not None
        values.append(value)
        plain.append(sum(abs((scores - hits)[groups == one].sum()) for one in np.unique(groups)) / 200)
    assert np.mean(plain) > 0.06
    assert np.mean(values) < 0.65 * np.mean(plain)


DEGENERATE = {
    "one case": (np.array([1]), np.array([[0.3, 0.7]])),
    "one class": (np.zeros(40, np.int64), np.full((40, 2), 0.5)),
    "constant scores": (np.arange(40) % 2, np.full((40, 2), 0.5)),
    "saturated": (np.arange(40) % 2, softmax(800.0 * (np.eye(2)[np.arange(40) % 2] - 0.5))),
    "saturated and wrong": (np.arange(40) % 2, softmax(4000.0 * (np.eye(2)[(np.arange(40) + 1) % 2] - 0.5))),
    "absent third class": (np.arange(40) % 2, softmax(np.eye(3)[np.arange(40) % 3])),
    "separated": (np.arange(40) // 20, np.stack([1 - np.linspace(0.1, 0.9, 40), np.linspace(0.1, 0.9, 40)], axis=1)),
    "no case": (np.zeros(0, np.int64), np.zeros((0, 2))),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_tables_have_finite_numbers_or_none_with_a_reason(name: str) -> None:
    labels, probabilities = DEGENERATE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = overall(table(labels, probabilities)) if len(labels) else {}
        rows = by_class(table(labels, probabilities), ["a", "b", "c"][: probabilities.shape[1]])
    numbers = list(found.values()) + [
        getattr(row, key) for row in rows for key in ("sensitivity", "specificity", "precision", "npv", "f1", "auprc")
    ]
    for number in numbers:
        assert number.value is None or np.isfinite(number.value)
        assert (number.value is None) == bool(number.no_value)
        assert number.value is None or number.limits.interval or number.limits.reason


def test_separation_has_no_slope_and_constant_scores_have_auroc_one_half() -> None:
    assert "perfectly separated" in overall(table(*DEGENERATE["separated"]))["calibration_slope"].no_value
    constant = overall(table(*DEGENERATE["constant scores"]))
    assert constant["auroc"].value == 0.5
    assert constant["calibration_intercept"].value == pytest.approx(0, abs=1e-9)
    assert overall(table(*DEGENERATE["saturated and wrong"]))["loss"].value == pytest.approx(744.44, abs=0.01)


def test_too_few_cases_of_a_class_are_warned_of() -> None:
    labels = np.array([0] * 120 + [1] * 5)
    found = size_warnings(table(labels, np.full((125, 3), 1 / 3)), ["a", "b", "c"])

    assert found[0] == "b: 5 patients only; its sensitivity cannot be told with any certainty."
    assert found[1] == "No case is c: what needs every class is not defined."
    enough = table(np.arange(300) % 2, np.full((300, 2), 0.5))
    assert size_warnings(enough, ["a", "b"]) == []
