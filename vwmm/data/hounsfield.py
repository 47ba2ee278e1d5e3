"""Whether values can be Hounsfield units: a window would cut other places out of a CT that has lost its rescale."""

# What the 0.5 % to 99.5 % percentiles of a CT may be: padding goes down to -3024 (GE), metal up to 32767 in an extended
# scale, and something in the field of view is at most as dense as fat (-120 to -90 HU; Kamalian et al. 2016,
# doi:10.1016/B978-0-444-53485-9.00001-5, has -100 to -50 for fat and -1000 for air).
LOWEST_HU, HIGHEST_HU, FAT_HU = -3100.0, 32767.0, -30.0
# Below it the image may be a brain without the skull and what is outside, which has no fat either (blood: 80 HU).
_SOFT_HU = 200.0

Levels = tuple[float, float, float, float, float]


def not_hounsfield(levels: Levels) -> str | None:
    """Why the values cannot be Hounsfield units; None: they can. levels: `contents.levels_of`."""
    lowest, low, high, _, _ = levels
    if low < LOWEST_HU or high > HIGHEST_HU:
        return f"{span_of(levels)}: outside what Hounsfield units can be ({LOWEST_HU:g} to {HIGHEST_HU:g})"
    if lowest > FAT_HU and high > _SOFT_HU:
        return f"{span_of(levels)}: neither air nor fat, which are below {FAT_HU:g} HU; they may be stored values"
    return None


def span_of(levels: Levels) -> str:
    """The values in words."""
    return f"values {levels[0]:.5g} to {levels[3]:.5g}"
