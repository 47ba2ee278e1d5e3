"""Exact Shapley values: what each image of a case adds to the probabilities that the model gives.

The model answers for every choice of the M images as if the others were missing; that takes one pass of each branch and
2^M of the head. The value of a modality is the mean of what it adds, over all orders in which the images can be shown
(Shapley 1953, "A value for n-person games"). The values of a case add up to the probability with all images minus that
with none. An image that a case does not have adds exactly 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# With more the head would run more than 256 times a case.
MAX_MODALITIES = 8


@dataclass(frozen=True)
class Shapley:
    """Of N cases, M modalities and K classes."""

    values: np.ndarray
    """(N, M, K) float64: what each image adds to the probability of each class."""
    without_images: np.ndarray
    """(N, K) float64: the probabilities without any image, where the values start from."""


def subsets(num_modalities: int) -> list[list[bool]]:
    """All 2^M choices of M modalities; number s shows modality m where bit m of s is set, so the last one shows all."""
    return [[bool(number >> m & 1) for m in range(num_modalities)] for number in range(1 << num_modalities)]


def shapley_values(answers: np.ndarray) -> np.ndarray:
    """(N, M, ...) float64 from the answers to the choices in the order of `subsets`, (N, 2^M, ...)."""
    num_modalities = answers.shape[1].bit_length() - 1
    assert answers.shape[1] == 1 << num_modalities, f"expected (N, 2^M, ...), got {answers.shape}"
    values = np.zeros((len(answers), num_modalities, *answers.shape[2:]))
    for number in range(answers.shape[1]):
        size = number.bit_count()
        for m in range(num_modalities):
            if not number >> m & 1:  # the share of the orders that show exactly these images before this one
                share = 1 / (num_modalities * math.comb(num_modalities - 1, size))
                values[:, m] += share * (answers[:, number | 1 << m] - answers[:, number])
    return values


# A modality that adds less than this share of what all add together is hardly used.
_HARDLY = 0.05


def describe_means(means: Mapping[str, float]) -> str:
    """In words, what each modality adds to the true class's probability; empty for one modality."""
    if len(means) < 2:
        return ""
    values = ", ".join(f"{name} {value:+.3f}" for name, value in means.items())
    return f"On average over the validation cases, the images add to the probability of the true class: {values}."


def hardly_used(means: Mapping[str, float]) -> str:
    """A sentence on modalities that the others keep from being used; empty if there are none.

    Where all together add less than 0.1 the model has not learned enough to judge.
    """
    total = sum(max(value, 0.0) for value in means.values())
    few = [name for name, value in means.items() if value < _HARDLY * total]
    if total < 0.1 or len(means) < 2 or not few:
        return ""
    which = " and ".join(few)
    return (
        f"The model hardly uses {which}: less than {100 * _HARDLY:g} % of what all images add. Either the other images "
        "tell more (`vwmm compare`), or they were learned first and keep it from being learned: model.modality_dropout "
        "may help"
    )
