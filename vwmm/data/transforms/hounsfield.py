"""Can values be Hounsfield units, or did a CT lose its rescale?"""

from dataclasses import dataclass

import numpy as np

# What the 0.5 % to 99.5 % percentiles of a CT may be: padding goes down to -3024 (GE), metal up to 32767 in an extended
# scale, and something in the field of view is at most as dense as fat (-120 to -90 HU; Kamalian et al. 2016,
# doi:10.1016/B978-0-444-53485-9.00001-5, has -100 to -50 for fat and -1000 for air).
LOWEST_HU, HIGHEST_HU, FAT_HU = -3100.0, 32767.0, -30.0
_AIR_RANGE_HU = (-1100.0, -900.0)
# Below it the image may be a brain without the skull and what is outside, which has no fat either (blood: 80 HU).
_SOFT_HU = 200.0
# Soft tissue that is 1024 too high: no patient has as much bone of that density, and so little of half of it.
_SHIFTED_SOFT, _HALF, _SHIFTED_SHARE, _AIR_SHARE = (924.0, 1174.0), (400.0, 650.0), 0.1, 0.01
# The median of what is not 0 in a CT that was masked: brain and other soft tissue.
_MASKED_HU, _MASKED_SHARE = (10.0, 90.0), 0.1
# Noise alone spans more in a CT.
_NARROWEST_HU = 10.0
# One value above bone in this share of an image is no metal.
_DENSEST_HU, _FILL_SHARE = 4000.0, 0.02
_PADDING_GAP = 200.0
_NUM_SAMPLES = 30_000


@dataclass(frozen=True)
class HounsfieldSigns:
    """The values of an image that show whether they are Hounsfield units."""

    problem: str
    """Why they cannot be; empty: they can."""
    is_masked: bool
    """Whether it looks like a CT in which all but soft tissue was set to 0."""


POSSIBLE = HounsfieldSigns("", is_masked=False)


def hounsfield_signs(voxels: np.ndarray, bounds: tuple[float, float] | None = None) -> HounsfieldSigns:
    """From at most 30,000 voxels, evenly taken, and the ends of all. bounds: these, where they are known."""
    flat = voxels.reshape(-1, order="A")
    sample = _without_fill(flat[:: 1 + flat.size // _NUM_SAMPLES].astype(np.float32))
    lowest, highest = bounds or (float(flat.min()), float(flat.max()))
    low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5)))
    span = f"values {lowest:.5g} to {highest:.5g}"
    nonzero = sample[sample != 0]
    is_masked = bool(
        nonzero.size
        and nonzero.size <= (1 - _MASKED_SHARE) * sample.size
        and _MASKED_HU[0] <= np.median(nonzero) <= _MASKED_HU[1]
    )
    if low < LOWEST_HU or high > HIGHEST_HU:
        problem = f"outside what Hounsfield units can be ({LOWEST_HU:g} to {HIGHEST_HU:g})"
    elif high - low < _NARROWEST_HU:
        problem = f"they span {high - low:.3g}, less than the noise of a CT; they may be scaled"
    elif highest > _DENSEST_HU and float(np.mean(sample == highest)) >= _FILL_SHARE:
        problem = f"{np.mean(sample == highest):.0%} of them are {highest:g}, which is no tissue; padding is to be air"
    elif float(sample.min()) > FAT_HU and high > _SOFT_HU and not is_masked:
        problem = f"neither air nor fat, which are below {FAT_HU:g} HU; they may be stored values"
    elif _share(sample, _AIR_RANGE_HU) < _AIR_SHARE and _is_shifted(sample):
        problem = "no air, and much soft tissue if they are 1024 too high; they may be stored values"
    else:
        problem = ""
    return HounsfieldSigns(f"{span}: {problem}" if problem else "", is_masked)


def _is_shifted(sample: np.ndarray) -> bool:
    soft = _share(sample, _SHIFTED_SOFT)
    return soft >= max(_SHIFTED_SHARE, 2 * _share(sample, _HALF))


def _share(sample: np.ndarray, bounds: tuple[float, float]) -> float:
    return float(np.mean((sample > bounds[0]) & (sample < bounds[1])))


def _without_fill(sample: np.ndarray) -> np.ndarray:
    """Without what fills the outside of a round field of view, which a CT in stored values has at -1024 or -1000."""
    lowest = sample.min()
    others = sample[sample != lowest]
    is_fill = others.size and lowest < FAT_HU and float(others.min()) - float(lowest) >= _PADDING_GAP
    return others if is_fill else sample
