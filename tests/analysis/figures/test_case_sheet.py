"""The picture of what the network sees of a case: read back from its PNG, and from what is drawn into it."""

import io
import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from vwmm.analysis.figures import case_sheet
from vwmm.analysis.figures.canvas import Canvas, text_width, wrapped
from vwmm.analysis.figures.case_sheet import Augmented, Row, draw_case_sheet

WORDS = (
    "epoch 3: mirrored left–right, turned by 12°, scaled ×0.98 ×1.03 ×0.91, moved by 16.3 voxels, coarser, noise 0.1"
)


def ramp(*shape: int, low: float = 0, high: float = 1) -> np.ndarray:
    """float32 that rises from voxel to voxel."""
    return np.linspace(low, high, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def make_row(
    name: str, before: tuple[int, ...], after: tuple[int, ...], /, *, is_augmented: bool = True, **changes: Any
) -> Row:
    codes = "LPS"[: len(before)]
    fields: dict[str, Any] = {
        "before": ramp(*before, low=-1000, high=2000),
        "spacing_mm": (0.5, 0.5, 2.0)[: len(before)],
        "orientation": codes,
        "after": ramp(*after),
        "after_spacing_mm": (1.0, 1.0, 2.0)[: len(after)],
        "after_orientation": "RAS"[: len(after)],
        "augmented": [Augmented(ramp(*after) * 1.5, WORDS)] * 4 if is_augmented else [],
        "detail": "turned to RAS, resized",
    }
    return Row(name, **{**fields, **changes})


Draw = Callable[..., tuple[Image.Image, Canvas]]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draws a sheet; gives the decoded PNG and the canvas that it was made from."""

    def drawn(*rows: Row, title: str = "a case") -> tuple[Image.Image, Canvas]:
        canvases = []

        def make(width: int, height: int) -> Canvas:
            canvases.append(Canvas(width, height))
            return canvases[-1]

        monkeypatch.setattr(case_sheet, "Canvas", make)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            png = draw_case_sheet(rows, title=title)
        picture = Image.open(io.BytesIO(png))
        picture.load()
        return picture, canvases[0]

    return drawn


def texts_of(canvas: Canvas) -> list[Text]:
    return [text for text in canvas.figure.texts if text.get_text().strip()]


def words_of(canvas: Canvas) -> str:
    return "\n".join(text.get_text() for text in texts_of(canvas))


def pictures_of(canvas: Canvas) -> list[Any]:
    """The images on the sheet without the grey scales below them."""
    images: list[Any] = [axes.images[0] for axes in canvas.figure.axes]
    return [image for image in images if image.get_array().shape != (1, 256)]


def test_a_slice_has_six_pictures_and_a_volume_three_planes_of_each(draw: Draw) -> None:
    picture, canvas = draw(make_row("ct", (40, 30), (16, 12)), make_row("mri", (20, 24, 10), (8, 8, 4)))

    assert picture.size[0] == 1920
    assert picture.size[1] == canvas.height
    assert picture.format == "PNG"
    assert len(pictures_of(canvas)) == 6 + 18
    for title in ("as stored", "as the network sees it", *(f"augmented {n}" for n in range(1, 5))):
        assert [text.get_text() for text in texts_of(canvas)].count(title) == 2
    assert "40 × 30 pixels" in words_of(canvas)
    assert "20 × 24 × 10 voxels" in words_of(canvas)
    assert "0.5 × 0.5 × 2 mm" in words_of(canvas)
    assert "values −1000 to 2000 (unit unknown)" in words_of(canvas).replace("\n", " ")


def test_stored_images_have_their_physical_proportions_and_inputs_those_of_their_grid(draw: Draw) -> None:
    _, canvas = draw(make_row("mri", (20, 30, 10), (8, 16, 4), spacing_mm=(0.5, 0.5, 2.0)))

    shapes = [image.axes.get_window_extent().size for image in pictures_of(canvas)]
    aspects = [height / width for width, height in shapes]
    stored, seen, changed = aspects[0:3], aspects[3:6], aspects[6:9]
    assert stored == pytest.approx([1.5, 20 / 10, 20 / 15], rel=0.03)
    assert seen == pytest.approx([2.0, 0.5, 0.25], rel=0.03)
    assert changed == pytest.approx(seen, rel=0.001)


def test_the_input_and_its_augmentations_share_one_grey_scale_that_is_stated(draw: Draw) -> None:
    _, canvas = draw(make_row("ct", (40, 30), (16, 12), after=ramp(16, 12, low=-0.25, high=0.5)))

    stored, *seen = [image.get_clim() for image in pictures_of(canvas)]
    assert set(seen) == {(-0.25, 0.5)}
    assert stored[0] == pytest.approx(-1000, abs=3)
    assert stored[1] == pytest.approx(2000, abs=3)
    words = [text.get_text() for text in texts_of(canvas)]
    assert "−0.25" in words
    assert "0.5" in words
    assert "one grey scale for all of these" in words
    assert "values 0 to 1.5" in words


def test_the_pictures_are_the_middle_planes_with_the_patients_right_on_the_left(draw: Draw) -> None:
    after = ramp(8, 6, 4)
    _, canvas = draw(make_row("mri", (8, 6, 4), (8, 6, 4), after=after, before=after[::-1, ::-1], spacing_mm=(1, 1, 1)))

    pictures = [np.asarray(image.get_array()) for image in pictures_of(canvas)]
    np.testing.assert_array_equal(pictures[3], after[::-1, ::-1, 2].T)
    np.testing.assert_array_equal(pictures[4], after[::-1, 3, ::-1].T)
    np.testing.assert_array_equal(pictures[0], pictures[3])  # stored the other way round, it lies the same
    np.testing.assert_array_equal(pictures[6], pictures[3] * np.float32(1.5))


def test_sides_are_marked_only_where_orientation_is_known_and_unmirrored(draw: Draw) -> None:
    def sides(**changes: Any) -> list[str]:
        _, canvas = draw(make_row("ct", (40, 30), (16, 12), **changes))
        return sorted(text.get_text() for text in texts_of(canvas) if text.get_text() in "RLAPSI")

    assert sides() == sorted("RLAP" * 2)
    assert sides(orientation=None) == sorted("RLAP")
    assert sides(orientation=None, after_orientation=None) == []


def test_missing_image_and_disabled_augmentation_are_named_in_the_caption(draw: Draw) -> None:
    _, canvas = draw(make_row("ct", (40, 30), (16, 12), is_augmented=False), Row("pet"))

    assert "augmentation is off for this modality" in words_of(canvas)
    assert "augmented" not in words_of(canvas).replace("Augmented pictures", "")
    assert "missing: this case has no such image" in words_of(canvas)
    assert len(pictures_of(canvas)) == 2


def test_unknown_voxel_sizes_and_orientations_are_said(draw: Draw) -> None:
    unknown: dict[str, Any] = dict.fromkeys(
        ("spacing_mm", "after_spacing_mm", "orientation", "after_orientation"), None
    )
    _, canvas = draw(make_row("xray", (40, 30), (16, 12), **unknown))

    assert words_of(canvas).count("voxel size unknown") == 2
    assert words_of(canvas).count("orientation unknown") == 2


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize(
    ("before", "after"),
    [((16, 16, 16), (16, 16, 16)), ((512, 512, 96), (64, 64, 32)), ((512, 256), (128, 32))],
    ids=str,
)
def test_no_words_overlap_or_leave_the_sheet(
    number: int, before: tuple[int, ...], after: tuple[int, ...], draw: Draw
) -> None:
    names = [f"{n}_{'modality_with_a_long_name_' * 9}"[:100] for n in range(number)]
    voxels = np.broadcast_to(np.linspace(-32768, 65535, before[-1], dtype=np.float32), before)
    rows = [
        make_row(name, (2,) * len(before), after, before=voxels, is_augmented=n != 1, detail="slice 3 of " * 40)
        for n, name in enumerate(names)
    ]
    if number > 2:
        rows[2] = Row(names[2])

    _, canvas = draw(*rows, title="case " * 100)

    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(canvas)]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= canvas.width, text
        assert box.y1 <= canvas.height, text
    for (text, box), (other, second) in combinations(boxes, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        down = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert across <= 1 or down <= 1, f"{text!r} and {other!r}"


def test_a_name_is_drawn_as_it_is_whatever_it_holds(draw: Draw) -> None:
    _, canvas = draw(make_row("ct", (8, 6), (8, 6)), title="a $x_1$ \\frac 日本\nb")

    assert texts_of(canvas)[0].get_text() == "a $x_1$ \\frac 日本 b"
    assert not any(text.get_parse_math() for text in texts_of(canvas))


def test_values_that_are_all_alike_or_not_finite_can_be_drawn(draw: Draw) -> None:
    strange = np.full((8, 6), np.nan, dtype=np.float32)
    strange[0] = (np.inf, -np.inf, 1, 2, 3, 4)
    row = make_row("ct", (8, 6), (8, 6), after=np.zeros((8, 6)), augmented=[Augmented(strange, "epoch 1")])

    _, canvas = draw(row)

    assert "values 0 to 0" in words_of(canvas)
    assert "values 1 to 4" in words_of(canvas)


def test_the_same_rows_make_the_same_bytes_and_no_global_state() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    first, second = (draw_case_sheet([make_row("ct", (9, 8), (4, 4))], title="a") for _ in range(2))

    assert first == second
    assert dict(mpl.rcParams) == before


def test_lines_are_broken_at_spaces_and_a_long_word_within_it() -> None:
    assert wrapped("one two three", 1000, 8, max_lines=2) == ["one two three"]
    lines = wrapped("one two three", text_width("one two", 8) + 1, 8, max_lines=2)
    assert lines == ["one two", "three"]
    assert wrapped("one two three", text_width("one two", 8) + 1, 8, max_lines=1)[0].endswith("\u2026")
    parts = wrapped("m" * 50, 100, 8, max_lines=99)
    assert "".join(parts) == "m" * 50
    assert all(text_width(part, 8) <= 100 for part in parts)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((-1024, 984.4), ("−1024", "984")),
        ((0.0, 1.0), ("0", "1")),
        ((-6.6e-5, 0.98), ("0", "0.98")),
        ((-0.0741, 1.136), ("−0.07", "1.14")),
        ((0, 30), ("0", "30")),
        ((5, 5), ("5", "5")),
    ],
)
def test_numbers_are_as_exact_as_their_range_needs(limits: tuple[float, float], expected: tuple[str, str]) -> None:
    assert case_sheet._numbers(limits) == expected
