"""From the problems of a table to findings, and how the images were made."""

from pathlib import Path

import numpy as np

from tests.data.making import make_cohort
from vwmm.data.checks.dicom_identifiers import Header
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.cohort.cases import Case
from vwmm.engine.check.acquisition import spacing_text, survey_acquisition
from vwmm.engine.check.cohort_check import image_names, table_findings
from vwmm.system.problems import Problem

IMAGE = Path("/data/mri/1.nii")


def case_of(number: int, label: str, *, patient: str = "", split: str | None = None, site: str = "one") -> Case:
    name = f"c{number:02d}"
    return Case(name, patient or name, label, {"mri": IMAGE}, number + 2, split=split, extra={"site": site})


def facts_of(scanner: str, spacing: tuple[float, ...] = (0.5, 0.5, 1.0)) -> ImageFacts:
    header = Header(modality="MR", scanner=scanner)
    levels = (0.0, 0.0, 1.0, 1.0, 0.0)
    return ImageFacts("", np.zeros((2, 2), np.uint8), (8, 8), spacing, "RAS", "unknown", levels, 20000, "dicom", header)


def test_problems_of_a_table_keep_their_line_and_a_leak_is_said_once() -> None:
    cohort = make_cohort(
        [case_of(0, "a", patient="p", split="train"), case_of(1, "b", patient="p", split="val"), case_of(2, "b")]
    )
    problems = [
        Problem("patient p is in split val, but in split train in line 2", "two_splits", 3, where="cohort.csv"),
        Problem("no image at all", "table", 4, "c02", where="cohort.csv"),
        Problem("every case has the same label", "table"),
    ]

    findings = table_findings(problems, cohort)

    assert [(one.kind, one.line, one.case, one.found) for one in findings] == [
        ("two_splits", 3, "c01", "patient p is in val, but also in train (line 2)"),
        ("table", 4, "c02", "no image at all"),
        ("table", None, "", "every case has the same label"),
    ]


def test_an_image_is_named_as_in_the_table() -> None:
    assert image_names([case_of(0, "a")], Path("/data")) == {("c00", "mri"): "mri/1.nii"}
    assert image_names([case_of(0, "a")], Path("/elsewhere")) == {("c00", "mri"): "/data/mri/1.nii"}


def test_a_scanner_that_gives_the_label_away_is_a_warning() -> None:
    cases = [case_of(number, "ab"[number % 2]) for number in range(60)]
    facts = {(case.name, "mri"): facts_of("Maker " + str(case.label)) for case in cases}

    found = survey_acquisition(cases, ["mri"], facts, "site", seed=0)

    assert [one.kind for one in found.findings] == ["confounded", "shortcut"]
    assert found.findings[0].found.startswith("label by scanner of mri: Cramér's V 1.00, p < 0.0001 (Holm, N = 60")
    assert "scanner of mri" in found.findings[1].found


def test_each_patient_counts_once_for_each_label() -> None:
    cases = [case_of(number, "ab"[number % 2], patient=f"p{number // 10}") for number in range(60)]
    facts = {
        (case.name, "mri"): facts_of("one", (0.5, 0.5, 1.0) if int(case.patient[1:]) % 2 else (0.7, 0.7, 1.0))
        for case in cases
    }

    (table,) = survey_acquisition(cases, ["mri"], facts, "site", seed=0).tables

    assert table.name == "voxel size of mri"
    assert table.num_patients == 12


def test_voxel_sizes_that_differ_by_a_rounding_are_the_same() -> None:
    assert spacing_text(facts_of("", (0.53989, 0.54012, 1.46))) == "0.54 x 0.54 x 1.5 mm"
