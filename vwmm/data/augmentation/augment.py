"""Augmentation, drawn from (seed, epoch, case) alone, applied to a batch on its device.

The parameters of an image are a handful of numbers. Flip, rotation, scale and translation are one matrix, and low
resolution coarsens the coordinates, so each image is resampled once; bias field, gamma, intensity and noise follow in
that pass.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from vwmm.config.schema import Augmentation, Modality
from vwmm.data.augmentation.changes import CHANGES, Apply
from vwmm.data.loading.dataset import Batch, CaseDataset

_AUGMENT = 4  # keeps these random numbers apart from others that use the same seed


@dataclass(frozen=True)
class AugmentationParams:
    """The sampled parameters of one image's augmentation."""

    matrix: np.ndarray
    """(3, 4) float64, output to input voxels."""
    coordinates: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Output coordinates along each axis, coarsened for low resolution; float64."""
    field: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Three float32 vectors; their product is the bias field; empty: none."""
    gamma: float
    """Exponent between the image's minimum and maximum; 1: none."""
    gain: float
    """Factor of the intensities."""
    shift: float
    """Added to the intensities."""
    noise: float
    """Standard deviation of the noise; 0: none."""
    key: int
    """64-bit key of the noise."""
    changes: Mapping[str, Apply]
    """Those of changes.py that this image gets, by name."""


def case_key(name: str) -> int:
    """A number for a case that does not depend on which other cases there are."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def sample_image_params(
    augmentation: Augmentation, size: Sequence[int], *, seed: int, epoch: int, case: int, modality: int
) -> AugmentationParams:
    """The parameters of one image: size (H, W) or (H, W, D), case as of `case_key`, modality its number."""
    seeds = np.random.SeedSequence((_AUGMENT, seed, epoch, case, modality))
    random = np.random.Generator(np.random.Philox(seeds))
    dims, shape = len(size), [*size, 1][:3]

    def happens(chance: float) -> bool:
        # Drawn even where the chance is 0, so that switching one part off leaves the others as they are.
        return bool(random.random() < chance)

    def within(most: float, count: int = 1) -> np.ndarray:
        return random.uniform(-most, most, count)

    flips = [happens(augmentation.flip_chance) and axis in augmentation.flip_axes for axis in range(3)]
    is_moved = happens(augmentation.affine_chance)
    angles = np.deg2rad(within(augmentation.rotate_deg, 3))
    zoom, offset = 1 + within(augmentation.scale, 3), within(augmentation.translate, 3) * shape
    matrix = _matrix(shape, dims, flips, angles, zoom, offset) if is_moved else _matrix(shape, dims, flips)
    is_coarse, factor = happens(augmentation.low_resolution_chance), random.uniform(1, augmentation.low_resolution)
    coordinates = [_coarsened(length, factor if is_coarse and length > 1 else 1.0) for length in shape]
    has_field, slopes = happens(augmentation.bias_chance), within(augmentation.bias_field, 6)
    field = [_field(n, slopes[2 * axis : 2 * axis + 2]) if has_field else _NONE for axis, n in enumerate(shape)]
    has_gamma, log_gamma = happens(augmentation.gamma_chance), within(augmentation.gamma)[0]
    is_shifted, changes = happens(augmentation.intensity_chance), within(1.0, 2)
    is_noisy, noise = happens(augmentation.noise_chance), random.uniform(0, augmentation.noise_std)
    return AugmentationParams(
        matrix=matrix,
        coordinates=(coordinates[0], coordinates[1], coordinates[2]),
        field=(field[0], field[1], field[2]),
        gamma=math.exp(log_gamma) if has_gamma else 1.0,
        gain=1 + changes[0] * augmentation.scale_intensity if is_shifted else 1.0,
        shift=changes[1] * augmentation.shift_intensity if is_shifted else 0.0,
        noise=noise if is_noisy else 0.0,
        key=int(random.integers(0, 2**63)),
        changes=_sample_changes(augmentation, (_AUGMENT, seed, epoch, case, modality)),
    )


def _sample_changes(augmentation: Augmentation, seeds: Sequence[int]) -> dict[str, Apply]:
    """The changes of `CHANGES` that happen, each with random numbers of its own."""
    found = {}
    for name, change in CHANGES.items():
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence((*seeds, case_key(name)))))
        if (apply := change(augmentation, random)) is not None:
            found[name] = apply
    return found


def sample_params(
    names: Sequence[str],
    modalities: Mapping[str, Modality],
    augment: Mapping[str, Augmentation],
    *,
    seed: int,
    epoch: int,
) -> dict[str, list[AugmentationParams]]:
    """The parameters of cases, by their names, in an epoch: a list per modality that is augmented."""
    keys = [case_key(name) for name in names]
    return {
        modality: [
            sample_image_params(augment[modality], fields.size, seed=seed, epoch=epoch, case=key, modality=number)
            for key in keys
        ]
        for number, (modality, fields) in enumerate(modalities.items())
        if augment[modality].enabled
    }


def augmentation(
    dataset: CaseDataset,
    modalities: Mapping[str, Modality],
    augment: Mapping[str, Augmentation],
    *,
    seed: int,
    epoch: int,
) -> Callable[[Batch], dict[str, torch.Tensor]]:
    """A dataset's batches with images augmented by (seed, epoch, case)."""
    present = dataset.present()

    def apply(batch: Batch) -> dict[str, torch.Tensor]:
        indices = batch.indices.tolist()
        names = [dataset.cases[index].name for index in indices]
        params = sample_params(names, modalities, augment, seed=seed, epoch=epoch)
        return augment_batch(batch.images, present[indices], params)  # the batch's own mask is on the device

    return apply


