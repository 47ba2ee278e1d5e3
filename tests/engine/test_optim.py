"""Learning rate and optimizer."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from vwmm.config.schema import Train
from vwmm.engine.optim import build_optimizer, learning_rate, set_learning_rate


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate(step, 10, Train(lr=0.1)) for step in range(1, 11)} == {0.1}


def test_warm_up_rises_linearly_and_a_cosine_ends_at_zero() -> None:
    train = Train(lr=0.1, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(step, 20, train) for step in range(1, 21)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.001
    assert learning_rate(1, 1, Train(lr=0.1, schedule="cosine")) == 0.1


GRADIENTS = ([0.5, -2.0], [0.25, 1.0], [-1.0, 0.5])
LR, DECAY, MOMENTUM = 0.3, 0.1, 0.8


def by_the_textbook(name: str) -> list[float]:
    """Weights from (1, -1) after three updates. Sources: Kingma and Ba, 2015; Loshchilov and Hutter, 2019."""
    weights, first, second = np.array([1.0, -1.0]), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(map(np.array, GRADIENTS), start=1):
        if name == "adamw":
            weights = weights * (1 - LR * DECAY)
        else:
            gradient = gradient + DECAY * weights
        if name == "sgd":
            first = MOMENTUM * first + gradient
            weights = weights - LR * first
        else:
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            weights = weights - LR * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return list(weights)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_three_updates_follow_the_textbook(name: str) -> None:
    train = Train.model_validate({"optimizer": name, "lr": LR, "weight_decay": DECAY, "momentum": MOMENTUM})
    parameter = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    optimizer = build_optimizer([parameter], train)

    for gradient in GRADIENTS:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()

    assert parameter.tolist() == pytest.approx(by_the_textbook(name), rel=1e-5)


def test_a_rate_that_is_set_is_that_of_the_next_update() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer([parameter], Train(optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0))
    parameter.grad = torch.ones(1)

    set_learning_rate(optimizer, 0.25)
    optimizer.step()

    assert parameter.item() == -0.25
