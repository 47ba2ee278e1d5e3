"""Batch norm for micro-batches with a single image of a modality."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class SingleValueSafeBatchNorm(_BatchNorm):
    """One value of a channel has no variance: it becomes the layer's bias, and the running statistics stay.

    A copy of the image as its neighbour would give the same values; but the gradients, which are zero, would be the
    rounding of large terms that cancel, and the running variance would shrink.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, *size)."""
        if not self.training or x.numel() != x.shape[1]:
            return super().forward(x)
        # Everything stays in the graph, as data-parallel training wants it.
        nothing = 0 * (x + self.weight.view(1, -1, *[1] * (x.ndim - 2)))
        return nothing + self.bias.view_as(nothing).to(nothing.dtype)


class BatchNorm2d(SingleValueSafeBatchNorm, nn.BatchNorm2d):
    """Of images (B, C, H, W)."""


class BatchNorm3d(SingleValueSafeBatchNorm, nn.BatchNorm3d):
    """Of volumes (B, C, H, W, D)."""


def replace_batch_norm(network: nn.Module) -> None:
    """Replaces torch's layers with these; weights and names stay."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                continue
            kind = BatchNorm2d if isinstance(child, nn.BatchNorm2d) else BatchNorm3d
            layer = kind(child.num_features, eps=child.eps, momentum=child.momentum)
            layer.load_state_dict(child.state_dict())
            setattr(parent, name, layer)


def single_valued_layers(branch: nn.Module, size: list[int]) -> set[str]:
    """The batch-norm layers, by their path, that one voxel of an image of this size reaches."""
    found = set[str]()
    image = torch.zeros(1, 1, *size, device="meta")  # shapes only: nothing is computed
    shadow = copy.deepcopy(branch).to("meta").eval()
    for path, layer in shadow.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(lambda _, inputs, path=path: _note(found, path, inputs[0]))
    shadow(image)
    return found


def _note(found: set[str], path: str, x: torch.Tensor) -> None:
    if x.numel() == x.shape[1]:
        found.add(path)
