"""How an image plane lies on the page: as radiologists view it.

The patient's right is on the viewer's left, superior or else anterior is up; in a sagittal plane anterior is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The patient's three directions, and of each the side that belongs on the left or above, and the other one.
DIRECTIONS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
FIRST_SIDES, LAST_SIDES = "RAS", "LPI"
NAMES = ("sagittal", "coronal", "axial")  # the plane that is perpendicular to each direction


@dataclass(frozen=True)
class Plane:
    """One plane of an image, and how its two axes are drawn."""

    across: int
    """The axis that runs from left to right."""
    down: int
    """The axis that runs from top to bottom."""
    fixed: int | None
    """The axis that the plane is perpendicular to, in the middle of it; None for a 2D image."""
    reversed_axes: tuple[int, ...]
    """Axes that are drawn against their direction."""
    sides: tuple[str, str, str, str] | None
    """What is left, right, above and below, such as `RLAP`; None: unknown."""
    name: str
    """`axial`, `coronal` or `sagittal`; empty where that is unknown or the image is 2D."""

    def cut(self, voxels: np.ndarray) -> np.ndarray:
        """(rows, columns) of the page."""
        picture = voxels if self.fixed is None else voxels.take(voxels.shape[self.fixed] // 2, axis=self.fixed)
        picture = picture if self.across > self.down else picture.T
        flips = [-1 if axis in self.reversed_axes else 1 for axis in (self.down, self.across)]
        return picture[:: flips[0], :: flips[1]]

    def aspect(self, shape: Sequence[int], spacing: Sequence[float]) -> float:
        """Height by width of the picture; `spacing`: a voxel's lengths along the image's axes."""
        return shape[self.down] * spacing[self.down] / (shape[self.across] * spacing[self.across])


def planes_of(dims: int, orientation: str | None) -> list[Plane]:
    """The plane of a 2D image; of a volume the axial, coronal and sagittal one.

    orientation: where each axis points, such as `RAS` or `LP`. Without it, the axes are drawn in their own directions,
    the first across and the second down, as in a picture file; the large plane is perpendicular to the last.
    """
    assert orientation is None or len(orientation) == dims, f"{orientation} does not name {dims} axes"
    if dims == 2:
        return [_plane((0, 1), None, orientation)]
    order = [2, 1, 0] if orientation is None else sorted(range(3), key=lambda axis: -DIRECTIONS[orientation[axis]])
    return [_plane([axis for axis in range(3) if axis != fixed], fixed, orientation) for fixed in order]


def _plane(axes: Sequence[int], fixed: int | None, orientation: str | None) -> Plane:
    if orientation is None:
        return Plane(axes[0], axes[1], fixed, (), None, "")
    across, down = sorted(axes, key=lambda axis: DIRECTIONS[orientation[axis]])
    directions = DIRECTIONS[orientation[across]], DIRECTIONS[orientation[down]]
    sides = "".join(FIRST_SIDES[n] + LAST_SIDES[n] for n in directions)
    return Plane(
        across,
        down,
        fixed,
        # An axis that points to what belongs on the left or above runs against the page.
        tuple(axis for axis in (across, down) if orientation[axis] in FIRST_SIDES),
        (sides[0], sides[1], sides[2], sides[3]),
        "" if fixed is None else NAMES[DIRECTIONS[orientation[fixed]]],
    )
