"""Pooling with an ordered backward pass, against torch's."""

import pytest
import torch
from torch import nn

from vwmm.models.branch import build_branch
from vwmm.models.pooling import AvgPool3d, GlobalMean, MaxPool3d

PAIRS = {
    "max": (MaxPool3d(3, 2, 1), nn.MaxPool3d(3, 2, 1)),
    "mean of cubes": (AvgPool3d(2), nn.AvgPool3d(2, 2)),
    "mean of all": (GlobalMean(), nn.AdaptiveAvgPool3d(1)),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("size", [(8, 8, 8), (9, 7, 5), (2, 3, 4)])
def test_values_and_gradients_are_those_of_torch(kind: str, size: tuple[int, ...]) -> None:
    ours, theirs = PAIRS[kind]
    images = [torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    results = [layer(image) for layer, image in zip((ours, theirs), images, strict=True)]
    torch.testing.assert_close(*results, rtol=0, atol=0 if kind == "max" else 1e-6)
    weights = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(1))
    for result in results:
        (result * weights).sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad)


@pytest.mark.parametrize("backbone", ["densenet_thin", "densenet121", "resnet18"])
@pytest.mark.parametrize("dims", [2, 3])
def test_no_layer_without_a_deterministic_backward_pass_on_a_gpu_is_left(backbone: str, dims: int) -> None:
    branch, _ = build_branch(backbone, dims=dims)
    forbidden = (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
    assert not [layer for layer in branch.modules() if isinstance(layer, forbidden)]
