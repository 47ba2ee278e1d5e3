"""The fixed part of the transforms: from an image on disk to the network's input, always the same for a recipe.

The recipe is the original one, made of MONAI's transforms: channel first, intensity, resize (area). Orientation,
slice, spacing and window are added where the configuration asks for them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.image import MAX_VOXELS, Image, ImageError
from vwmm.data.readers import read_image

# Part of the store's keys: raise it when a change of the code below changes a value.
RECIPE_VERSION = 1


def recipe_key(modality: Modality, mode: str = "exact") -> str:
    """Every parameter that changes a value, and the versions that matter, as one text."""
    import monai
    import torch

    fields = modality.model_dump(exclude={"column", "folder"})
    versions = {"recipe": RECIPE_VERSION, "monai": monai.__version__, "torch": torch.__version__.split("+")[0]}
    return json.dumps({"modality": fields, "mode": mode, "versions": versions}, sort_keys=True)


def load_input(path: Path, modality: Modality, *, mode: str = "exact") -> np.ndarray:
    """Reads and transforms one image: (1, H, W, D) or (1, H, W) float32. Raises ImageError."""
    return transform(read_image(path), modality)


def transform(image: Image, modality: Modality) -> np.ndarray:
    """The network's input from an image as stored: (1, *modality.size) float32, slices last. Raises ImageError."""
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import Resize

    tensor: Any = MetaTensor(torch.from_numpy(image.voxels[None]), affine=torch.from_numpy(image.affine))
    if image.voxels.ndim == 3:
        tensor = _oriented(tensor, modality)
    tensor = _with_dims(tensor, modality)
    if modality.spacing_mm is not None:
        tensor = _respaced(tensor, modality)
    tensor = _scaled(tensor, modality)
    tensor = Resize(modality.size)(tensor)
    array = tensor.as_tensor().contiguous().numpy().astype(np.float32, copy=False)
    assert array.shape == (1, *modality.size), f"{array.shape} is not {(1, *modality.size)}"
    return array


def check_dims(shape: tuple[int, ...], modality: Modality) -> None:
    """Raises ImageError where an image of this shape cannot become the modality's input."""
    sizes = " x ".join(map(str, shape))
    if modality.dims == 3 and (len(shape) != 3 or min(shape) == 1):
        raise ImageError(f"expected a volume (dims: 3), found a single slice of {sizes}")
    if modality.dims == 2 and len(shape) == 3 and isinstance(modality.slice, int) and modality.slice >= max(shape):
        raise ImageError(f"slice {modality.slice} does not exist in {sizes} voxels")


def _oriented(tensor: Any, modality: Modality) -> Any:
    from monai.transforms import Orientation

    if modality.orientation is None:
        return tensor
    return Orientation(axcodes=modality.orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))(tensor)


def _with_dims(tensor: Any, modality: Modality) -> Any:
    """A volume as it is; for 2D its slice along the last axis, or the plane of a file with one slice."""
    from monai.data.meta_tensor import MetaTensor

    shape = tuple(tensor.shape[1:])
    check_dims(shape, modality)
    if modality.dims == 3 or len(shape) == 2:
        return tensor
    # A sagittal or coronal slice has its single voxel on another axis than the last, once it is turned.
    axis = next((axis for axis in (2, 1, 0) if shape[axis] == 1), 2)
    index = shape[axis] // 2 if modality.slice == "middle" or shape[axis] == 1 else modality.slice
    if index >= shape[axis]:
        raise ImageError(f"slice {index} does not exist: {shape[axis]} slices along the last axis")
    plane = tensor.as_tensor().select(axis + 1, index).contiguous()
    if plane.min() == plane.max():
        raise ImageError(f"slice {index} of {shape[axis]} is empty; choose another one by modalities.NAME.slice")
    # Of the two axes in the plane, MONAI's 2D transforms need the lengths only.
    lengths = np.linalg.norm(tensor.affine.numpy()[:3, :3], axis=0)
    return MetaTensor(plane, affine=np.diag([*np.delete(lengths, axis), 1.0, 1.0]))


def _respaced(tensor: Any, modality: Modality) -> Any:
    from monai.transforms import Spacing

    assert modality.spacing_mm is not None
    shape = np.array(tensor.shape[1:])
    found = np.linalg.norm(tensor.affine.numpy()[:3, :3], axis=0)[: len(shape)]
    needed = float(np.prod(np.ceil(shape * found / modality.spacing_mm)))
    if needed > MAX_VOXELS:
        sizes = " x ".join(f"{length:.3g}" for length in found)
        raise ImageError(f"voxels of {sizes} mm would become {needed:.2g} at spacing_mm={modality.spacing_mm}")
    return Spacing(pixdim=modality.spacing_mm, mode="bilinear", padding_mode="border")(tensor)


def _scaled(tensor: Any, modality: Modality) -> Any:
    """Window and intensity; `min_max` maps the bounds of a window to 0 and 1, so that HU keep their meaning."""
    from monai.transforms import NormalizeIntensity, ScaleIntensity, ScaleIntensityRange

    if modality.window_hu is not None:
        low, high = modality.window_hu
        to = (0.0, 1.0) if modality.intensity == "min_max" else (low, high)
        tensor = ScaleIntensityRange(a_min=low, a_max=high, b_min=to[0], b_max=to[1], clip=True)(tensor)
        if tensor.min() == tensor.max():
            raise ImageError(f"no voxel lies within window_hu=[{low:g}, {high:g}]: are these Hounsfield units?")
    elif modality.intensity == "min_max":
        tensor = ScaleIntensity()(tensor)
    return NormalizeIntensity()(tensor) if modality.intensity == "z_score" else tensor
