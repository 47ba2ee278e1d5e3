"""Prediction sets hold the true class as often as promised."""

import numpy as np
import pytest

from vwmm.analysis.recalibration.prediction_sets import fit_sets, names_of_sets, sets_of


def test_the_threshold_is_the_rank_of_vovk_by_hand() -> None:
    """Nine patients at 90 %: the ninth of nine; at 80 % the eighth."""
    of_true = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    probabilities = np.stack([of_true, 1 - of_true], axis=1)
    labels, patients = np.zeros(9, int), np.arange(9)

    assert fit_sets(labels, probabilities, patients, 0.9, by_class=False).thresholds.tolist() == [0.1, 0.1]
    assert fit_sets(labels, probabilities, patients, 0.8, by_class=False).thresholds.tolist() == [0.2, 0.2]
    too_much = fit_sets(labels, probabilities, patients, 0.95, by_class=False)
    assert too_much.thresholds.tolist() == [0.0, 0.0]
    assert too_much.always(["a", "b"]) == ["a", "b"]


def test_a_class_with_too_few_patients_is_always_in_the_set() -> None:
    labels = np.array([0] * 30 + [1] * 8)
    probabilities = np.stack([np.where(labels == 0, 0.9, 0.2), np.where(labels == 0, 0.1, 0.8)], axis=1)
    rule = fit_sets(labels, probabilities, np.arange(38), 0.9, by_class=True)

    assert rule.always(["no", "yes"]) == ["yes"]
    assert rule.num_patients.tolist() == [30, 8]
    assert names_of_sets(np.array([[0.95, 0.05], [0.5, 0.5]]), rule, ["no", "yes"]) == ["no|yes", "yes"]
    absent = fit_sets(np.zeros(30, int), probabilities[:30], np.arange(30), 0.9, by_class=True)
    assert absent.always(["no", "yes"]) == ["yes"]


def test_a_patient_counts_once_by_the_least_probable_true_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])
    rule = fit_sets(np.zeros(3, int), probabilities, np.array([0, 0, 1]), 0.5, by_class=False)
    assert rule.num_patients.tolist() == [2, 2]
    assert rule.thresholds[0] == 0.3  # the second of two patients' 0.3 and 0.8


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("num_cases", [1, 3])
def test_new_patients_are_covered_as_promised(num_cases: int, by_class: bool) -> None:
    generator = np.random.default_rng(6)
    covered = np.zeros((2, 2))  # hits, cases of each class
    for _ in range(300):
        rare = generator.random(61) < 0.2
        labels = np.repeat(rare.astype(int), num_cases)
        patients = np.repeat(np.arange(61), num_cases)
        logits = generator.normal(size=61)[patients] + generator.normal(size=len(labels)) + 2 * labels
        score = 1 / (1 + np.exp(-logits))
        probabilities = np.stack([1 - score, score], axis=1)
        new = patients == 60
        rule = fit_sets(labels[~new], probabilities[~new], patients[~new], 0.8, by_class=by_class)
        hits = sets_of(probabilities[new], rule)[np.arange(num_cases), labels[new]]
        covered[0, labels[new][0]] += hits.all()
        covered[1, labels[new][0]] += 1
    error = 3 * np.sqrt(0.8 * 0.2 / covered[1])
    shares = covered[0] / covered[1]
    assert covered[0].sum() / 300 >= 0.8 - 3 * np.sqrt(0.16 / 300)
    if by_class:
        assert (shares >= 0.8 - error).all()
    if num_cases == 1 and not by_class:
        assert covered[0].sum() / 300 <= 0.8 + 1 / 61 + 3 * np.sqrt(0.16 / 300)
