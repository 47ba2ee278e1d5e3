"""Series whose slices are not equally far apart: one of them is a slice as any other, a volume must be made even."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.making_dicom import OBLIQUE_AXES, STRAIGHT, slice_of, steps_of
from tests.data.readers.dicom.test_volume import quietly, save
from tests.data.readers.test_read import refusal, refusals
from vwmm.config.schema import Modality
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import check_header, read_image
from vwmm.data.readers.uneven_slices import middle_slice, uneven_in_words
from vwmm.data.transforms.preprocess import load_input

pytestmark = pytest.mark.usefixtures("silence")

CHANGING = [*np.arange(0, 20, 2.5), *np.arange(20, 80, 5)]


def series(folder: Path, heights: list[float], *, axes: Any = STRAIGHT, digits: int = 6) -> Path:
    """Slices at these heights along their normal, each of one value, its height in tenths of mm, but for one pixel."""
    folder.mkdir()
    normal = steps_of(axes, 1.0)
    for number, height in enumerate(heights):
        dataset = slice_of(0)
        pixels = np.full((dataset.Rows, dataset.Columns), round(height * 10), np.int16)
        pixels[0, 0] += 1
        dataset.PixelData, dataset.RescaleIntercept, dataset.RescaleSlope = pixels.tobytes(), 0, 1
        dataset.PixelPaddingValue = -2000
        dataset.ImageOrientationPatient = list(axes)
        place = np.array([-20.0, 30.0, 5.0]) + height * normal
        dataset.ImagePositionPatient = place.round(digits).tolist()
        quietly(save, dataset, folder / f"IM{(number * 7) % 23:02}")
    return folder


@pytest.mark.parametrize("axes", [STRAIGHT, OBLIQUE_AXES], ids=["straight", "oblique"])
def test_the_middle_slice_of_a_changing_distance_is_the_one_halfway(axes: Any, tmp_path: Path) -> None:
    folder = series(tmp_path / "a", CHANGING, axes=axes)
    recipe = Modality(dims=2, size=[8, 8], intensity="none", orientation=None)

    assert check_header(folder, needs_even=False) == (40, 34, 20)
    assert read_image(folder).slice_positions_mm == pytest.approx(CHANGING)
    np.testing.assert_allclose(load_input(folder, recipe), 400, atol=1)


@pytest.mark.parametrize("orientation", ["RAS", "LPI"])
def test_it_is_the_same_slice_whichever_way_the_volume_is_turned(orientation: str, tmp_path: Path) -> None:
    folder = series(tmp_path / "a", CHANGING)

    for slice_, expected in (("middle", 400), ("maximum_projection", 750), ("largest_foreground", None)):
        fields = {"orientation": orientation, "slice": slice_, "foreground": 749}
        recipe = Modality.model_validate({"dims": 2, "size": [8, 8], "intensity": "none", **fields})
        found = load_input(folder, recipe)
        np.testing.assert_allclose(found, expected or 750, atol=1)


def test_a_volume_of_them_needs_spacing_mm_and_is_then_linear(tmp_path: Path) -> None:
    folder = series(tmp_path / "a", CHANGING)
    words = "8 slices 2.5 mm apart, then 12 slices 5 mm apart: no even stack; set spacing_mm"

    assert refusal(folder, check_header).startswith(words)
    with pytest.raises(ImageError, match=words):
        load_input(folder, Modality(dims=3, size=[8, 8, 8]))
    size = [8, 8, 31]
    found = load_input(folder, Modality(dims=3, size=size, spacing_mm=[0.66, 0.66, 2.5], intensity="none"))
    np.testing.assert_allclose(found[0, 4, 4], np.arange(31) * 25, atol=1.5)


@pytest.mark.parametrize(
    "fields", [{"bias_correction": True}, {"crop_foreground_mm": 0}, {"orientation": "SRA"}], ids=str
)
def test_a_slice_that_needs_the_volume_is_refused_in_words(fields: dict[str, Any], tmp_path: Path) -> None:
    folder = series(tmp_path / "a", CHANGING)

    with pytest.raises(ImageError, match=r"8 slices 2\.5 mm apart, then 12 slices 5 mm"):
        load_input(folder, Modality(dims=2, size=[8, 8], **fields))


@pytest.mark.parametrize("step", [0.625, 1.25, 3.3])
@pytest.mark.parametrize("axes", [STRAIGHT, OBLIQUE_AXES], ids=["straight", "oblique"])
def test_positions_rounded_to_a_tenth_are_an_even_stack(step: float, axes: Any, tmp_path: Path) -> None:
    folder = series(tmp_path / "a", [number * step for number in range(12)], axes=axes, digits=1)

    found = read_image(folder)

    assert found.slice_positions_mm is None
    assert found.spacing_mm[2] == pytest.approx(step, rel=0.05)


@pytest.mark.parametrize("step", [0.2, 0.625, 1.25, 5.0])
@pytest.mark.parametrize("absent", [1, 6, 10])
def test_a_missing_slice_is_missing_at_every_distance(step: float, absent: int, tmp_path: Path) -> None:
    folder = series(tmp_path / "a", [number * step for number in range(12) if number != absent])

    for found in refusals(folder):
        assert found.startswith("slices are missing between IM")


@pytest.mark.parametrize("absent", [(20, 25), (10, 15, 20), (20, 22.5)])
def test_lost_slices_are_no_changing_distance(absent: tuple[float, ...], tmp_path: Path) -> None:
    folder = series(tmp_path / "a", [z for z in np.arange(0, 60, 2.5).tolist() if z not in absent])

    for found in refusals(folder):
        assert found.startswith("slices are missing between IM")


def test_words_and_the_middle() -> None:
    assert uneven_in_words(CHANGING) == "8 slices 2.5 mm apart, then 12 slices 5 mm apart"
    assert CHANGING[middle_slice(CHANGING)] == 40
    assert middle_slice([0.0, 1.0, 2.0, 3.0]) == 2  # as of an even stack: the upper one of two
    assert middle_slice([0.0, 1.0, 2.0]) == 1
