"""The resize by area against torch's, for every layout of the voxels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.making import numbers
from vwmm.data.transforms.area_resize import area_exact, area_fast, bin_size, moments

SHAPES = [((20, 30, 10), (8, 6, 4)), ((20, 30, 10), (20, 7, 13)), ((5, 1, 9), (5, 3, 9)), ((20, 30), (7, 45))]
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda a: a,
    "F": lambda a: np.asfortranarray(a),
    "backwards": lambda a: np.asfortranarray(a[::-1])[::-1],
    "turned": lambda a: np.ascontiguousarray(np.swapaxes(a, 0, -1)).swapaxes(0, -1),
    "part": lambda a: np.repeat(np.repeat(a, 2, 0), 3, -1)[::2, ..., ::3],
}


def torch_area(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    array: np.ndarray = torch.nn.functional.interpolate(tensor[None, None], size, mode="area")[0, 0].numpy()
    return array


@pytest.mark.parametrize(("shape", "size"), SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_exact_resize_has_torchs_bits(shape: Any, size: Any, layout: str) -> None:
    values = LAYOUTS[layout]((numbers(*shape) / 7).astype(np.float32))

    assert area_exact(values, size).tobytes() == torch_area(values, size).tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_stands_for_the_values_themselves(dtype: Any, layout: str) -> None:
    voxels = LAYOUTS[layout](numbers(20, 30, 10).astype(dtype))
    first = int(voxels.min())
    table = (np.arange(first, int(voxels.max()) + 1) / 7).astype(np.float32)

    found = area_exact(voxels, (8, 6, 4), table=table, first=first)

    assert found.tobytes() == torch_area((voxels / 7).astype(np.float32), (8, 6, 4)).tobytes()


@pytest.mark.parametrize(("shape", "size"), SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_fast_resize_is_the_mean_of_clipped_values(shape: Any, size: Any, layout: str, dtype: Any) -> None:
    values = LAYOUTS[layout](numbers(*shape).astype(dtype))

    found = area_fast(values, size, low=-100, high=900)

    expected = torch_area(values.astype(np.float64).clip(-100, 900) + 100, size)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # of 1000


def test_moments_are_those_of_clipped_values() -> None:
    values = numbers(999)

    found = moments(values, np.float32(-100), np.float32(900))

    clipped = values.astype(float).clip(-100, 900) + 100
    np.testing.assert_allclose(found, (clipped.mean(), clipped.std()), rtol=1e-6)


def test_the_largest_window_is_counted() -> None:
    assert bin_size((20, 30, 10), (8, 6, 4)) == 3 * 5 * 3
    assert bin_size((20, 30), (40, 45)) == 1 * 2
