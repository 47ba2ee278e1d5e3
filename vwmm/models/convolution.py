"""Convolutions that a CPU computes in float32, also where mixed precision asks for bf16.

oneDNN's gradient of a bf16 convolution's weights holds memory that nobody has written, on processors with AVX-512, for
some shapes that the last blocks of a network have, two slices with kernels of 3 for example (findings/
onednn_bf16_gradient.sh). What is kept for the backward pass is bf16 all the same.
"""

import torch
from torch import nn


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`; on a CPU multiplied in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, H, W) -> (B, C', H', W')."""
        return super().forward(x) if not _is_bf16_on_cpu(self, x) else _in_float32(self, x)


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`; on a CPU multiplied in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, H, W, D) -> (B, C', H', W', D')."""
        return super().forward(x) if not _is_bf16_on_cpu(self, x) else _in_float32(self, x)


def multiply_in_float32_on_cpu(network: nn.Module) -> None:
    """Makes every convolution of the network one of these; its weights and their names stay."""
    for module in network.modules():
        for plain, ours in ((nn.Conv2d, Conv2d), (nn.Conv3d, Conv3d)):
            if type(module) is plain:
                module.__class__ = ours


def _is_bf16_on_cpu(layer: nn.Conv2d | nn.Conv3d, x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and (torch.is_autocast_enabled("cpu") or layer.weight.dtype == torch.bfloat16)


def _in_float32(layer: nn.Conv2d | nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        bias = None if layer.bias is None else layer.bias.float()
        return layer._conv_forward(x.float(), layer.weight.float(), bias).to(torch.bfloat16)
