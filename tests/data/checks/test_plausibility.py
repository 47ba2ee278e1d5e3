"""Whether an image is what its column says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vwmm.config.schema import Modality
from vwmm.data.checks.dicom_identifiers import Header
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.checks.plausibility import apparent_kind, expected_kind, mixed_formats, plausibility
from vwmm.data.cohort.cases import Case
from vwmm.data.transforms.hounsfield import HounsfieldSigns

MODALITIES = {
    "ct": Modality(dims=2, size=[8, 8], window_hu=[-150, 550]),
    "mri": Modality(dims=2, size=[8, 8]),
    "pet": Modality(dims=2, size=[8, 8]),
}
CT_LEVELS = (-1024.0, -1010.0, 300.0, 900.0, 0.3)
MR_LEVELS = (0.0, 5.0, 900.0, 1400.0, 0.0)
Z_SCORED = (-3.0, -2.0, 4.0, 6.0, 0.0)
PICTURE = (0.0, 0.0, 250.0, 255.0, 0.0)


def facts(levels: tuple[float, float, float, float, float], *, header: str = "", unit: str = "unknown") -> ImageFacts:
    return ImageFacts(
        "", np.zeros((2, 2), np.uint8), (8, 8), None, None, unit, levels, 0, "nifti", Header(modality=header)
    )


def kinds(**images: ImageFacts) -> list[tuple[str, str]]:
    case = Case("c1", "p1", "a", {name: Path(name) for name in images}, 2)
    found = plausibility(case, images, MODALITIES, {name: f"{name}.nii" for name in images})
    return [(one.kind, one.modality) for one in found]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vw_mri", "MR"), ("CT_head", "CT"), ("cta", "CT"), ("t1w", "MR"), ("FLAIR", "MR"), ("pet", None),
     ("direct", None), ("octave", None)],
)  # fmt: skip
def test_a_name_says_what_a_modality_is(name: str, kind: str | None) -> None:
    assert expected_kind(name, MODALITIES["mri"]) == kind


def test_a_window_in_hu_is_a_cts() -> None:
    assert expected_kind("image", MODALITIES["ct"]) == "CT"


def test_the_values_say_what_an_image_is_unless_they_fit_both() -> None:
    assert [apparent_kind(facts(levels)) for levels in (CT_LEVELS, MR_LEVELS, Z_SCORED, PICTURE)] == [
        "CT", "MR", None, None,
    ]  # fmt: skip
    assert apparent_kind(facts(CT_LEVELS, header="MR")) == "MR"
    assert apparent_kind(facts(Z_SCORED, unit="HU")) == "CT"


def test_what_is_in_its_place_is_not_mentioned() -> None:
    assert kinds(ct=facts(CT_LEVELS), mri=facts(MR_LEVELS)) == []
    assert kinds(mri=facts(Z_SCORED), pet=facts(CT_LEVELS)) == []


def test_a_pair_in_each_others_place_is_one_finding() -> None:
    assert kinds(ct=facts(MR_LEVELS), mri=facts(CT_LEVELS)) == [("swapped", "ct")]


def test_one_in_the_wrong_column_is_named() -> None:
    assert kinds(ct=facts(MR_LEVELS), mri=facts(MR_LEVELS)) == [("wrong_kind", "ct")]
    assert kinds(ct=facts(CT_LEVELS), mri=facts(CT_LEVELS)) == [("wrong_kind", "mri")]
    assert kinds(ct=facts(CT_LEVELS, header="PT")) == [("wrong_kind", "ct")]


def test_a_brain_without_its_skull_is_no_mr() -> None:
    assert kinds(ct=facts((0.0, 0.0, 80.0, 100.0, 0.0))) == []
    masked = HounsfieldSigns("", is_masked=True)
    assert kinds(ct=replace(facts((0.0, 0.0, 350.0, 400.0, 0.0)), hounsfield=masked)) == []


def test_a_ct_that_is_not_in_hounsfield_units_is_named() -> None:
    signs = HounsfieldSigns("values 0 to 255: they may be stored values", is_masked=False)
    assert kinds(ct=replace(facts(PICTURE), hounsfield=signs)) == [("hu_range", "ct")]
    assert kinds(pet=replace(facts(PICTURE), hounsfield=signs)) == []


def test_a_correction_may_leave_an_mr_a_little_below_zero() -> None:
    below = (-20.0, -20.0, 880.0, 1380.0, 0.0)

    assert kinds(ct=facts(below), mri=facts(CT_LEVELS)) == [("swapped", "ct")]


def test_what_may_be_a_ct_in_stored_values_is_said_to_be_either() -> None:
    case = Case("c1", "p1", "a", {"ct": Path("ct")}, 2)

    (by_values,) = plausibility(case, {"ct": facts(MR_LEVELS)}, MODALITIES, {"ct": "ct.nii"})
    (by_header,) = plausibility(case, {"ct": facts(MR_LEVELS, header="MR")}, MODALITIES, {"ct": "ct.nii"})

    assert "looks like an MR, or a CT in stored values, without its slope and intercept (values 0 to" in by_values.found
    assert "looks like an MR (DICOM header: MR)" in by_header.found


def test_a_header_that_says_anything_is_not_quoted() -> None:
    case = Case("c1", "p1", "a", {"ct": Path("ct")}, 2)

    for said, shown in (("US", "has US,"), ("DOE", "has something else,")):
        (finding,) = plausibility(case, {"ct": facts(CT_LEVELS, header=said)}, MODALITIES, {"ct": "ct.nii"})
        assert shown in finding.found


def test_a_border_as_bright_as_the_brightest_is_named() -> None:
    assert kinds(mri=replace(facts(MR_LEVELS), bright_border=0.95)) == [("inverted", "mri")]
    assert kinds(mri=replace(facts(MR_LEVELS), bright_border=0.6)) == []
    assert kinds(pet=replace(facts(MR_LEVELS), bright_border=0.95)) == []


def test_pictures_beside_images_that_are_turned_are_counted() -> None:
    cases = [Case(f"c{n}", f"p{n}", "a", {"mri": Path(str(n))}, n + 2) for n in range(3)]
    found = {("c0", "mri"): facts(MR_LEVELS), ("c1", "mri"): replace(facts(PICTURE), format="picture")}

    (finding,) = mixed_formats(cases, ["mri", "ct"], found)

    assert (finding.kind, finding.modality) == ("mixed_formats", "mri")
    assert finding.found.startswith("1 of 2 images are pictures or arrays, which have no orientation; the others")
    assert mixed_formats(cases, ["mri"], {key: replace(one, format="picture") for key, one in found.items()}) == []
