"""Cross-entropy in parts against torch's own, and class weights against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from vwmm.models.losses import batch_weight, class_weights, pattern_weights, summed_cross_entropy
from vwmm.system.errors import UserError


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.25]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("parts", [[7], [2, 2, 3], [0, 7], [1] * 7])
def test_the_parts_of_a_batch_sum_to_torchs_mean(
    weights: list[float] | None, smoothing: float, parts: list[int]
) -> None:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 2])
    tensor = None if weights is None else torch.tensor(weights)
    expected = torch.nn.CrossEntropyLoss(weight=tensor, label_smoothing=smoothing)(logits, labels)

    pieces = zip(logits.split(parts), labels.split(parts), strict=True)
    summed = torch.stack([summed_cross_entropy(x, y, tensor, smoothing) for x, y in pieces]).sum()

    torch.testing.assert_close(summed / batch_weight(labels.tolist(), weights), expected)


def test_the_loss_is_computed_in_float32() -> None:
    logits = torch.randn(7, 3).bfloat16()

    assert summed_cross_entropy(logits, torch.zeros(7, dtype=torch.int64), None, 0.0).dtype == torch.float32


@pytest.mark.parametrize("counts", [[5, 5], [8, 1, 3], [1, 1, 1, 97]])
def test_balanced_weights_are_scikit_learns(counts: list[int]) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]

    found = class_weights("balanced", labels, len(counts))

    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    assert found == pytest.approx(expected.tolist())


def test_weights_are_those_given_or_none() -> None:
    assert class_weights(None, [0, 1], 2) is None
    assert class_weights([2.0, 0.5], [0, 1], 2) == [2.0, 0.5]


def test_a_wrong_number_of_weights_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"train\.class_weights has 2 numbers, but there are 3 classes"):
        class_weights([1.0, 2.0], [0, 1, 2], 3)


def test_a_class_without_a_training_case_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"train\.class_weights=balanced: a class has no training case"):
        class_weights("balanced", [0, 0], 2)


def test_each_combination_of_images_weighs_as_much_as_another_and_the_mean_is_1() -> None:
    present = np.array([[1, 1]] * 6 + [[1, 0]] * 3 + [[0, 1]], dtype=bool)
    found = pattern_weights("balanced", present)
    assert found is not None
    np.testing.assert_allclose([found[:6].sum(), found[6:9].sum(), found[9:].sum()], 10 / 3, rtol=1e-6)
    assert pattern_weights(None, present) is None


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.25]])
@pytest.mark.parametrize("parts", [[7], [2, 2, 3], [0, 7]])
def test_a_case_that_weighs_twice_is_as_good_as_the_case_twice(weights: list[float] | None, parts: list[int]) -> None:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    labels, of_cases = torch.tensor([0, 1, 2, 0, 0, 1, 2]), torch.tensor([1.0, 2, 1, 3, 1, 1, 1])
    tensor, times = None if weights is None else torch.tensor(weights), of_cases.long()
    expected = torch.nn.CrossEntropyLoss(weight=tensor)(
        logits.repeat_interleave(times, 0), labels.repeat_interleave(times, 0)
    )
    pieces = zip(logits.split(parts), labels.split(parts), of_cases.split(parts), strict=True)
    summed = torch.stack([summed_cross_entropy(x, y, tensor, 0.0, w) for x, y, w in pieces]).sum()
    torch.testing.assert_close(summed / batch_weight(labels.tolist(), weights, of_cases.numpy()), expected)