def augment_batch(
    images: Mapping[str, torch.Tensor],
    present: np.ndarray | torch.Tensor,
    params: Mapping[str, Sequence[AugmentationParams]],
) -> dict[str, torch.Tensor]:
    """Augmented copies of (B, 1, *size) images on their device; `params` by modality, one per case.

    present: (B, M) bool, in the computer's memory. Images that are missing stay zeros.
    """
    result = {}
    for number, (name, image) in enumerate(images.items()):
        if name not in params:
            result[name] = image
            continue
        volumes = image[:, 0] if image.ndim == 5 else image[:, 0, :, :, None]  # (B, H, W, D)
        rows = [row for row, has in enumerate(present[:, number].tolist()) if has]
        chosen = [params[name][row] for row in rows]
        augmented = torch.zeros_like(volumes)
        if rows and image.device.type == "cpu":
            _apply_compiled(volumes.numpy(), augmented.numpy(), rows, chosen)
        elif rows:
            where = torch.tensor(rows).to(image.device, non_blocking=True)
            augmented.index_copy_(0, where, apply_on_device(volumes.index_select(0, where), chosen))
        for row, one in zip(rows, chosen, strict=True):
            for apply in one.changes.values():
                augmented[row] = apply(augmented[row])
        result[name] = augmented.reshape(image.shape)
    return result


