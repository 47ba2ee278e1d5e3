"""The fixed preprocessing: crop, resample, CT window, normalisation.

The recipe is the original one: channel first, intensity, resize (area). Bias correction, orientation, crop, slice,
spacing, clipping and padding are added where the configuration asks for them, in this order. Two modes: `exact` gives
the bits of MONAI's transforms; `fast` adds up in another order and samples once, within 1e-5 of the range of
intensities. Torch and MONAI are imported only where their own arithmetic is needed: mean and deviation, and the exact
spacing.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.area_resize import area_exact, area_fast, bin_size, in_memory_order, moments
from vwmm.data.transforms.foreground import foreground
from vwmm.data.transforms.geometry import (
    check_dims,
    check_spacing,
    is_sheared,
    orient_and_crop,
    respaced_coordinates,
    steady_affine,
    upright_spacing,
)
from vwmm.data.transforms.hounsfield import hounsfield_signs
from vwmm.data.transforms.resample import respace_area
from vwmm.system.monai_import import import_monai

__all__ = ["Mode", "check_dims", "load_input", "recipe_key", "transform"]

Mode = Literal["exact", "fast"]
# Part of the store's keys: raise it when a change of the code below changes a value.
RECIPE_VERSION = 5
# Torch's sums over larger bins are themselves further than 1e-5 from the mean; the exact mode follows them.
_MAX_FAST_BIN = 4096


def recipe_key(modality: Modality, mode: Mode = "exact") -> str:
    """Every parameter that changes a value, and the versions that matter, as one text."""
    needs_foreground = modality.needs_foreground
    fields = modality.model_dump(exclude={"column", "folder", "preset", *([] if needs_foreground else ["foreground"])})
    is_respaced = modality.spacing_mm is not None or modality.dims == 3  # any volume may be sheared
    packages = ["monai", "torch"] if is_respaced else ["torch"] if modality.intensity == "z_score" else []
    packages += ["SimpleITK"] if needs_foreground else []
    versions = {"recipe": RECIPE_VERSION, **{name: _version(name) for name in packages}}
    return json.dumps({"modality": fields, "mode": mode, "versions": versions}, sort_keys=True)


@cache
def _version(package: str) -> str:
    return metadata.version(package).split("+")[0]


def load_input(path: Path, modality: Modality, *, mode: Mode = "exact") -> np.ndarray:
    """Reads and transforms one image: (1, H, W, D) or (1, H, W) float32. Raises ImageError."""
    return transform(read_image(path, series=modality.series), modality, mode=mode)


def transform(image: Image, modality: Modality, *, mode: Mode = "exact") -> np.ndarray:
    """The network's input from an image as stored: (1, *modality.size) float32, slices last. Raises ImageError."""
    if modality.window_hu is not None and image.unit == "inverted":
        raise ImageError(
            "the CT's lowest value is white (MONOCHROME1): no Hounsfield units for window_hu; convert it", "unusable"
        )
    if modality.window_hu is not None and (reason := hounsfield_signs(image.voxels, image.bounds).problem):
        raise ImageError(reason, "hu_range")
    at = orient_and_crop(image, modality)
    view, affine, axes = at.view, at.affine, at.axes
    scaling, coordinates = _scaling(view, modality), None
    if (spacing_mm := _spacing(modality, view.shape, affine)) is not None:
        check_spacing(view.shape, affine, spacing_mm)
        affine = steady_affine(affine, view.shape, spacing_mm)
        if mode == "fast" and modality.fit == "resize":
            coordinates = respaced_coordinates(view.shape, affine, spacing_mm)
        if coordinates is None or not _is_fast([len(place) for place in coordinates], modality):
            view, coordinates = _respaced(_laid_out(view, axes), affine, spacing_mm), None
            axes = tuple(range(view.ndim))
    if mode == "fast" and (coordinates is not None or _is_fast(view.shape, modality)):
        array = _fast(view, modality.size, scaling, coordinates)
    else:
        array = _exact(view, modality, scaling, axes)
    return np.ascontiguousarray(array[None], dtype=np.float32)


def _spacing(modality: Modality, shape: tuple[int, ...], affine: np.ndarray) -> Sequence[float] | None:
    """The voxel size to resample to: the modality's, or a sheared volume's, which a resize would leave sheared."""
    if modality.spacing_mm is not None:
        return modality.spacing_mm
    if len(shape) == 3 and is_sheared(shape, affine[:3, :3]):
        return upright_spacing(affine[:3, :3])
    return None


def _is_fast(shape: Sequence[int], modality: Modality) -> bool:
    return modality.fit == "resize" and bin_size(shape, modality.size) <= _MAX_FAST_BIN


@dataclass(frozen=True)
class Scaling:
    """The intensity transform of one image."""

    intensity: str
    """As `modalities.NAME.intensity`."""
    window: tuple[float, float] | None
    """Bounds that the values are clipped to."""
    stats: tuple[float, float] | None
    """Mean and standard deviation for a z-score, of the clipped values, where the whole image's are not taken."""

    @property
    def target(self) -> tuple[float, float]:
        """What the window's bounds become: `min_max` maps them to 0 and 1, so that HU keep their meaning."""
        assert self.window is not None, "without a window nothing is mapped"
        return (0.0, 1.0) if self.intensity == "min_max" else self.window


