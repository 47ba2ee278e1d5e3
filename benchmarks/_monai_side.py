"""What a user of MONAI would write for the same task: the recipe, the caching datasets, the augmentation."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset, PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
    Resized,
    ScaleIntensityd,
    Spacingd,
)

from vwmm.config.schema import Augmentation, Modality

Items = Sequence[dict[str, Path]]


def recipe(modalities: dict[str, Modality]) -> Compose:
    """Load, channel first, orientation and spacing where they are asked for, intensity to 0..1, resize (area)."""
    names = list(modalities)
    steps: list[Any] = [LoadImaged(names, image_only=True), EnsureChannelFirstd(names)]
    for name, modality in modalities.items():
        if modality.orientation is not None and modality.dims == 3:
            labels = (("L", "R"), ("P", "A"), ("I", "S"))
            steps.append(Orientationd(name, axcodes=modality.orientation, labels=labels))
        if modality.spacing_mm is not None:
            steps.append(Spacingd(name, pixdim=modality.spacing_mm, mode="bilinear", padding_mode="border"))
    steps.append(ScaleIntensityd(names))
    steps += [Resized(name, spatial_size=modality.size) for name, modality in modalities.items()]
    return Compose(steps)


def augmentation(modalities: dict[str, Modality], settings: Augmentation) -> Compose:
    """vwmm's default augmentation, part by part, in MONAI's transforms."""
    steps: list[Any] = []
    angle = float(np.deg2rad(settings.rotate_deg))
    for name, modality in modalities.items():
        steps += [RandFlipd(name, prob=settings.flip_chance, spatial_axis=axis) for axis in settings.flip_axes]
        steps += [
            RandAffined(
                name,
                prob=settings.affine_chance,
                rotate_range=[angle] * (1 if modality.dims == 2 else 3),
                scale_range=[settings.scale] * modality.dims,
                translate_range=[settings.translate * length for length in modality.size],
                padding_mode="border",
            ),
            RandSimulateLowResolutiond(
                name,
                prob=settings.low_resolution_chance,
                zoom_range=(1 / settings.low_resolution, 1.0),
                upsample_mode="trilinear" if modality.dims == 3 else "bilinear",
            ),
            RandBiasFieldd(name, prob=settings.bias_chance, degree=2, coeff_range=(0.0, settings.bias_field)),
            RandAdjustContrastd(
                name, prob=settings.gamma_chance, gamma=(float(np.exp(-settings.gamma)), float(np.exp(settings.gamma)))
            ),
            RandScaleIntensityd(name, prob=settings.intensity_chance, factors=settings.scale_intensity),
            RandShiftIntensityd(name, prob=settings.intensity_chance, offsets=settings.shift_intensity),
            RandGaussianNoised(name, prob=settings.noise_chance, std=settings.noise_std),
        ]
    return Compose(steps)


def cached(items: Items, steps: Compose) -> CacheDataset:
    """Every image in memory."""
    return CacheDataset(items, steps, cache_rate=1.0, num_workers=1, progress=False)


def persistent(items: Items, steps: Compose, folder: Path) -> PersistentDataset:
    """Every image in a file of its own."""
    return PersistentDataset(items, steps, cache_dir=folder)


def plain(items: Items, steps: Compose) -> Dataset:
    """Nothing is kept."""
    return Dataset(items, steps)


def batches(dataset: Any, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    """In order, without worker processes, which make a cached dataset slower."""
    return iter(DataLoader(dataset, batch_size=batch_size, num_workers=0))
