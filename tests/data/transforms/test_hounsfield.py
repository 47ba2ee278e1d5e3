"""A CT that has lost its rescale is found with any padding and noise; a CT that has not is never blamed."""

import numpy as np
import pytest
from scipy.ndimage import zoom

from vwmm.data.transforms.hounsfield import hounsfield_signs

Y, X = np.mgrid[:64, :64] - 32.0
RADIUS = np.hypot(X, Y)
RNG = np.random.default_rng(0)


def head(noise: float = 8.0) -> np.ndarray:
    """(64, 64, 3) of a head in air, in HU."""
    hu = np.select([RADIUS < 19, RADIUS < 22, RADIUS < 24], [40.0, 700, -90], -1000)
    return np.stack([hu + RNG.normal(0, noise, hu.shape) for _ in range(3)], -1)


def outside(values: np.ndarray, value: float) -> np.ndarray:
    return np.where((RADIUS > 31)[..., None], value, values)


def masked(inside: float) -> np.ndarray:
    """A brain, or a heart, with contrast medium; all else is 0."""
    values = np.where(RADIUS < 4, 350, inside) + RNG.normal(0, 5, RADIUS.shape)
    return np.stack([np.where(RADIUS < 20, values, 0)] * 3, -1)


LOST = {
    "clean": head() + 1024,
    "noisy": head(30) + 1024,
    "very noisy": head(60) + 1024,
    "padded by -1024": outside(head() + 1024, -1024),
    "padded by -1000": outside(head(30) + 1024, -1000),
    "padded and resampled": zoom(outside(head() + 1024, -2000), (1.3, 1.3, 1), order=1),
    "clipped at 0": (head() + 1024).clip(0),
    "masked": np.where(masked(40) == 0, 0, masked(40) + 1024),
    "0 to 1": (head() + 1024) / 2800,
    "thousandths": head() / 1000,
    "padded by 31743": outside(head(), 31743),
    "unsigned padding": outside(head(), 62512),
}
WHOLE = {
    "clean": head(),
    "noisy": head(60),
    "padded by -1024": outside(head(), -1024),
    "padded by -3024": outside(head(), -3024),
    "masked": masked(40),
    "masked, no contrast": np.where(RADIUS[..., None] < 20, head(5), 0),
    "clipped at 0": head().clip(0),
    "in air and metal": np.where((RADIUS < 2)[..., None], 30000, head()),
    "lungs": np.where((RADIUS < 15)[..., None], head() - 850, head()),
    "bone": np.where((RADIUS < 19)[..., None], head() + 900, head()),
}


@pytest.mark.parametrize("name", LOST)
def test_values_that_are_no_hounsfield_units_are_found(name: str) -> None:
    assert hounsfield_signs(LOST[name].astype(np.float32)).problem


@pytest.mark.parametrize("name", WHOLE)
def test_a_ct_in_hounsfield_units_is_not_blamed(name: str) -> None:
    assert hounsfield_signs(WHOLE[name].astype(np.float32)).problem == ""


def test_a_masked_ct_is_known_by_soft_tissue_in_nothing() -> None:
    assert hounsfield_signs(masked(40)).is_masked
    assert not hounsfield_signs(head()).is_masked
    assert not hounsfield_signs(LOST["masked"]).is_masked
