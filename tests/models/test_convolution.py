"""Convolutions in bf16 on a CPU."""

import pytest
import torch
from torch import nn

from vwmm.models.convolution import multiply_in_float32_on_cpu

# (kind, channels, kernel, stride, size): of 3D convolutions with these two, oneDNN gets the bf16 gradients wrong.
SHAPES = [
    (nn.Conv3d, 32, 3, 1, (2, 2, 2)),
    (nn.Conv3d, 16, 3, 1, (2, 4, 4)),
    (nn.Conv2d, 16, 3, 2, (2, 2)),
]


@pytest.mark.parametrize("as_weights", [False, True], ids=["autocast", "weights in bf16"])
@pytest.mark.parametrize(("kind", "channels", "kernel", "stride", "size"), SHAPES)
def test_gradient_in_bf16_is_that_of_float32(
    kind: type[nn.Conv2d | nn.Conv3d], channels: int, kernel: int, stride: int, size: tuple[int, ...], as_weights: bool
) -> None:
    torch.manual_seed(0)
    layer = kind(channels, 8, kernel, stride, kernel // 2)
    x = torch.randn(2, channels, *size)
    layer(x).square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    assert expected is not None
    network = nn.Sequential(layer)
    multiply_in_float32_on_cpu(network)
    if as_weights:
        network.bfloat16()

    for _ in range(5):
        layer.weight.grad = None
        fill_free_memory_with_nan()
        with torch.autocast("cpu", torch.bfloat16, enabled=not as_weights):
            computed = network(x.bfloat16() if as_weights else x)
        fill_free_memory_with_nan()
        computed.float().square().sum().backward()

        assert computed.dtype == torch.bfloat16
        assert layer.weight.grad is not None
        wrong = (layer.weight.grad.float() - expected).norm() / expected.norm()
        assert wrong < 2e-2


def test_float32_and_other_layers_stay_as_they_are() -> None:
    layers = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Linear(4, 2))
    names = list(layers.state_dict())
    x = torch.randn(1, 1, 4, 4, 4)
    expected = layers[0](x)

    multiply_in_float32_on_cpu(layers)

    assert list(layers.state_dict()) == names
    assert torch.equal(layers[0](x), expected)
    assert type(layers[1]) is nn.Linear


def fill_free_memory_with_nan() -> None:
    """What a convolution does not write then shows."""
    _ = [torch.full((n,), float("nan")) for n in (64, 256, 1024, 4096, 10_000, 27_648, 50_000, 200_000)]
