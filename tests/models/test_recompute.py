"""Blocks that are computed again in the backward pass: the same bits, less memory."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from vwmm.models.branch import BACKBONES, build_branch
from vwmm.models.norm import MicroBatchNorm, groups_of
from vwmm.models.recompute import checkpoint_blocks


def trained(backbone: str, norm: str, shapes: list[tuple[int, int]], *, checkpointing: bool) -> dict[str, torch.Tensor]:
    """Output, gradients, statistics and their terms after a pass of four images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        branch, _ = build_branch(backbone, dims=2, num_features=3, norm=norm, checkpointing=checkpointing)
    groups = groups_of(branch)
    layers = [layer for layer in branch.modules() if isinstance(layer, MicroBatchNorm)]
    groups.terms = {
        layer.number: (torch.zeros(2 * layer.num_features), torch.zeros(2 * layer.num_features)) for layer in layers
    }
    groups.shapes = shapes
    images = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    output = branch.train()(images)
    output.square().sum().backward()
    found = {"output": output.detach(), **{name: buffer.clone() for name, buffer in branch.named_buffers()}}
    found |= {f"gradient of {name}": value.grad for name, value in branch.named_parameters() if value.grad is not None}
    return found | {f"term {number}": torch.cat(pair) for number, pair in groups.terms.items()}


@pytest.mark.parametrize("shapes", [[], [(2, 2)]], ids=["one micro-batch", "two"])
@pytest.mark.parametrize(
    ("backbone", "norm"), [("densenet_thin", "batch"), ("resnet10", "batch"), ("resnet18", "group")]
)
def test_result_has_the_same_bits(backbone: str, norm: str, shapes: list[tuple[int, int]]) -> None:
    """Running statistics included: each micro-batch is counted once."""
    plain, recomputed = (
        trained(backbone, norm, shapes, checkpointing=checkpointing) for checkpointing in (False, True)
    )

    assert plain.keys() == recomputed.keys()
    for name, value in plain.items():
        assert torch.equal(value, recomputed[name]), name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_keeps_less_for_the_backward_pass(backbone: str) -> None:
    kept = []
    for checkpointing in (False, True):
        with torch.device("meta"):
            branch, _ = build_branch(backbone, dims=2, checkpointing=checkpointing)
            images = torch.empty(2, 1, 64, 64)
        saved: list[int] = []

        def pack(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel() if not isinstance(tensor, nn.Parameter) else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            branch.train()(images)
        kept.append(sum(saved))
    assert kept[1] < 0.75 * kept[0]


def test_evaluation_copies_and_names_are_those_of_a_branch_without() -> None:
    plain, _ = build_branch("densenet_thin", dims=2)
    recomputing: Any
    recomputing, _ = build_branch("densenet_thin", dims=2, checkpointing=True)
    recomputing.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        assert torch.equal(plain.eval()(images), copy.deepcopy(recomputing).eval()(images))


def test_network_without_known_blocks_is_computed_again_as_a_whole() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    plain, images = copy.deepcopy(network), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    checkpoint_blocks(network)
    calls: list[int] = []
    network[0].register_forward_hook(lambda *_: calls.append(1))

    for one in (network, plain):
        one.train()(images).square().sum().backward()
    for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert torch.equal(mine.grad, other.grad)
    assert len(calls) == 2, "once more in the backward pass"
