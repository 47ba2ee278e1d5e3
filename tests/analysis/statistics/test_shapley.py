"""Shapley values against their definition, all orders one by one."""

import itertools

import numpy as np
import pytest

from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.shapley import describe_means, hardly_used, shapley_values, subsets


def by_all_orders(answers: np.ndarray, num_modalities: int) -> np.ndarray:
    """(N, M, K): the definition."""
    values = np.zeros((len(answers), num_modalities, *answers.shape[2:]))
    orders = list(itertools.permutations(range(num_modalities)))
    for order in orders:
        shown = 0
        for m in order:
            values[:, m] += answers[:, shown | 1 << m] - answers[:, shown]
            shown |= 1 << m
    return values / len(orders)


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 5])
def test_values_are_the_mean_over_all_orders_and_add_up(num_modalities: int) -> None:
    answers = np.random.default_rng(0).random((4, 1 << num_modalities, 3))

    values = shapley_values(answers)

    np.testing.assert_allclose(values, by_all_orders(answers, num_modalities), atol=1e-12)
    np.testing.assert_allclose(values.sum(axis=1), answers[:, -1] - answers[:, 0], atol=1e-12)


def test_choices_are_in_the_order_of_their_bits() -> None:
    assert subsets(2) == [[False, False], [True, False], [False, True], [True, True]]


def test_a_missing_image_adds_nothing_and_equal_images_add_the_same() -> None:
    alone = {"": 0.3, "a": 0.5, "b": 0.5, "ab": 0.9}
    with_absent = [alone[key] for key in ("", "a", "b", "ab")] * 2  # the third image is not there
    (values,) = shapley_values(np.array(with_absent)[None, :, None])[..., 0]
    np.testing.assert_allclose(values, [0.3, 0.3, 0.0])


def predictions(labels: list[int], of_subsets: np.ndarray | None) -> Predictions:
    names = [str(number) for number in range(len(labels))]
    logits = np.zeros((len(labels), 2), np.float32) if of_subsets is None else of_subsets[:, -1]
    return Predictions(
        names, names, np.array(labels), logits, np.ones((len(labels), 2), bool), ["x", "y"], ["mri", "ct"],
        of_subsets=of_subsets,
    )  # fmt: skip


def test_mean_over_cases_is_of_the_true_class_and_of_cases_with_a_label() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 4, 2)).astype(np.float32)
    table = predictions([1, -1, 0], logits)
    found = table.shapley()
    assert found is not None
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=-1, keepdims=True)
    values = by_all_orders(probabilities, 2)

    means = table.mean_shapley()

    np.testing.assert_allclose(found.values, values, atol=1e-12)
    np.testing.assert_allclose(found.without_images, probabilities[:, 0])
    assert means == {
        "mri": pytest.approx((values[0, 0, 1] + values[2, 0, 0]) / 2),
        "ct": pytest.approx((values[0, 1, 1] + values[2, 1, 0]) / 2),
    }
    assert predictions([1, -1, 0], None).mean_shapley() == {}
    assert predictions([1, -1, 0], None).shapley() is None


def test_a_modality_that_the_others_starve_is_named() -> None:
    assert hardly_used({"vw_mri": 0.6, "mri": 0.01, "ct": -0.02}).startswith(
        "The model hardly uses mri and ct: less than 5 %"
    )
    assert hardly_used({"vw_mri": 0.4, "mri": 0.1}) == ""
    assert hardly_used({"vw_mri": 0.05, "mri": 0.0}) == ""  # nothing was learned yet
    assert hardly_used({"vw_mri": 0.6}) == ""
    assert describe_means({"vw_mri": 0.6, "ct": -0.02}).endswith(
        "probability of the true class: vw_mri +0.600, ct -0.020."
    )
