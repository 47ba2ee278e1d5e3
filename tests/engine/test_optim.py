"""Learning rate and optimizer."""

from itertools import pairwise

import pytest
import torch

from vwmm.config.schema import Train
from vwmm.engine.optim import build_optimizer, learning_rate


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate(step, 10, Train(lr=0.1)) for step in range(1, 11)} == {0.1}


def test_warm_up_rises_linearly_and_a_cosine_ends_at_zero() -> None:
    train = Train(lr=0.1, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(step, 20, train) for step in range(1, 21)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.001
    assert learning_rate(1, 1, Train(lr=0.1, schedule="cosine")) == 0.1


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimizer_asked_for_is_built_with_its_settings(name: str, kind: type) -> None:
    train = Train.model_validate({"optimizer": name, "lr": 0.3, "weight_decay": 0.01, "momentum": 0.8})
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(2))], train)
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.3
    assert optimizer.defaults["weight_decay"] == 0.01
    assert optimizer.defaults.get("momentum", 0.8) == 0.8
