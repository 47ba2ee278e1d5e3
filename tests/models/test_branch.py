"""Backbones: every one that the schema names, in two and three dimensions."""

from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from vwmm.config.schema import Config, Model
from vwmm.models.branch import build_branch
from vwmm.models.norm import single_valued_layers

BACKBONES = get_args(Model.model_fields["backbone"].annotation)
POOLED = {"densenet121": 1024, "densenet169": 1664, "densenet201": 1920, "densenet264": 2688, "densenet_thin": 32}
POOLED |= {"resnet10": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048}


@pytest.mark.parametrize(("dims", "norm"), [(3, "batch"), (2, "batch"), (2, "group")])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_a_vector_of_features(backbone: str, norm: str, dims: int) -> None:
    with torch.device("meta"):  # shapes only: no memory, no time
        network, features = build_branch(backbone, dims=dims, norm=norm)
        found = network(torch.zeros(2, 1, *[64] * dims))

    assert features == POOLED[backbone]
    assert tuple(found.shape) == (2, features)


@pytest.mark.parametrize(("dims", "millions"), [(2, 6.95), (3, 11.24)])
def test_densenet121_has_the_parameters_that_were_measured(dims: int, millions: float) -> None:
    with torch.device("meta"):
        network, _ = build_branch("densenet121", dims=dims)

    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_features_can_be_projected_to_another_number() -> None:
    network, features = build_branch("densenet_thin", dims=2, num_features=5)

    assert features == 5
    assert tuple(network(torch.zeros(2, 1, 32, 32)).shape) == (2, 5)


@pytest.mark.parametrize("backbone", ["densenet_thin", "resnet10"])
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_norms_of_a_single_image_do_not_see_the_others(backbone: str, norm: str) -> None:
    torch.manual_seed(0)
    network, _ = build_branch(backbone, dims=2, norm=norm)
    images = torch.randn(3, 1, 64, 64)

    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)
    assert not any("running_mean" in name for name, _ in network.named_buffers())


@pytest.mark.parametrize("backbone", ["densenet_thin", "resnet10"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 28, 29, 32, 60, 61, 64])
@pytest.mark.parametrize("cases", [1, 2])
def test_the_schema_refuses_the_sizes_that_the_networks_refuse(
    backbone: str, norm: str, length: int, cases: int
) -> None:
    """Measured by running them: the schema's rule may not forbid what works, nor allow what does not."""
    sections = {
        "modalities": {"image": {"dims": 2, "size": [length, length]}},
        "model": {"backbone": backbone, "norm": norm},
        "train": {"micro_batch_size": cases, "batch_size": 2},
    }
    try:
        Config.model_validate(sections)
        is_allowed = True
    except ValidationError:
        is_allowed = False

    with torch.device("meta"):
        network, _ = build_branch(backbone, dims=2, norm=norm)
        try:
            network(torch.zeros(cases, 1, length, length))
            # Of one value in each channel batch norm leaves nothing to be learned from.
            works = cases > 1 or not single_valued_layers(network, [length, length])
        except (ValueError, RuntimeError):
            works = False

    assert is_allowed == works
