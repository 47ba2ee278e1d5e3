"""Rows that do not depend on each other."""

import torch

from vwmm.models.row_linear import RowLinear


def rows_that_differ(layer: torch.nn.Module) -> int:
    """How often a row's result depends on its place among four, of 60 random fours of 24 rows."""
    generator = torch.Generator().manual_seed(0)
    rows, differing = torch.randn(24, 64, generator=generator), 0
    seen: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for _ in range(60):
            chosen = torch.randperm(24, generator=generator)[:4]
            for index, result in zip(chosen.tolist(), layer(rows[chosen]), strict=True):
                differing += not torch.equal(seen.setdefault(index, result.clone()), result)
    return differing


def test_in_evaluation_a_row_is_the_same_in_any_place() -> None:
    assert rows_that_differ(RowLinear(64, 3).eval()) == 0


def test_in_training_it_is_the_linear_layer_of_torch() -> None:
    layer = RowLinear(64, 3).train()
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert layer.eval()(x[:0]).shape == (0, 3)
