"""Spacing and resize in one pass against MONAI's two transforms, over affines of every kind."""

from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat

from tests.data.making import OBLIQUE, SHEARED, numbers
from tests.data.monai_recipe import monai_input
from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.transforms.geometry import is_sheared, orient_and_crop, respaced_coordinates, upright_spacing
from vwmm.data.transforms.preprocess import Mode, transform

TURNED = np.eye(4)
TURNED[:3, :3] = euler2mat(0.3, -0.2, 2.5) * [0.7, 0.9, 2.5]
TURNED[:3, 3] = 10, -20, 30
AFFINES = {
    "straight": np.diag([0.7, 0.9, 2.5, 1.0]),
    "backwards": np.array([[0, 0, -2.5, 9], [-0.7, 0, 0, 8], [0, 0.9, 0, 7], [0, 0, 0, 1.0]]),
    "turned": TURNED,
    "as NIfTI keeps it": TURNED.astype(np.float32).astype(np.float64),
    "oblique": OBLIQUE,
    "sheared": SHEARED,
}
SPACINGS = [[1.0, 1.0, 1.0], [0.3, 2.0, 2.5004], [0.7003, 0.9, 9.0], [5.0, 4.0, 3.0]]


def modality(*size: int, **fields: Any) -> Modality:
    return Modality.model_validate({"dims": len(size), "size": size, "orientation": "RAS", **fields})


def image_of(voxels: np.ndarray, affine: np.ndarray) -> Image:
    return Image(voxels, affine, "unknown")


@pytest.mark.parametrize("kind", AFFINES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("window", [None, [-100.0, 900.0]])
@pytest.mark.parametrize("intensity", ["min_max", "z_score", "none"])
def test_spacing_is_monais_bit_for_bit_or_as_good_as(kind: str, spacing: Any, window: Any, intensity: str) -> None:
    source = image_of(np.asfortranarray(numbers(20, 30, 10)), AFFINES[kind])
    recipe = modality(9, 8, 5, spacing_mm=spacing, window_hu=window, intensity=intensity)

    exact, fast = transform(source, recipe), transform(source, recipe, mode="fast")

    expected = monai_input(source, recipe)
    assert exact.tobytes() == expected.tobytes()
    np.testing.assert_allclose(fast, expected, rtol=0, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize("spacing", [[1.0, 1.0], [0.3, 2.0]])
@pytest.mark.parametrize("intensity", ["min_max", "z_score", "none"])
def test_spacing_of_a_slice_is_monais(spacing: Any, intensity: str) -> None:
    for kind in ("backwards", "turned", "oblique"):
        source = image_of(numbers(20, 30, 10).astype(np.float32), AFFINES[kind])
        recipe = modality(9, 8, spacing_mm=spacing, intensity=intensity, slice=3)

        expected = monai_input(source, recipe)

        assert transform(source, recipe).tobytes() == expected.tobytes()
        np.testing.assert_allclose(
            transform(source, recipe, mode="fast"), expected, rtol=0, atol=1e-5 * np.ptp(expected)
        )


def test_the_extremes_are_those_of_the_respaced_image() -> None:
    """One bright and one dark voxel, both between the samples: neither 0 nor 1 is reached at the voxel's own value."""
    voxels = np.full((12, 12, 12), 100, np.int16)
    voxels[5, 5, 5], voxels[8, 8, 8] = 1000, -800
    source, recipe = image_of(voxels, np.eye(4)), modality(8, 8, 8, spacing_mm=[1.5, 1.3, 1.4])

    expected = monai_input(source, recipe)

    np.testing.assert_allclose(transform(source, recipe, mode="fast"), expected, atol=1e-5)


def test_a_spacing_that_leaves_one_voxel_is_all_zeros() -> None:
    source, recipe = image_of(numbers(6, 5, 4), np.eye(4)), modality(3, 3, 3, spacing_mm=[50.0, 50.0, 50.0])

    for found in (transform(source, recipe), transform(source, recipe, mode="fast")):
        np.testing.assert_array_equal(found, monai_input(source, recipe))


def test_shear_alone_needs_the_general_path() -> None:
    spacing = [1.0, 1.0, 1.0]

    found = {kind: respaced_coordinates((20, 30, 10), affine, spacing) is None for kind, affine in AFFINES.items()}

    assert found == {**dict.fromkeys(AFFINES, False), "sheared": True}


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_sheared_volume_is_resampled_to_right_angles_whether_or_not_a_spacing_is_asked_for(mode: Mode) -> None:
    source = image_of(numbers(20, 30, 10), SHEARED)
    turned = orient_and_crop(source, modality(9, 8, 5)).affine
    spacing = upright_spacing(turned[:3, :3])

    found = transform(source, modality(9, 8, 5), mode=mode)

    expected = monai_input(source, modality(9, 8, 5, spacing_mm=spacing))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if mode == "fast" else 0)
    assert np.abs(found - monai_input(source, modality(9, 8, 5))).max() > 0.1  # as if there were no shear
    assert 0 < np.prod(spacing) == pytest.approx(abs(np.linalg.det(SHEARED[:3, :3])))


def test_what_files_are_rounded_by_is_no_shear() -> None:
    tilt = np.eye(3)
    tilt[1, 2] = 0.05

    assert is_sheared((20, 30, 20), tilt)
    assert not is_sheared((20, 30, 10), tilt)
    assert not is_sheared((512, 512, 300), TURNED[:3, :3].round(6))


def test_a_slice_without_right_angles_is_refused() -> None:
    with pytest.raises(ImageError, match="rows and columns of the slice are not at right angles"):
        transform(image_of(numbers(20, 30, 10), SHEARED), modality(9, 8))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR", "ASR"])
def test_the_affine_of_a_turned_image_is_monais(codes: str) -> None:
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import Orientation

    for affine in AFFINES.values():
        tensor: Any = MetaTensor(torch.zeros(1, 20, 30, 10), affine=torch.from_numpy(affine))
        expected: Any = Orientation(axcodes=codes, labels=(("L", "R"), ("P", "A"), ("I", "S")))(tensor)

        at = orient_and_crop(image_of(numbers(20, 30, 10), affine), modality(8, 6, 4, orientation=codes))
        view, found = at.view, at.affine

        assert found.tobytes() == expected.affine.numpy().tobytes()
        assert view.shape == tuple(expected.shape[1:])
        assert "".join(nibabel.aff2axcodes(found)) == codes
