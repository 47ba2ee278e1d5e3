"""Mixed precision: what `auto` becomes, and which torch and cuDNN pairs cannot be trusted with 3D convolutions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import torch

from vwmm.config.schema import Modality
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

Fault = Literal["wrong", "slow"]


@dataclass(frozen=True)
class Convolutions:
    """What decides how a convolution in half precision is computed."""

    torch: str
    """Version of torch."""
    cudnn: int | None
    """Version of cuDNN, 91002 for 9.10.2; None: there is none."""
    has_gpu: bool
    """Whether a GPU computes."""
    has_bf16: bool
    """Whether it computes bf16 natively."""

    @property
    def fault(self) -> Fault | None:
        """What is wrong with its 3D convolutions in half precision."""
        return half_precision_fault(self.torch, self.cudnn) if self.has_gpu else None

    def __str__(self) -> str:
        return f"torch {self.torch} with cuDNN {cudnn_text(self.cudnn)}"


def find_convolutions(*, has_gpu: bool) -> Convolutions:
    """Those of this process."""
    return Convolutions(
        torch=version("torch"),
        cudnn=torch.backends.cudnn.version(),
        has_gpu=has_gpu,
        has_bf16=has_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
    )


def half_precision_fault(torch_version: str, cudnn: int | None) -> Fault | None:
    """What is wrong with 3D convolutions in bf16 and fp16 of this torch with this cuDNN.

    cuDNN 9.8 to 9.10 computes some wrongly (pytorch#163539). Torch 2.9.0 therefore does without cuDNN from 9.8 on, and
    later ones from 9.8 to 9.14 (aten/src/ATen/native/Convolution.cpp): four times slower (pytorch#166122), with several
    times the memory (pytorch#166643).
    """
    if cudnn is None or cudnn < 90800:
        return None
    numbers = tuple(map(int, re.findall(r"\d+", torch_version)[:3]))
    if numbers < (2, 9):
        return "wrong" if cudnn < 91100 else None
    return "slow" if numbers <= (2, 9, 0) or cudnn < 91500 else None


def uses_volumes(modalities: Mapping[str, Modality]) -> bool:
    """Whether there is a 3D convolution in the model."""
    return any(modality.dims == 3 for modality in modalities.values())


def choose_precision(setting: str, found: Convolutions, *, has_volumes: bool) -> str:
    """`auto` becomes what the device computes natively: bf16, else fp16, on a GPU; float32 on a CPU.

    It is float32 as well where the libraries' 3D convolutions in half precision are wrong or slow.
    """
    if setting == "auto":
        if not found.has_gpu or (has_volumes and found.fault):
            return "no"
        return "bf16" if found.has_bf16 else "fp16"
    if setting == "fp16" and not found.has_gpu:
        raise UserError("train.mixed_precision=fp16 needs a GPU; on a CPU use no, bf16 or auto")
    return setting


def describe_choice(setting: str, found: Convolutions, *, has_volumes: bool) -> Problem | None:
    """What the user should know of the precision; None: nothing."""
    if not has_volumes or found.fault is None or setting == "no":
        return None
    computes = {
        "wrong": f"{found} computes some 3D convolutions in bf16 wrongly (pytorch#163539)",
        "slow": f"{found} computes 3D convolutions in bf16 and fp16 without cuDNN, many times slower (pytorch#166122)",
    }[found.fault]
    if setting == "auto":
        return Problem(f"{computes}: train.mixed_precision=auto uses float32", "precision_avoided")
    kind = "precision_wrong" if found.fault == "wrong" else "precision_slow"
    return Problem(f"{computes}, and train.mixed_precision={setting} asks for it", kind)


def cudnn_text(number: int | None) -> str:
    """`9.10.2` for 91002."""
    return "none" if number is None else f"{number // 10000}.{number // 100 % 100}.{number % 100}"
