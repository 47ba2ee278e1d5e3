"""One modality's backbone: from an image to a feature vector."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from vwmm.models.convolution import multiply_in_float32_on_cpu
from vwmm.models.norm import replace_batch_norm
from vwmm.models.pooling import make_deterministic
from vwmm.models.recompute import checkpoint_blocks
from vwmm.models.row_linear import RowLinear
from vwmm.system.monai_import import import_network

# Small enough for a few hundred cases and a CPU: a hundredth of a DenseNet121's parameters.
THIN_DENSENET: dict[str, Any] = {"init_features": 16, "growth_rate": 8, "block_config": (2, 2, 2, 2)}
# Divides the channels of every layer of every DenseNet here.
NORM_GROUPS = 8


def build_branch(
    backbone: str, *, dims: int, num_features: int | None = None, norm: str = "batch", checkpointing: bool = False
) -> tuple[nn.Module, int]:
    """A backbone of `BACKBONES` and the number of features F that it gives: (B, 1, *size) -> (B, F).

    num_features: width of a final linear layer; None: the pooled features themselves, 1024 for DenseNet121.
    norm: `batch`, `instance` or `group`. checkpointing: whether its blocks are computed again in the backward pass.
    """
    network, pooled = BACKBONES[backbone](dims, norm)
    make_deterministic(network)
    multiply_in_float32_on_cpu(network)
    replace_batch_norm(network)
    if checkpointing:
        checkpoint_blocks(network)
    if num_features is None:
        return network, pooled
    return nn.Sequential(network, RowLinear(pooled, num_features)), num_features


def _densenet(dims: int, norm: str, *, name: str = "DenseNet", **sizes: Any) -> tuple[nn.Module, int]:
    kind = getattr(import_network("nets.densenet"), name)
    network = kind(spatial_dims=dims, in_channels=1, out_channels=1, norm=_norm(norm), **sizes)
    pooled = int(network.class_layers.out.in_features)
    network.class_layers.out = nn.Identity()
    return network, pooled


def _resnet(dims: int, norm: str, *, name: str) -> tuple[nn.Module, int]:
    network = getattr(import_network("nets.resnet"), name)(spatial_dims=dims, n_input_channels=1, num_classes=1)
    if norm != "batch":
        _replace_batch_norm(network, dims, norm)  # MONAI's own `norm` reaches the first layer only
    pooled = int(network.fc.in_features)
    network.fc = None  # its forward passes over an absent layer
    return network, pooled


def _replace_batch_norm(network: nn.Module, dims: int, norm: str) -> None:
    get_norm_layer = import_network("layers.utils").get_norm_layer
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(parent, name, get_norm_layer(_norm(norm), spatial_dims=dims, channels=child.num_features))


def _norm(norm: str) -> Any:
    if norm == "group":
        return ("group", {"num_groups": NORM_GROUPS})
    return (norm, {"affine": True}) if norm == "instance" else norm


# By the name in `model.backbone`: from (dims, norm) to a network, (B, 1, *size) -> (B, F), and its F.
BACKBONES: dict[str, Callable[[int, str], tuple[nn.Module, int]]] = {
    "densenet121": partial(_densenet, name="DenseNet121"),
    "densenet169": partial(_densenet, name="DenseNet169"),
    "densenet201": partial(_densenet, name="DenseNet201"),
    "densenet264": partial(_densenet, name="DenseNet264"),
    "densenet_thin": partial(_densenet, **THIN_DENSENET),
    **{name: partial(_resnet, name=name) for name in ("resnet10", "resnet18", "resnet34", "resnet50")},
}
