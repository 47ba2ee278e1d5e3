"""Transforms and augmentation in words."""

from typing import Any

import numpy as np
import pytest

from vwmm.config.presets import PRESETS, PresetName
from vwmm.config.schema import Augmentation, Modality
from vwmm.data.augmentation.augment import AugmentationParams, sample_image_params
from vwmm.data.augmentation.captions import describe_params, describe_transforms

OFF: dict[str, Any] = {
    f"{part}_chance": 0 for part in ("flip", "affine", "low_resolution", "bias", "gamma", "intensity", "noise")
}  # fmt: skip


def drawn(size: tuple[int, ...], case: int = 0, **parts: Any) -> AugmentationParams:
    augmentation = Augmentation.model_validate({**OFF, **parts})
    return sample_image_params(augmentation, size, seed=0, epoch=1, case=case, modality=0)


@pytest.mark.parametrize("size", [(12, 10), (12, 10, 8)])
def test_each_part_has_its_words(size: tuple[int, ...]) -> None:
    assert describe_params(drawn(size), size) == "unchanged in this epoch"
    assert describe_params(drawn(size, flip_chance=1), size) == "mirrored along axis 0"
    assert describe_params(drawn(size, flip_chance=1), size, "PLS"[: len(size)]) == "mirrored front–back"
    both = drawn(size, flip_chance=1, flip_axes=[0, 1])
    assert describe_params(both, size, "RA" + "S" * (len(size) - 2)) == "mirrored left–right, mirrored front–back"
    assert describe_params(drawn(size, low_resolution_chance=1), size) == "coarser"
    assert describe_params(drawn(size, bias_chance=1), size) == "uneven brightness"
    assert describe_params(drawn(size, gamma_chance=1), size).startswith("gamma ")
    assert describe_params(drawn(size, intensity_chance=1), size).startswith("values ×")
    assert describe_params(drawn(size, noise_chance=1), size).startswith("noise 0.0")


@pytest.mark.parametrize("flip", [0, 1])
def test_the_numbers_of_an_affine_change_are_those_drawn(flip: int) -> None:
    size = (64, 64)
    chance: dict[str, Any] = {"affine_chance": 1, "flip_chance": flip, "scale": 0, "translate": 0}
    angles, shifts = set(), set()
    for case in range(20):
        turned = describe_params(drawn(size, case, **chance, rotate_deg=10), size)
        moved = describe_params(drawn(size, case, **{**chance, "translate": 0.05}, rotate_deg=0), size)
        assert turned.startswith("mirrored along axis 0, turned by " if flip else "turned by ")
        angles.add(float(turned.split("turned by ")[1].rstrip("°")))
        shifts.add(float(moved.split("moved by ")[1].split()[0]))
    assert 7 < max(angles) <= 10
    assert 2 < max(shifts) <= np.hypot(3.2, 3.2)
    zoomed = describe_params(drawn(size, **{**chance, "scale": 0.1}, rotate_deg=0), size)
    factors = [float(word[1:]) for word in zoomed.split("scaled ")[1].split()]
    matrix = drawn(size, **{**chance, "scale": 0.1}, rotate_deg=0).matrix
    assert factors == pytest.approx([1 / abs(matrix[axis, axis]) for axis in range(2)], abs=0.006)


def test_the_transforms_are_told_in_their_order() -> None:
    modality = Modality(dims=2, size=[8, 6], spacing_mm=[0.5, 0.5], window_hu=[-150, 550])

    assert describe_transforms(modality, (20, 30, 12), slice_index=6) == (
        "slice 6 (from 0) of a volume of 20 × 30 × 12 voxels, turned to RAS, resampled to 0.5 × 0.5 mm, "
        "clipped to −150 … 550 HU, scaled to 0 … 1, resized to 8 × 6"
    )
    plain = Modality(dims=2, size=[8, 6], intensity="none")
    assert describe_transforms(plain, (20, 30)) == "resized to 8 × 6"


def test_every_key_of_a_recipe_has_its_words() -> None:
    modality = Modality(
        dims=3, size=[8, 6, 4], bias_correction=True, crop_foreground_mm=5, clip_percentiles=[0.5, 99.5],
        intensity="z_score_foreground", fit="crop_pad",
    )  # fmt: skip
    assert describe_transforms(modality, (20, 30, 12)) == (
        "N4 bias field divided out, turned to RAS, cropped 5 mm around the foreground, clipped to the percentiles "
        "0.5 … 99.5, scaled to mean 0, standard deviation 1 of the foreground, cropped or padded to 8 × 6 × 4"
    )
    projected = Modality(dims=2, size=[8, 6], slice="maximum_projection", intensity="none")
    assert describe_transforms(projected, (20, 30, 12)).startswith(
        "maximum projection of a volume of 20 × 30 × 12 voxels, turned to RAS"
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_its_words(preset: PresetName) -> None:
    modality = Modality.model_validate({"dims": 3, "size": [8, 6, 4], **PRESETS[preset]})
    assert describe_transforms(modality, (20, 30, 12)).endswith("to 8 × 6 × 4")
