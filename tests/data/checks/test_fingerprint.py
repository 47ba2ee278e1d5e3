"""What an image shows, whatever file it is in."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import numbers, write_dicom, write_nifti
from vwmm.data.checks.fingerprint import MINIATURE, bright_border_of, levels_of, miniature_of, part_means, voxel_hash
from vwmm.data.readers.read import read_image


def test_the_hash_is_the_same_in_each_direction_and_dtype() -> None:
    voxels = numbers(5, 6, 7)
    expected = voxel_hash(voxels)

    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turned = voxels.transpose(axes)[:: signs[0], :: signs[1], :: signs[2]]
            assert voxel_hash(turned) == expected
    assert voxel_hash(voxels.astype(np.float32)) == voxel_hash(voxels[..., None][..., 0]) == expected


@pytest.mark.parametrize("change", ["a voxel", "two voxels exchanged", "a line less"])
def test_another_image_has_another_hash(change: str) -> None:
    voxels, other = numbers(5, 6, 7), numbers(5, 6, 7)
    if change == "a voxel":
        other[1, 2, 3] += 1
    elif change == "two voxels exchanged":  # the same histogram, and the same sums along the first axis
        other[1, 2, 3], other[1, 4, 5] = voxels[1, 4, 5], voxels[1, 2, 3]
    else:
        other = other[:, 1:]

    assert voxel_hash(other) != voxel_hash(voxels)


def test_a_slice_of_dicom_and_of_nifti_and_of_an_array_are_the_same(tmp_path: Path) -> None:
    pixels = numbers(9, 7).clip(0)
    dicom = read_image(write_dicom(tmp_path / "a.dcm", pixels))
    nifti = read_image(write_nifti(tmp_path / "b.nii.gz", (pixels.T - 1024)[::-1, :, None].astype(np.int16)))
    np.save(tmp_path / "c.npy", (pixels - 1024).astype(np.float64))

    hashes = {voxel_hash(image.voxels) for image in (dicom, nifti, read_image(tmp_path / "c.npy"))}

    assert len(hashes) == 1


@pytest.mark.parametrize("shape", [(100, 90), (20, 30), (40, 50, 12), (64, 64, 1)])
def test_a_miniature_has_a_fixed_size_and_no_unit(shape: tuple[int, ...]) -> None:
    voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    small = miniature_of(voxels)

    assert small.dtype == np.uint8
    assert small.shape == MINIATURE[2 if 1 in shape or len(shape) == 2 else 3]
    assert (small.min(), small.max()) == (0, 255)
    np.testing.assert_array_equal(small, miniature_of(voxels * 8 + 16))


def test_the_fewest_slices_come_last() -> None:
    voxels = numbers(12, 40, 50)

    np.testing.assert_array_equal(miniature_of(voxels), miniature_of(np.moveaxis(voxels, 0, 2)))


def test_means_of_parts_add_up() -> None:
    weights = part_means(10, 4)

    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[0], [0.4, 0.4, 0.2, 0, 0, 0, 0, 0, 0, 0], atol=1e-6)


def test_levels_know_air() -> None:
    voxels = np.full((10, 10), 50, np.int16)
    voxels[:3] = -1000

    lowest, _, _, highest, air = levels_of(voxels)

    assert (lowest, highest) == (-1000, 50)
    assert air == pytest.approx(0.3)


def test_the_bright_border_is_that_of_the_rows_and_columns_of_each_slice() -> None:
    x, y = np.mgrid[:20, :20] - 9.5
    head = np.where(np.hypot(x, y) < 7, 900.0, 10)
    volume = np.stack([head] * 5, -1)

    assert bright_border_of(volume) == bright_border_of(head) == 0
    assert bright_border_of(1000 - volume) == bright_border_of((1000 - volume).transpose(2, 0, 1)) == 1
