"""One modality's backbone: from an image to a feature vector."""

from typing import Any

from torch import nn

from vwmm.models.norm import replace_batch_norm
from vwmm.models.pooling import make_deterministic
from vwmm.models.row_linear import RowLinear
from vwmm.system.monai_import import import_monai

# Small enough for a few hundred cases and a CPU: a hundredth of a DenseNet121's parameters.
THIN_DENSENET: dict[str, Any] = {"init_features": 16, "growth_rate": 8, "block_config": (2, 2, 2, 2)}
# Divides the channels of every layer of every DenseNet here.
NORM_GROUPS = 8


def build_branch(
    backbone: str, *, dims: int, num_features: int | None = None, norm: str = "batch"
) -> tuple[nn.Module, int]:
    """A backbone of MONAI and the number of features F that it gives: (B, 1, *size) -> (B, F).

    num_features: width of a final linear layer; None: the pooled features themselves, 1024 for DenseNet121.
    norm: `batch`, `instance` or `group`.
    """
    network, pooled = (
        _resnet(backbone, dims, norm) if backbone.startswith("resnet") else _densenet(backbone, dims, norm)
    )
    make_deterministic(network)
    replace_batch_norm(network)
    if num_features is None:
        return network, pooled
    return nn.Sequential(network, RowLinear(pooled, num_features)), num_features


def _densenet(backbone: str, dims: int, norm: str) -> tuple[nn.Module, int]:
    import_monai()
    from monai.networks.nets import DenseNet, DenseNet121, DenseNet169, DenseNet201, DenseNet264

    kinds = {
        "densenet121": DenseNet121,
        "densenet169": DenseNet169,
        "densenet201": DenseNet201,
        "densenet264": DenseNet264,
    }
    sizes = THIN_DENSENET if backbone == "densenet_thin" else {}
    kind: Any = kinds.get(backbone, DenseNet)
    network = kind(spatial_dims=dims, in_channels=1, out_channels=1, norm=_norm(norm), **sizes)
    pooled = int(network.class_layers.out.in_features)
    network.class_layers.out = nn.Identity()
    return network, pooled


def _resnet(backbone: str, dims: int, norm: str) -> tuple[nn.Module, int]:
    import_monai()
    from monai.networks.nets import resnet

    network = getattr(resnet, backbone)(spatial_dims=dims, n_input_channels=1, num_classes=1)
    if norm != "batch":
        _replace_batch_norm(network, dims, norm)  # MONAI's own `norm` reaches the first layer only
    pooled = int(network.fc.in_features)
    network.fc = None  # its forward passes over an absent layer
    return network, pooled


def _replace_batch_norm(network: nn.Module, dims: int, norm: str) -> None:
    import_monai()
    from monai.networks.layers.utils import get_norm_layer

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(parent, name, get_norm_layer(_norm(norm), spatial_dims=dims, channels=child.num_features))


def _norm(norm: str) -> Any:
    if norm == "group":
        return ("group", {"num_groups": NORM_GROUPS})
    return (norm, {"affine": True}) if norm == "instance" else norm
