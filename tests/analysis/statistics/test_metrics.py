"""Metrics against scikit-learn and numbers worked out by hand."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score, roc_curve

from vwmm.analysis.statistics.metrics import (
    balanced_accuracy,
    class_ranks,
    classification_metrics,
    confusion_matrix,
    macro_auroc,
    mean_loss,
    roc_curves,
)
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.recorded_predictions import read_predictions
from vwmm.analysis.statistics.results import overall


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, K) rows that add up to 1."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.divide(exponents, exponents.sum(axis=1, keepdims=True))


def test_two_classes_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    score = np.array([0.1, 0.4, 0.6, 0.35, 0.8])

    result = classification_metrics(labels, np.stack([1 - score, score], axis=1))

    # Right: 0.1, 0.4 and 0.8; recalls 2/3 and 1/2; of six pairs, 0.35 beats one and 0.8 beats three.
    assert result == {
        "accuracy": pytest.approx(3 / 5),
        "balanced_accuracy": pytest.approx((2 / 3 + 1 / 2) / 2),
        "auroc": pytest.approx(4 / 6),
    }


@pytest.mark.parametrize("num_classes", [3, 20])
def test_many_classes_agree_with_sklearn(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(100) % num_classes
    probabilities = softmax(generator.normal(size=(100, num_classes)) + np.eye(num_classes)[labels])

    result = classification_metrics(labels, probabilities)

    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert result["auroc"] == pytest.approx(expected, abs=1e-12)
    assert result["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, probabilities.argmax(axis=1)), abs=1e-12
    )


def test_ties_go_to_the_first_maximum() -> None:
    assert classification_metrics(np.array([0, 1]), np.full((2, 2), 0.5))["accuracy"] == 0.5


def test_a_class_that_does_not_occur_leaves_auroc_undefined_and_recall_over_the_others() -> None:
    labels = np.array([0, 0, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = classification_metrics(labels, probabilities)

    assert result["auroc"] is None
    assert result["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_no_cases_and_one_class_only_are_undefined_without_a_warning(num_classes: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = classification_metrics(np.zeros(0, dtype=np.int64), np.zeros((0, num_classes)))
        same = classification_metrics(np.ones(4, dtype=np.int64), np.full((4, num_classes), 1 / num_classes))

    assert set(empty) == {"accuracy", "balanced_accuracy", "auroc"}
    assert set(empty.values()) == {None}
    assert same["auroc"] is None
    assert same["accuracy"] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_have_no_auroc(bad: float) -> None:
    probabilities = np.array([[0.5, 0.5], [0.1, bad]])

    assert classification_metrics(np.array([0, 1]), probabilities)["auroc"] is None
    assert roc_curves(np.array([0, 1]), probabilities) == []


def test_half_precision_rows_still_have_an_auroc() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(30, 3))).astype(np.float16).astype(np.float64)

    assert macro_auroc(np.arange(30) % 3, probabilities) is not None


def test_mean_loss_has_the_same_bits_in_any_order() -> None:
    generator = np.random.default_rng(0)
    losses = generator.lognormal(sigma=8, size=997)

    shuffled = {mean_loss(generator.permutation(losses)) for _ in range(20)}

    assert len(shuffled) == 1
    assert mean_loss(np.array([1e16, 1.0, -1e16])) == pytest.approx(1 / 3)
    assert mean_loss(np.zeros(0)) is None
    assert mean_loss(np.array([1.0, np.inf])) == np.inf


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 3)

    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_roc_curves_skip_a_class_without_cases() -> None:
    labels = np.array([0, 0, 2, 2])
    probabilities = np.array([[0.7, 0.1, 0.2], [0.4, 0.1, 0.5], [0.3, 0.1, 0.6], [0.1, 0.1, 0.8]])

    curves = roc_curves(labels, probabilities)

    assert [curve.label for curve in curves] == [0, 2]
    assert [curve.auroc for curve in curves] == [1.0, 1.0]
    assert (curves[0].false_positive_rate[0], curves[0].true_positive_rate[-1]) == (0.0, 1.0)


def test_a_modality_alone_is_measured_on_the_cases_that_have_it() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], dtype=np.float32)
    predictions = Predictions(
        cases=["a", "b", "c"], patients=["a", "b", "c"], labels=np.array([0, 1, 1]), logits=logits,
        present=np.array([[True, False], [True, True], [False, True]]), classes=["x", "y"], modalities=["ct", "mri"],
        of_subsets=np.stack([np.zeros_like(logits), logits, logits, logits], axis=1),
    )  # fmt: skip
    alone = predictions.unimodal_metrics()
    assert [(name, scores["cases"], scores["accuracy"]) for name, scores in alone.items()] == [
        ("ct", 2, 1.0), ("mri", 2, 0.5),
    ]  # fmt: skip
    assert predictions.metrics()["cases"] == 3


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_numbers_of_saturated_predictions_are_the_same_from_logits_and_from_the_table(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % num_classes
    logits = (30 * generator.normal(size=(60, num_classes)) + 45 * np.eye(num_classes)[labels]).astype(np.float32)
    names, classes = [str(n) for n in range(60)], [f"class{k}" for k in range(num_classes)]
    predictions = Predictions(names, names, labels, logits, np.ones((60, 1), dtype=bool), classes, ["ct"])
    table = pd.read_csv(io.StringIO(predictions.to_csv()), dtype=str, keep_default_na=False)

    read = read_predictions(table, classes, ["ct"], [])

    assert read is not None
    assert (read.probabilities == 1.0).sum() > 10
    others = np.stack([np.delete(logits, k, axis=1).astype(np.float64) for k in range(num_classes)], axis=1)
    by_logit = logits - np.log(np.exp(others - others.max(axis=2, keepdims=True)).sum(axis=2)) - others.max(axis=2)
    judged = [1] if num_classes == 2 else range(num_classes)
    expected = np.mean([roc_auc_score(labels == k, by_logit[:, k]) for k in judged])
    assert overall(read)["auroc"].value == pytest.approx(expected, abs=1e-12)
    for name in ("loss", "accuracy", "balanced_accuracy", "auroc"):
        assert overall(read)[name].value == pytest.approx(predictions.metrics()[name], abs=1e-12), name


@pytest.mark.parametrize("seed", range(30))
def test_values_are_those_of_sklearn_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_cases, num_classes = int(rng.integers(8, 200)), int(rng.integers(2, 5))
    labels = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, num_cases - num_classes)])
    # Few different values, so that cases are tied.
    scores = rng.integers(1, [4, 50, 10**6][seed % 3], (num_cases, num_classes)).astype(np.float64)
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    ranks = class_ranks(probabilities)

    for curve in roc_curves(labels, probabilities):
        false_positive, true_positive, _ = roc_curve(labels == curve.label, ranks[:, curve.label])
        assert curve.false_positive_rate.tobytes() == false_positive.tobytes()
        assert curve.true_positive_rate.tobytes() == true_positive.tobytes()
        assert curve.auroc == roc_auc_score(labels == curve.label, ranks[:, curve.label])
    assert balanced_accuracy(labels, probabilities) == recall_score(
        labels, probabilities.argmax(axis=1), labels=np.unique(labels), average="macro", zero_division=0
    )
