"""The anatomical direction of each image axis.

As nibabel's `io_orientation`, but cosines are rounded first: exactly between two directions (45, 135 degrees) the last
digit of a header, which formats round differently, would decide. There the axes' own directions do.
"""

import numpy as np

# Digits of a cosine that count: DICOM's have six, a NIfTI's affine seven.
_DIGITS = 3


def orientation_of(affine: np.ndarray) -> np.ndarray:
    """(3, 2): for each axis of the image, the axis of RAS that it follows most, and 1 or -1 for its direction.

    affine: (4, 4), voxel indices to RAS, an axis in each column, none of them without length.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(axes)
    cosines = left @ right  # without shear (nibabel's polar decomposition)
    shares = np.abs(cosines).round(_DIGITS)
    # From the axis that is nearest to one of the patient's; of equals, by where they point, not by how they are stored.
    order = sorted(range(3), key=lambda axis: (-shares[:, axis].max(), _line(cosines[:, axis])))
    found, free = np.ones((3, 2)), [0, 1, 2]
    for axis in order:
        row = max(free, key=lambda row: (shares[row, axis], -row))
        free.remove(row)
        found[axis] = row, -1 if cosines[row, axis] < 0 else 1
    return found


def axis_codes(affine: np.ndarray) -> str:
    """`RAS`, `LPI`, ...: the side that each axis of the image points to."""
    from nibabel.orientations import ornt2axcodes

    return "".join(map(str, ornt2axcodes(orientation_of(affine))))


def _line(direction: np.ndarray) -> tuple[float, ...]:
    """A direction without its sign, so that lines can be sorted."""
    rounded = direction.round(_DIGITS)
    first = rounded[np.flatnonzero(rounded)[0]]
    return tuple((-rounded * np.sign(first)).tolist())
