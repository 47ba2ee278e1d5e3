"""The fixed part of the transforms: from an image on disk to the network's input, always the same for a recipe.

The recipe is the original one: channel first, intensity, resize (area). Orientation, slice, spacing and window are
added where the configuration asks for them. Two modes: `exact` gives the bits of MONAI's transforms; `fast` adds up in
another order and samples once, within 1e-5 of the range of intensities. Torch and MONAI are imported only where their
own arithmetic is needed: mean and deviation, and the exact spacing.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vwmm.config.lean_import import import_monai
from vwmm.config.schema import Modality
from vwmm.data.area import area_exact, area_fast, in_memory_order, moments, window_size
from vwmm.data.geometry import check_dims, check_spacing, placed, respaced_coordinates
from vwmm.data.image import Image, ImageError
from vwmm.data.readers import read_image
from vwmm.data.respace import respace_area

__all__ = ["Mode", "check_dims", "load_input", "recipe_key", "transform"]

Mode = Literal["exact", "fast"]
# Part of the store's keys: raise it when a change of the code below changes a value.
RECIPE_VERSION = 3
# Torch's sums over larger windows are themselves further than 1e-5 from the mean; the exact mode follows them.
_MAX_FAST_WINDOW = 4096


def recipe_key(modality: Modality, mode: Mode = "exact") -> str:
    """Every parameter that changes a value, and the versions that matter, as one text."""
    fields = modality.model_dump(exclude={"column", "folder"})
    packages = ["monai", "torch"] if modality.spacing_mm else ["torch"] if modality.intensity == "z_score" else []
    versions = {"recipe": RECIPE_VERSION, **{name: _version(name) for name in packages}}
    return json.dumps({"modality": fields, "mode": mode, "versions": versions}, sort_keys=True)


@cache
def _version(package: str) -> str:
    return metadata.version(package).split("+")[0]


def load_input(path: Path, modality: Modality, *, mode: Mode = "exact") -> np.ndarray:
    """Reads and transforms one image: (1, H, W, D) or (1, H, W) float32. Raises ImageError."""
    return transform(read_image(path), modality, mode=mode)


def transform(image: Image, modality: Modality, *, mode: Mode = "exact") -> np.ndarray:
    """The network's input from an image as stored: (1, *modality.size) float32, slices last. Raises ImageError."""
    view, affine, axes = placed(image, modality)
    coordinates = None
    if modality.spacing_mm is not None:
        check_spacing(view.shape, affine, modality.spacing_mm)
        coordinates = respaced_coordinates(view.shape, affine, modality.spacing_mm) if mode == "fast" else None
        if coordinates is None or not _is_fast([len(place) for place in coordinates], modality):
            view, coordinates = _respaced(_laid_out(view, axes), affine, modality), None
            axes = tuple(range(view.ndim))
    if mode == "fast" and (coordinates is not None or _is_fast(view.shape, modality)):
        array = _fast(view, modality, coordinates)
    else:
        array = _exact(view, modality, axes)
    return np.ascontiguousarray(array[None], dtype=np.float32)


def _is_fast(shape: Sequence[int], modality: Modality) -> bool:
    return window_size(shape, modality.size) <= _MAX_FAST_WINDOW


def _exact(view: np.ndarray, modality: Modality, axes: tuple[int, ...]) -> np.ndarray:
    """Intensity in the order and precision of MONAI's operations, then the resize in torch's."""
    bounds = view.min(), view.max()
    _check_window(modality, *bounds)
    stats = (
        _torch_moments(_windowed(view.astype(np.float32), modality), axes) if modality.intensity == "z_score" else None
    )
    if set(modality.size) == {1}:
        return _torch_mean(_scaled(view.astype(np.float32), modality, bounds, stats), axes)
    if view.dtype.kind in "iu":  # few values: each is transformed once
        first = int(bounds[0])
        values = np.arange(first, int(bounds[1]) + 1).astype(np.float32)
        return area_exact(view, modality.size, table=_scaled(values, modality, bounds, stats), first=first)
    values = _scaled(view, modality, bounds, stats)
    return values if values.shape == tuple(modality.size) else area_exact(values, modality.size)


def _scaled(
    values: np.ndarray, modality: Modality, bounds: tuple[Any, Any], stats: tuple[float, float] | None
) -> np.ndarray:
    """Window and intensity; `min_max` maps the bounds of a window to 0 and 1, so that HU keep their meaning."""
    if modality.window_hu is not None:
        values = _windowed(values, modality)
    elif modality.intensity == "min_max":
        low, high = np.float32(bounds[0]), np.float32(bounds[1])
        values = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if stats is not None:
        values = (values - np.float32(stats[0])) / np.float32(stats[1] or 1.0)
    return values


