"""How planes lie on the page: a marked voxel at each side of the patient must be found on that side."""

from itertools import permutations, product

import numpy as np
import pytest

from vwmm.analysis.figures.radiological_view import planes_of

ORIENTATIONS = ["".join(codes) for axes in permutations(["RL", "AP", "SI"]) for codes in product(*axes)]
OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


def marked(orientation: str, side: str) -> np.ndarray:
    """Zeros with ones on the outermost voxels of one side of the patient; axes of 4, 6 and 8 voxels, last to first."""
    voxels = np.zeros((8, 6, 4)[-len(orientation) :])
    axis = next(n for n, code in enumerate(orientation) if code in (side, OPPOSITE[side]))
    at: list[slice | int] = [slice(None)] * voxels.ndim
    at[axis] = -1 if orientation[axis] == side else 0
    voxels[tuple(at)] = 1
    return voxels


def side_of_page(picture: np.ndarray) -> str:
    """Where the ones are, if they are one edge of the picture."""
    edges = {"left": picture[:, 0], "right": picture[:, -1], "above": picture[0], "below": picture[-1]}
    return next(name for name, edge in edges.items() if edge.all() and picture.sum() == edge.size)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_each_side_of_the_patient_is_where_a_radiologist_looks_for_it(orientation: str) -> None:
    axial, coronal, sagittal = planes_of(3, orientation)

    assert (axial.name, coronal.name, sagittal.name) == ("axial", "coronal", "sagittal")
    for plane, sides in ((axial, "RLAP"), (coronal, "RLSI"), (sagittal, "APSI")):
        assert plane.sides == tuple(sides)
        for side, place in zip(sides, ("left", "right", "above", "below"), strict=True):
            assert side_of_page(plane.cut(marked(orientation, side))) == place


@pytest.mark.parametrize("orientation", ["RA", "LP", "PS", "IA", "SR"])
def test_a_slice_lies_like_the_plane_of_a_volume(orientation: str) -> None:
    (plane,) = planes_of(2, orientation)

    assert plane.sides is not None
    for side, place in zip(plane.sides, ("left", "right", "above", "below"), strict=True):
        assert side_of_page(plane.cut(marked(orientation, side))) == place


def test_without_an_orientation_the_first_axis_runs_across_and_the_second_down() -> None:
    picture = np.arange(6).reshape(2, 3)
    volume = np.arange(24).reshape(2, 3, 4)

    (plane,) = planes_of(2, None)
    large, *_ = planes_of(3, None)

    np.testing.assert_array_equal(plane.cut(picture), picture.T)
    np.testing.assert_array_equal(large.cut(volume), volume[:, :, 2].T)
    assert plane.sides is None
    assert large.name == ""


def test_the_aspect_is_that_of_the_patient() -> None:
    axial, coronal, sagittal = planes_of(3, "PIR")  # anterior to posterior, downwards, to the right

    shape, spacing = (100, 20, 50), (0.5, 3.0, 0.8)

    assert axial.aspect(shape, spacing) == pytest.approx(50 / 40)
    assert coronal.aspect(shape, spacing) == pytest.approx(60 / 40)
    assert sagittal.aspect(shape, spacing) == pytest.approx(60 / 50)
