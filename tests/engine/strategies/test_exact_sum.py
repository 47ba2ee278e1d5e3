"""A sum of gradients that does not depend on the order."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from vwmm.engine.strategies.exact_sum import ExactSum


def summed(slots: list[torch.Tensor]) -> torch.Tensor:
    parameters = [torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(5))]
    collected = ExactSum(parameters)
    for slot in slots:
        parameters[0].grad, parameters[1].grad = slot[:12].view(3, 4).clone(), slot[12:].clone()
        collected.take()
        assert parameters[0].grad is None
    collected.finish(len(slots))
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def slots_of(scale: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-12, 1, (4, 17), generator=generator)
    return list(torch.randn(4, 17, generator=generator) * 10.0**exponents * scale)


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_every_order_has_the_same_bits_and_the_true_sum(scale: float) -> None:
    slots = slots_of(scale)
    results = [summed(list(order)) for order in itertools.permutations(slots)]
    assert all(torch.equal(result, results[0]) for result in results)
    true = [math.fsum(float(slot[n]) for slot in slots) for n in range(17)]
    np.testing.assert_allclose(results[0].numpy(), np.array(true, dtype=np.float32), rtol=1.2e-7, atol=scale * 1e-14)


def test_a_plain_sum_does_depend_on_the_order() -> None:
    slots = list(torch.randn(4, 17, generator=torch.Generator().manual_seed(0)))
    plain = {tuple(functools.reduce(torch.add, order).tolist()) for order in itertools.permutations(slots)}
    assert len(plain) > 1  # else the test above would show nothing


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_in_the_sum(bad: float) -> None:
    slots = slots_of(1.0)
    slots[1][3] = bad
    assert not torch.isfinite(summed(slots)).any()


def test_zeros_and_a_slot_without_gradients_are_zeros() -> None:
    assert torch.equal(summed([torch.zeros(17), torch.zeros(17)]), torch.zeros(17))
    parameter = torch.nn.Parameter(torch.zeros(2))
    collected = ExactSum([parameter])
    collected.take()
    collected.finish(1)
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.zeros(2))
    parameter.grad = torch.ones(2)
    collected.take()
    collected.finish(1)
    assert torch.equal(parameter.grad, torch.ones(2))
    collected.finish(1)  # a process without a slot of its own in the next step
    assert torch.equal(parameter.grad, torch.zeros(2))
