"""The recipe made of MONAI's own transforms: what the exact mode must equal bit for bit."""

from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import NormalizeIntensity, Orientation, Resize, ScaleIntensity, ScaleIntensityRange, Spacing

from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image
from vwmm.data.transforms.geometry import steady_affine


def monai_input(image: Image, modality: Modality) -> np.ndarray:
    """(1, *modality.size) float32."""
    voxels = np.ascontiguousarray(image.voxels.astype(np.float32))
    if voxels.ndim == 2 and image.is_spatial and modality.orientation is not None:
        voxels = voxels[..., None]  # a slice lies in space as a volume does
    # torch's own channel axis, as EnsureChannelFirst makes it: numpy's has another stride, and sums another order.
    tensor: Any = MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(image.affine))
    if voxels.ndim == 3 and modality.orientation is not None:
        tensor = Orientation(axcodes=modality.orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))(tensor)
    if modality.dims == 2 and voxels.ndim == 3:
        tensor = _slice(tensor, modality)
    if modality.spacing_mm is not None:
        shape = tuple(tensor.shape[1:])
        affine = steady_affine(tensor.affine.numpy(), shape, modality.spacing_mm)
        tensor = MetaTensor(tensor.as_tensor(), affine=torch.from_numpy(affine))
        tensor = Spacing(pixdim=modality.spacing_mm, mode="bilinear", padding_mode="border")(tensor)
    if modality.window_hu is not None:
        low, high = modality.window_hu
        to = (0.0, 1.0) if modality.intensity == "min_max" else (low, high)
        tensor = ScaleIntensityRange(a_min=low, a_max=high, b_min=to[0], b_max=to[1], clip=True)(tensor)
    elif modality.intensity == "min_max":
        tensor = ScaleIntensity()(tensor)
    if modality.intensity == "z_score":
        tensor = NormalizeIntensity()(tensor)
    array: np.ndarray = Resize(modality.size)(tensor).as_tensor().contiguous().numpy()
    return array


def _slice(tensor: Any, modality: Modality) -> Any:
    shape = tuple(tensor.shape[1:])
    axis = next((axis for axis in (2, 1, 0) if shape[axis] == 1), 2)
    index = shape[axis] // 2 if modality.slice == "middle" or shape[axis] == 1 else modality.slice
    lengths = np.linalg.norm(tensor.affine.numpy()[:3, :3], axis=0)
    plane = tensor.as_tensor().select(axis + 1, index).contiguous()
    return MetaTensor(plane, affine=np.diag([*np.delete(lengths, axis), 1.0, 1.0]))
