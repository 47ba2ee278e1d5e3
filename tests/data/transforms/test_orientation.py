"""Which way an image is turned does not depend on the last digit of a header, nor on how its axes are stored."""

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from tests.data.making import numbers
from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.foreground import bias_corrected
from vwmm.data.transforms.orientation import axis_codes, orientation_of
from vwmm.data.transforms.preprocess import load_input

HALF = float(np.sqrt(0.5))


def turned(degrees: float, plane: tuple[int, int]) -> np.ndarray:
    """(3, 3): axes of unit length, two of them turned within their plane."""
    axes, angle = np.eye(3), np.deg2rad(degrees)
    (a, b) = plane
    axes[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return axes


@pytest.mark.parametrize("degrees", [45, 135, 225, 315])
@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_exact_ties_are_decided_by_where_the_axes_point(degrees: float, plane: tuple[int, int], tmp_path: Path) -> None:
    """Every order and direction that a file may store the axes in, and cosines of 4 to 17 digits."""
    voxels, sizes = numbers(9, 8, 7), np.array([1.2, 1.5, 2.5])
    recipe = Modality(dims=3, size=[9, 8, 7], intensity="none", fit="crop_pad")
    inputs = []
    for digits, order, flips in itertools.product(
        (4, 6, 7, 17), itertools.permutations(range(3)), ((0, 0, 0), (1, 0, 1))
    ):
        affine = np.eye(4)
        affine[:3, :3] = turned(degrees, plane).round(digits) * sizes
        stored, affine = voxels.transpose(order), affine[:, [*order, 3]]
        for axis, is_flipped in enumerate(flips):
            if is_flipped:
                stored = np.flip(stored, axis)
                affine[:3, 3] += affine[:3, axis] * (stored.shape[axis] - 1)
                affine[:3, axis] *= -1
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), tmp_path / "a.nii")
        inputs.append(load_input(tmp_path / "a.nii", recipe))

    for found in inputs:
        np.testing.assert_array_equal(found, inputs[0])


def test_away_from_ties_it_is_nibabels_orientation() -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        axes = np.linalg.qr(generator.normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = (axes @ np.diag(generator.uniform(0.4, 3, 3))).round(6)
        shares = np.sort(np.abs(axes), axis=0)
        if (shares[-1] - shares[-2]).min() > 0.01 and np.ptp(np.sort(np.abs(axes).max(axis=0))[:2]) > 0.01:
            np.testing.assert_array_equal(orientation_of(affine), nibabel.io_orientation(affine))
    assert axis_codes(np.diag([-1.0, 2, -3, 1])) == "LAI"


def bright_head() -> np.ndarray:
    """(28, 24, 20) int16: a body with the field of a coil."""
    x, y, z = np.mgrid[:28, :24, :20].astype(float)
    body = ((x - 14) / 12) ** 2 + ((y - 12) / 10) ** 2 + ((z - 10) / 9) ** 2 < 1
    field = 1 + 0.5 * np.sin(x / 28 * 2.5 + 0.3) + 0.35 * (y / 24) ** 2
    noise = np.random.default_rng(3).normal(0, 15, x.shape)
    return (np.where(body, 1100.0, 80) * field + noise).clip(1).astype(np.int16)


@pytest.mark.parametrize("orientation", ["RAS", None])
@pytest.mark.parametrize("stored", ["flipped", "transposed", "rounded"])
def test_n4_does_not_depend_on_how_the_image_is_stored(stored: str, orientation: str | None) -> None:
    voxels, affine = bright_head(), np.diag([0.5, 0.6, 1.0, 1])
    expected = bias_corrected(Image(voxels, affine, "unknown"), "otsu").voxels
    other, there, back = voxels, affine.copy(), lambda array: array
    if stored == "flipped":
        other, there[0, 0], back = voxels[::-1], -0.5, lambda array: array[::-1]
    elif stored == "transposed":
        other, there, back = voxels.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]], lambda array: array.transpose(1, 2, 0)
    else:
        there[1, 1] = float(np.float32(0.6))

    found = bias_corrected(Image(np.ascontiguousarray(other), there, "unknown"), "otsu").voxels

    np.testing.assert_array_equal(back(found), expected)


def test_n4_of_a_slice_is_the_same_for_two_axes_and_three(tmp_path: Path) -> None:
    plane = bright_head()[..., 10].T
    for name, array in (("two", plane), ("three", plane[None])):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([0.5, 0.6, 1.0][: array.ndim])
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    for orientation in ("RAS", None):
        recipe = Modality(dims=2, size=[28, 24], bias_correction=True, intensity="none", orientation=orientation)
        two, three = (load_input(tmp_path / f"{name}.mha", recipe) for name in ("two", "three"))
        np.testing.assert_array_equal(two, three)
    assert read_image(tmp_path / "two.mha").voxels.ndim == 2


@pytest.mark.parametrize("slope", [0.0031746, 1.7])
def test_n4_does_not_depend_on_how_scaled_integers_are_rounded(slope: float, tmp_path: Path) -> None:
    stored, affine = bright_head(), np.diag([0.5, 0.6, 1.0, 1])
    found = list[np.ndarray]()
    for values in ((stored * slope).astype(np.float32), stored * np.float32(slope)):
        image = Image(np.nextafter(values, np.float32(9e9)) if len(found) else values, affine, "unknown", step=slope)
        found.append(bias_corrected(image, "otsu").voxels)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_a_grid_at_a_tie_does_not_depend_on_the_digits_of_a_position(tmp_path: Path) -> None:
    """19 slices of 2.5 mm are 47.5 mm: at 1 mm, 48 or 49 of them."""
    smooth = np.linspace(0, 1, 32)[:, None, None] + np.linspace(0, 1, 32)[:, None] + np.linspace(0, 2, 20)
    recipe = Modality(dims=3, size=[16, 16, 16], spacing_mm=[1, 1, 1], intensity="none")
    inputs = []
    for number, distance in enumerate((2.5, 2.5000228, 2.4999772)):
        nibabel.save(
            nibabel.Nifti1Image(smooth.astype(np.float32), np.diag([-1, -1, distance, 1.0])), tmp_path / "a.nii"
        )
        inputs.append(load_input(tmp_path / "a.nii", recipe))
        np.testing.assert_allclose(inputs[number], inputs[0], atol=2e-4)
