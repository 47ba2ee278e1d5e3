"""The page of `vwmm check`, as a browser shows it."""

from pathlib import Path

import pytest

from tests.analysis.conftest import ORIGIN
from tests.analysis.printed import CHROMIUM, check_page, too_wide
from vwmm.analysis.pages.check_report import Page, render_check
from vwmm.system.problems import Problem

LONG_CLASSES = (
    "no_plaque",
    "vulnerable_plaque_with_intraplaque_haemorrhage_and_ulceration",
    "stable_plaque_fibrous_cap_intact_stenosis_below_50_percent",
)
LONG_MODALITIES = ("t1_black_blood_post_contrast_3d_space_fat_saturated", "ct_angiography_arterial_phase_bone_kernel")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to look at the page")
@pytest.mark.parametrize("width", [600, 1000])
def test_page_with_long_names_fits_the_window_with_every_count_in_sight(width: int, tmp_path: Path) -> None:
    assert too_wide(check_page(LONG_CLASSES, LONG_MODALITIES), tmp_path, width) == []


def test_rows_keep_their_line_and_image_beside_a_problem_of_the_whole_table() -> None:
    findings = [
        Problem("cohort.csv: every case has the same label 'a'", "table"),
        Problem("file not found (relative to data)", "table", 4, "c3", "ct", "ct/3.nii.gz"),
    ]
    page = Page(
        title="Check of cohort.csv", summary="2 errors", findings=findings, classes=[], parts=["cases"],
        has_split=False, tables=[], shortcut="", is_shortcut=False, modalities=[], remarks=[], origin=ORIGIN,
    )  # fmt: skip

    html = render_check(page)

    assert '<td class="n" data-name="Line">4</td>' in html
    assert "3.nii.gz" in html
    assert "What to do" not in html  # each of these messages says it