def apply_on_device(volumes: torch.Tensor, params: Sequence[AugmentationParams]) -> torch.Tensor:
    """(B, H, W, D) float32 -> the same, augmented, in one `grid_sample`."""
    device, shape = volumes.device, volumes.shape[1:]
    matrix = _moved(np.stack([one.matrix for one in params]), device)  # (B, 3, 4)
    axes = [_moved(np.stack([one.coordinates[n] for one in params]), device) for n in range(3)]
    parts = [
        axes[0][:, :, None, None, None] * matrix[:, None, None, None, :, 0],
        axes[1][:, None, :, None, None] * matrix[:, None, None, None, :, 1],
        axes[2][:, None, None, :, None] * matrix[:, None, None, None, :, 2],
    ]
    source = parts[0] + parts[1] + parts[2] + matrix[:, None, None, None, :, 3]  # (B, H, W, D, 3), voxels
    last = _moved(np.array([max(length - 1, 1) for length in shape]), device)
    grid = (2 * source / last - 1).flip(-1).float()
    values = functional.grid_sample(volumes[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[
        :, 0
    ]
    return _with_intensities(volumes, values, params)


def _moved(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """On the device, without waiting for what it computes."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def _with_intensities(
    volumes: torch.Tensor, values: torch.Tensor, params: Sequence[AugmentationParams]
) -> torch.Tensor:
    """Bias field, gamma, gain, shift and noise, a case at a time where it has them."""
    low, high = volumes.flatten(1).amin(1), volumes.flatten(1).amax(1)
    for row, one in enumerate(params):
        value = values[row]
        if one.field[0].size:
            fields = [_moved(part, value.device) for part in one.field]
            value = low[row] + (value - low[row]) * (
                fields[0][:, None, None] * fields[1][None, :, None] * fields[2][None, None, :]
            )
        if one.gamma != 1.0:
            span = (high[row] - low[row]).clamp_min(torch.finfo(value.dtype).tiny)
            value = low[row] + span * ((value - low[row]) / span).clamp(0, 1) ** one.gamma
        value = value * one.gain + one.shift
        if one.noise > 0:
            generator = torch.Generator(value.device).manual_seed(one.key)
            value = value + one.noise * torch.randn(value.shape, generator=generator, device=value.device)
        values[row] = value
    return values


def _apply_compiled(
    volumes: np.ndarray, out: np.ndarray, rows: Sequence[int], params: Sequence[AugmentationParams]
) -> None:
    from vwmm.data.augmentation.warp import warp

    for row, one in zip(rows, params, strict=True):
        image = volumes[row]
        needs_bounds = one.gamma != 1.0 or one.field[0].size > 0
        bounds = (float(image.min()), float(image.max())) if needs_bounds else (0.0, 1.0)
        # The loop runs along the last axis: a slice's only voxel there is better put first.
        order = [2, 0, 1] if image.shape[2] == 1 else [0, 1, 2]
        warp(
            image.transpose(order), out[row].transpose(order), one.matrix[order][:, [*order, 3]],
            *(one.coordinates[axis] for axis in order), tuple(one.field[axis] for axis in order),
            one.gamma, bounds, one.gain, one.shift, one.noise, np.uint64(one.key),
        )  # fmt: skip


_NONE = np.empty(0, dtype=np.float32)


def _matrix(
    shape: Sequence[int],
    dims: int,
    flips: Sequence[bool],
    angles: np.ndarray | None = None,
    zoom: np.ndarray | None = None,
    offset: np.ndarray | None = None,
) -> np.ndarray:
    """(3, 4): output to input voxels, about the image's centre; a 2D image is turned in its plane only."""
    linear = np.diag([-1.0 if flip and axis < dims else 1.0 for axis, flip in enumerate(flips)])
    centre = (np.asarray(shape, dtype=np.float64) - 1) / 2
    shift = np.zeros(3)
    if angles is not None and zoom is not None and offset is not None:
        turned = (
            _rotation(2, angles[2]) if dims == 2 else np.linalg.multi_dot([_rotation(a, angles[a]) for a in range(3)])
        )
        scales = np.array([zoom[axis] if axis < dims else 1.0 for axis in range(3)])
        linear = turned @ np.diag(1 / scales) @ linear
        shift = np.array([offset[axis] if axis < dims else 0.0 for axis in range(3)])
    return np.column_stack([linear, centre - linear @ centre + shift])


def _rotation(axis: int, angle: float) -> np.ndarray:
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _coarsened(length: int, factor: float) -> np.ndarray:
    """Voxel coordinates, those of a coarser voxel's centre where `factor` is above 1."""
    positions = np.arange(length, dtype=np.float64)
    return positions if factor <= 1 else (np.floor(positions / factor) + 0.5) * factor - 0.5


def _field(length: int, slopes: np.ndarray) -> np.ndarray:
    """One axis of a smooth positive field: exp(a u + b (u^2 - 1/3)) for u from -1 to 1."""
    u = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    return np.exp(slopes[0] * u + slopes[1] * (u * u - 1 / 3)).astype(np.float32)