def _windowed(values: np.ndarray, modality: Modality) -> np.ndarray:
    """Float32 values as MONAI's ScaleIntensityRange gives them, each operation rounded."""
    if modality.window_hu is None:
        return values
    low, high = modality.window_hu
    to_low, to_high = (0.0, 1.0) if modality.intensity == "min_max" else (low, high)
    values = (values - np.float32(low)) / np.float32(high - low)
    values = values * np.float32(to_high - to_low) + np.float32(to_low)
    return values.clip(np.float32(to_low), np.float32(to_high))


def _check_window(modality: Modality, low: Any, high: Any) -> None:
    if modality.window_hu is None:
        return
    ends = _windowed(np.array([low, high], np.float32), modality)
    if ends[0] == ends[1]:
        below, above = modality.window_hu
        raise ImageError(f"no voxel lies within window_hu=[{below:g}, {above:g}]: are these Hounsfield units?")


def _fast(view: np.ndarray, modality: Modality, coordinates: list[np.ndarray] | None) -> np.ndarray:
    """The mean of each window first, in one pass over the image; then the intensity of the few voxels left."""
    bounds = float(view.min()), float(view.max())
    low, high = modality.window_hu or bounds
    if coordinates is not None:
        means, bounds, stats = respace_area(
            view, coordinates, modality.size, low=low, high=high, has_moments=modality.intensity == "z_score"
        )
        _check_window(modality, bounds[0] + low, bounds[1] + low)
    else:
        _check_window(modality, *bounds)
        means = area_fast(view, modality.size, low=low, high=high)
        if modality.intensity == "z_score":
            stats = moments(in_memory_order(view)[0].reshape(-1), np.float32(low), np.float32(high))
    if modality.intensity == "z_score":
        return (means - np.float32(stats[0])) / np.float32(stats[1] or 1.0)
    if modality.intensity == "none":
        return means + np.float32(low)
    if modality.window_hu is not None or coordinates is None:
        return means / np.float32(high - low)
    span = bounds[1] - bounds[0]
    return (means - np.float32(bounds[0])) / np.float32(span) if span else np.zeros_like(means)


def _laid_out(view: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A float32 copy laid out as MONAI's would be: in C order of the file's axes. Sums depend on it, and Spacing."""
    return view.transpose(np.argsort(axes)).astype(np.float32, order="C").transpose(axes)


def _torch_moments(values: np.ndarray, axes: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation as torch's reductions round them, which numpy's do not."""
    tensor = _tensor(values, axes)
    with _one_thread():
        return tensor.mean().item(), tensor.std(unbiased=False).item()


def _torch_mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The resize to a single voxel, which torch adds up in an order of its own."""
    import torch

    with _one_thread():
        mean: np.ndarray = torch.nn.functional.interpolate(
            _tensor(values, axes)[None], (1,) * values.ndim, mode="area"
        ).numpy()
    return mean[0, 0]


def _tensor(values: np.ndarray, axes: tuple[int, ...]) -> Any:
    """(1, ...) with the strides that MONAI's transforms meet, since torch adds up by strides.

    Those of the file's axes, turned; but a turn to what torch takes for "channels last" is laid out anew by MONAI.
    """
    import torch

    if axes == (2, 0, 1):
        return torch.from_numpy(np.ascontiguousarray(values))[None]
    as_stored = np.ascontiguousarray(values.transpose(np.argsort(axes)))
    return torch.from_numpy(as_stored)[None].permute(0, *(1 + axis for axis in axes))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch adds up in an order that depends on its number of threads; a cached value must not.

    Images are transformed several at a time anyway: more threads for each would only stand in each other's way.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _respaced(view: np.ndarray, affine: np.ndarray, modality: Modality) -> np.ndarray:
    """The general path, for any affine: MONAI's Spacing of a float32 image."""
    import torch

    import_monai()
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import Spacing

    tensor: Any = MetaTensor(torch.from_numpy(view)[None], affine=torch.from_numpy(affine))
    with _one_thread():
        respaced: Any = Spacing(pixdim=modality.spacing_mm, mode="bilinear", padding_mode="border")(tensor)
    array: np.ndarray = respaced.as_tensor().numpy()[0]
    return array
