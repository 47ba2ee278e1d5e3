"""Augmentation: drawn from (seed, epoch, case), the same by the compiled loop and by torch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from vwmm.config.schema import Augmentation, Modality
from vwmm.data.augmentation.augment import (
    AugmentationParams,
    apply_on_device,
    augment_batch,
    case_key,
    sample_image_params,
    sample_params,
)

OFF: dict[str, Any] = {
    "flip_chance": 0, "affine_chance": 0, "low_resolution_chance": 0, "bias_chance": 0, "gamma_chance": 0,
    "intensity_chance": 0, "noise_chance": 0,
}  # fmt: skip
PARTS: dict[str, dict[str, Any]] = {
    "flip": {"flip_chance": 1, "flip_axes": [0, 1]},
    "affine": {"affine_chance": 1, "rotate_deg": 30, "scale": 0.3, "translate": 0.2},
    "low resolution": {"low_resolution_chance": 1, "low_resolution": 4},
    "bias field": {"bias_chance": 1, "bias_field": 0.5},
    "gamma": {"gamma_chance": 1, "gamma": 0.7},
    "intensity": {"intensity_chance": 1, "scale_intensity": 0.3, "shift_intensity": 0.3},
}
EVERYTHING = {key: value for part in PARTS.values() for key, value in part.items()}
SIZES = [(18, 14, 10), (20, 16)]


def smooth_images(size: tuple[int, ...], count: int = 4) -> torch.Tensor:
    """(B, 1, *size) float32 with structure at several voxels' scale."""
    coarse = torch.rand(count, 1, *(length // 4 for length in size), generator=torch.Generator().manual_seed(1))
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return functional.interpolate(coarse, size=size, mode=mode)


def params_of(
    augmentation: Augmentation, size: tuple[int, ...], count: int = 4, epoch: int = 1
) -> list[AugmentationParams]:
    return [
        sample_image_params(augmentation, size, seed=0, epoch=epoch, case=case_key(str(n)), modality=0)
        for n in range(count)
    ]


def augmented(
    images: torch.Tensor, params: list[AugmentationParams], present: torch.Tensor | None = None
) -> torch.Tensor:
    mask = torch.ones(len(images), 1, dtype=torch.bool) if present is None else present
    return augment_batch({"ct": images}, mask, {"ct": params})["ct"]


@pytest.mark.parametrize("size", SIZES, ids=["3D", "2D"])
@pytest.mark.parametrize("part", [*PARTS, "everything"])
def test_the_compiled_loop_agrees_with_torch(part: str, size: tuple[int, ...]) -> None:
    augmentation = Augmentation.model_validate({**OFF, **PARTS.get(part, EVERYTHING)})
    images, params = smooth_images(size), params_of(augmentation, size)
    volumes = images[:, 0] if len(size) == 3 else images[:, 0, :, :, None]
    expected = apply_on_device(volumes, params).reshape(images.shape)
    found = augmented(images, params)
    assert (found - images).abs().max() > 0.05, "this part does nothing"
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_the_affine_part_is_grid_sample_with_the_same_matrix() -> None:
    size = (18, 14, 10)
    augmentation = Augmentation.model_validate({**OFF, **PARTS["affine"]})
    images, params = smooth_images(size), params_of(augmentation, size)
    last = np.array(size, dtype=np.float64) - 1
    thetas = []
    for one in params:
        linear = one.matrix[:, :3] * last / last[:, None]
        offset = (2 * (one.matrix[:, 3] + one.matrix[:, :3] @ (last / 2)) / last) - 1
        thetas.append(np.column_stack([linear[::-1, ::-1], offset[::-1]]))
    grid = functional.affine_grid(torch.tensor(np.stack(thetas)), list(images.shape), align_corners=True).float()
    expected = functional.grid_sample(images, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(augmented(images, params), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES, ids=["3D", "2D"])
def test_with_every_chance_at_zero_nothing_changes_a_bit(size: tuple[int, ...]) -> None:
    images = smooth_images(size)
    assert torch.equal(augmented(images, params_of(Augmentation.model_validate(OFF), size)), images)


def test_a_flip_mirrors_the_axes_that_may_be_mirrored() -> None:
    augmentation = Augmentation.model_validate({**OFF, "flip_chance": 1, "flip_axes": [1]})
    images = smooth_images((18, 14, 10))
    torch.testing.assert_close(augmented(images, params_of(augmentation, (18, 14, 10))), images.flip(3))


def test_sampled_parameters_depend_on_seed_epoch_case_and_modality_only() -> None:
    def key(seed: int = 0, epoch: int = 1, case: str = "a", modality: int = 0) -> int:
        one = sample_image_params(
            Augmentation(), (8, 8), seed=seed, epoch=epoch, case=case_key(case), modality=modality
        )
        return one.key

    assert key() == key()
    assert len({key(), key(seed=1), key(epoch=2), key(case="b"), key(modality=1)}) == 5


def test_the_draws_of_cases_are_those_of_each_image_and_leave_out_what_is_not_augmented() -> None:
    sizes = {"mri": [9, 8], "pet": [7, 6], "ct": [8, 7, 6]}
    modalities = {name: Modality(dims=2 if len(size) == 2 else 3, size=size) for name, size in sizes.items()}
    augment = {"mri": Augmentation(), "pet": Augmentation(enabled=False), "ct": Augmentation()}

    params = sample_params(["a", "b"], modalities, augment, seed=5, epoch=3)

    assert list(params) == ["mri", "ct"]
    for number, name in ((0, "mri"), (2, "ct")):
        for case, one in zip("ab", params[name], strict=True):
            expected = sample_image_params(
                Augmentation(), sizes[name], seed=5, epoch=3, case=case_key(case), modality=number
            )
            assert one.key == expected.key
            np.testing.assert_array_equal(one.matrix, expected.matrix)


def test_a_case_is_augmented_the_same_in_any_company() -> None:
    augmentation = Augmentation.model_validate({**EVERYTHING, "noise_chance": 1, "noise_std": 0.2})
    images, params = smooth_images((20, 16)), params_of(augmentation, (20, 16))
    together = augmented(images, params)
    for row in range(4):
        assert torch.equal(augmented(images[row : row + 1], params[row : row + 1])[0], together[row])


def test_switching_one_part_off_leaves_the_draws_of_the_others() -> None:
    on = Augmentation.model_validate(EVERYTHING)
    without = on.model_copy(update={"bias_chance": 0.0})
    for a, b in zip(params_of(on, (20, 16)), params_of(without, (20, 16)), strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        assert (a.gamma, a.gain, a.shift, a.key) == (b.gamma, b.gain, b.shift, b.key)
        assert b.field[0].size == 0


def test_a_missing_image_stays_zero() -> None:
    augmentation = Augmentation.model_validate({**EVERYTHING, "noise_chance": 1})
    images = smooth_images((20, 16))
    images[2] = 0
    present = torch.tensor([[True], [True], [False], [True]])
    found = augmented(images, params_of(augmentation, (20, 16)), present)
    assert not found[2].any()
    assert found[3].any()


def test_the_noise_is_white_with_the_standard_deviation_drawn() -> None:
    augmentation = Augmentation.model_validate({**OFF, "noise_chance": 1, "noise_std": 0.2})
    params = params_of(augmentation, (64, 64), count=1)
    noise = augmented(torch.zeros(1, 1, 64, 64), params).flatten() / params[0].noise
    assert noise.mean().abs() < 0.05
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(torch.stack([noise[1:], noise[:-1]]))[0, 1].abs() < 0.05


def test_no_global_random_state_is_used() -> None:
    augmentation = Augmentation.model_validate({**EVERYTHING, "noise_chance": 1})
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    augmented(smooth_images((20, 16)), params_of(augmentation, (20, 16)))
    apply_on_device(smooth_images((18, 14, 10))[:, 0], params_of(augmentation, (18, 14, 10)))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
