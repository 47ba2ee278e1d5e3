"""Shapes without computing are those of torch, and need no SymPy."""

import subprocess
import sys

import pytest
import torch

from vwmm.models.branch import BACKBONES, build_branch
from vwmm.models.shapes import ShapesOnly


def shapes_of(network: torch.nn.Module, image: torch.Tensor) -> list[tuple[str, torch.Size]]:
    found: list[tuple[str, torch.Size]] = []
    for path, layer in network.named_modules():
        layer.register_forward_hook(lambda _, inputs, output, path=path: found.append((path, output.shape)))
    network.eval()(image)
    return found


@pytest.mark.parametrize(("dims", "norm"), [(2, "batch"), (3, "batch"), (3, "instance"), (2, "group")])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_layer_has_its_shape(backbone: str, dims: int, norm: str) -> None:
    network, _ = build_branch(backbone, dims=dims, num_features=5, norm=norm)
    network = network.to("meta")
    image = torch.zeros(2, 1, *[65, 78, 69][:dims], device="meta")

    expected = shapes_of(network, image)
    for layer in network.modules():
        layer._forward_hooks.clear()
    with ShapesOnly():
        assert shapes_of(network, image) == expected


def test_no_layer_of_a_backbone_needs_sympy() -> None:
    script = (
        "import sys\n"
        "from vwmm.config.schema import Model, Modality\n"
        "from vwmm.models.branch import BACKBONES, build_branch\n"
        "from vwmm.models.norm import single_valued_layers\n"
        "from vwmm.system.torch_import import postpone_compiler\n"
        "postpone_compiler()\n"
        "for name in ('densenet_thin', 'densenet121', 'resnet10', 'resnet50'):\n"
        "    for dims in (2, 3):\n"
        "        for norm in ('batch', 'group'):\n"
        "            network, _ = build_branch(name, dims=dims, num_features=5, norm=norm)\n"
        "            single_valued_layers(network, [32] * dims)\n"
        "            assert 'sympy' not in sys.modules, (name, dims, norm)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
