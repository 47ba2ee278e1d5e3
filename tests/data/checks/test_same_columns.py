"""Two modalities that hold the same images."""

from pathlib import Path

from tests.data.making import make_case
from vwmm.config.schema import Modality
from vwmm.data.checks.same_columns import same_columns
from vwmm.data.cohort.cases import Case

FLAT = Modality(dims=2, size=[8, 8])
IMAGE = Path("x.png")


def cases_of(*contents: tuple[str, str]) -> tuple[list[Case], dict[tuple[str, str], str]]:
    """A case for each (content of the MRI, content of the CT); an empty one is a missing image."""
    cases, known = [], dict[tuple[str, str], str]()
    for number, (mri, ct) in enumerate(contents):
        images = {"mri": IMAGE if mri else None, "ct": IMAGE if ct else None}
        cases.append(make_case(f"c{number}", line=number + 2, images=images))
        known |= {(f"c{number}", name): content for name, content in (("mri", mri), ("ct", ct)) if content}
    return cases, known


def test_columns_with_the_same_images_are_reported_once_with_a_count() -> None:
    cases, contents = cases_of(("a", "a"), ("b", "b"), ("c", ""), ("d", "d"))

    (found,) = same_columns(cases, {"mri": FLAT, "ct": FLAT}, contents)

    assert found.is_warning
    assert found.text == (
        "mri and ct are the same image in 3 of the 3 cases that have both (lines 2, 3, 5): one of the columns may have "
        "been copied from the other"
    )


def test_few_rows_with_one_image_twice_are_listed_by_line() -> None:
    cases, contents = cases_of(("a", "A"), ("b", "b"), ("c", "C"))
    window = FLAT.model_copy(update={"window_hu": [0.0, 80.0]})

    (found,) = same_columns(cases, {"mri": FLAT, "ct": window}, contents)

    assert found.is_warning
    assert "in 1 of the 3 cases that have both (line 3)" in found.text


def test_two_recipes_of_all_images_may_be_meant_and_are_a_note() -> None:
    cases, contents = cases_of(("a", "a"), ("b", "b"))
    window = FLAT.model_copy(update={"window_hu": [0.0, 80.0]})

    (found,) = same_columns(cases, {"mri": FLAT, "ct": window}, contents)

    assert not found.is_warning
    assert found.text.endswith("(lines 2, 3), with two recipes: each image counts twice")


def test_two_modalities_of_one_column_are_meant() -> None:
    cases, contents = cases_of(("a", "a"), ("b", "b"))
    window = FLAT.model_copy(update={"column": "mri"})

    assert same_columns(cases, {"mri": FLAT, "ct": window}, contents) == []


def test_other_images_are_not_spoken_of() -> None:
    cases, contents = cases_of(("a", "b"), ("b", "a"), ("", "c"))

    assert same_columns(cases, {"mri": FLAT, "ct": FLAT}, contents) == []