def _scaling(view: np.ndarray, modality: Modality) -> Scaling:
    """Of an image as `orient_and_crop` gives it, before it is respaced."""
    window = None if modality.window_hu is None else (modality.window_hu[0], modality.window_hu[1])
    if modality.clip_percentiles is not None:
        low, high = (float(bound) for bound in np.percentile(view, modality.clip_percentiles))
        if not np.float32(low) < np.float32(high):
            percentiles = " and ".join(f"{p:g}" for p in modality.clip_percentiles)
            raise ImageError(f"the percentiles {percentiles} have the same value ({low:g}): nothing is left between")
        window = low, high
    elif window is not None:
        _check_window(window, float(view.min()), float(view.max()))
    scaling = Scaling(modality.intensity, window, None)
    if modality.intensity != "z_score_foreground":
        return scaling
    values = _windowed(view[foreground(view, modality.foreground)].astype(np.float32), scaling).astype(np.float64)
    return replace(scaling, stats=(float(values.mean()), float(values.std())))


def _exact(view: np.ndarray, modality: Modality, scaling: Scaling, axes: tuple[int, ...]) -> np.ndarray:
    """Intensity in the order and precision of MONAI's operations, then the resize in torch's."""
    bounds = view.min(), view.max()
    if scaling.intensity == "z_score":
        scaling = replace(scaling, stats=_torch_moments(_windowed(view.astype(np.float32), scaling), axes))
    if modality.fit == "crop_pad":
        return _cropped_padded(_scaled(view.astype(np.float32), scaling, bounds), modality.size)
    if set(modality.size) == {1}:
        return _torch_mean(_scaled(view.astype(np.float32), scaling, bounds), axes)
    if view.dtype.kind in "iu":  # few values: each is transformed once
        first = int(bounds[0])
        values = np.arange(first, int(bounds[1]) + 1).astype(np.float32)
        return area_exact(view, modality.size, table=_scaled(values, scaling, bounds), first=first)
    values = _scaled(view, scaling, bounds)
    return values if values.shape == tuple(modality.size) else area_exact(values, modality.size)


def _cropped_padded(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(*size): the middle of the image, its smallest value around it where it is smaller; as MONAI centres both."""
    inner, outer = [], []
    for length, wanted in zip(values.shape, size, strict=True):
        first = max(0, length // 2 - wanted // 2)
        inner.append(slice(first, min(length, first + wanted)))
        before = max(0, wanted - length) // 2
        outer.append((before, max(0, wanted - length) - before))
    return np.pad(values[tuple(inner)], outer, constant_values=values.min())


def _scaled(values: np.ndarray, scaling: Scaling, bounds: tuple[Any, Any]) -> np.ndarray:
    """Window and intensity of float32 values of an image with these bounds."""
    if scaling.window is not None:
        values = _windowed(values, scaling)
    elif scaling.intensity == "min_max":
        low, high = np.float32(bounds[0]), np.float32(bounds[1])
        values = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if scaling.stats is not None:
        values = (values - np.float32(scaling.stats[0])) / np.float32(scaling.stats[1] or 1.0)
    return values


def _windowed(values: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Float32 values as MONAI's ScaleIntensityRange gives them, each operation rounded."""
    if scaling.window is None:
        return values
    (low, high), (to_low, to_high) = scaling.window, scaling.target
    values = (values - np.float32(low)) / np.float32(high - low)
    values = values * np.float32(to_high - to_low) + np.float32(to_low)
    return values.clip(np.float32(to_low), np.float32(to_high))


def _check_window(window: tuple[float, ...], low: float, high: float) -> None:
    if low >= window[1] or high <= window[0]:
        found = f"no voxel lies within window_hu=[{window[0]:g}, {window[1]:g}]: are these Hounsfield units?"
        raise ImageError(found, "hu_range")


def _fast(view: np.ndarray, size: Sequence[int], scaling: Scaling, coordinates: list[np.ndarray] | None) -> np.ndarray:
    """The mean of each bin of voxels first, in one pass over the image; then the intensity of the few voxels left."""
    bounds = float(view.min()), float(view.max())
    low, high = scaling.window or bounds  # a CT's window: clipped in the loops of area_fast and resample
    stats = scaling.stats and (scaling.stats[0] - low, scaling.stats[1])
    has_moments = scaling.intensity == "z_score"
    if coordinates is not None:
        means, bounds, moments_of = respace_area(view, coordinates, size, low=low, high=high, has_moments=has_moments)
        stats = moments_of if has_moments else stats
    else:
        means = area_fast(view, size, low=low, high=high)
        if has_moments:
            stats = moments(in_memory_order(view)[0].reshape(-1), np.float32(low), np.float32(high))
    if stats is not None:
        return (means - np.float32(stats[0])) / np.float32(stats[1] or 1.0)
    if scaling.intensity == "none":
        return means + np.float32(low)
    if scaling.window is not None or coordinates is None:
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

    Those of the file's axes, turned; but MONAI copies a reoriented image that torch would treat as "channels last".
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


def _respaced(view: np.ndarray, affine: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """The general path, for any affine: MONAI's Spacing of a float32 image."""
    import torch

    import_monai()
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import Spacing

    tensor: Any = MetaTensor(torch.from_numpy(view)[None], affine=torch.from_numpy(affine))
    with _one_thread():
        respaced: Any = Spacing(pixdim=spacing_mm, mode="bilinear", padding_mode="border")(tensor)
    array: np.ndarray = respaced.as_tensor().numpy()[0]
    return array
