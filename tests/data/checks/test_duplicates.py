"""Patients whose names could be one person's."""

import unicodedata
from dataclasses import replace

import pytest

from tests.conftest import texts
from tests.data.making import make_case, make_cohort
from vwmm.data.checks.duplicates import apart_problems, similar_patient_names, similar_site_names
from vwmm.data.cohort.cases import Case


def cases_of(*patients: str) -> list[Case]:
    return [Case(f"c{line}", patient, "a", {}, line) for line, patient in enumerate(patients, 2)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (unicodedata.normalize("NFC", "Müller"), unicodedata.normalize("NFD", "Müller")),  # as macOS writes it
        ("P-7", "p-7"), ("sub 07", "sub_07"), ("p7", "p7 "), ("no–1", "no-1"), ("\uff10\uff17", "07"),
        ("7", "007"), ("7", "7.0"), ("P 7", "P7"), ("100000", "1E+05"),
        ("P7", "P007"), ("sub-7", "sub-007"), ("A 12", "A012"), ("s1p7", "S01-P07"), ("'7", "7"),
    ],
)  # fmt: skip
def test_names_that_a_person_reads_as_one_are_said_once(first: str, second: str) -> None:
    (finding,) = similar_patient_names(cases_of(first, "other", second, first, second))

    assert (finding.kind, finding.line, finding.case) == ("similar_patient_names", 4, "c4")
    assert f"is written almost like {first} (line 2: c2)" in finding.found


def test_other_names_are_other_people() -> None:
    assert similar_patient_names(cases_of("1-11", "11-1", "111", "p10", "p1", "Muller", "Müller", "p1", "p100")) == []
    assert similar_patient_names(cases_of(*(f"p{number}" for number in range(120)))) == []
    assert similar_patient_names(cases_of(*(f"1.{number:02d}" for number in range(12)), "1.1")) == []


def test_names_of_hexadecimal_digits_are_no_powers_of_ten_and_their_zeros_count_where_they_are_of_one_length() -> None:
    assert (
        similar_patient_names(cases_of(*(f"00e{number}" for number in range(8)), "12e3", "12000", "00a1", "0a01")) == []
    )


def test_one_patient_in_two_spellings_in_two_parts_is_an_error_and_in_one_part_a_warning() -> None:
    cases = cases_of("7", "8", "007", "08", "7.0")
    parts = dict(zip((case.name for case in cases), ("train", "val", "val", "val", "train"), strict=True))

    found = [(one.kind, one.severity, one.line) for one in similar_patient_names(cases, parts)]

    assert found == [
        ("similar_names_apart", "error", 4),
        ("similar_patient_names", "warning", 5),
        ("similar_patient_names", "warning", 6),
    ]
    assert similar_patient_names(cases, parts)[0].found == (
        "patient 007 is written almost like 7 (line 2: c2), and they are in different parts (train, val)"
    )


def test_a_name_with_leading_zeros_in_another_part_is_an_error() -> None:
    cases = [make_case("a", patient="P7", line=2), make_case("b", patient="P007", line=3)]

    (finding,) = similar_patient_names(cases, {"a": "train", "b": "val"})

    assert (finding.kind, finding.severity) == ("similar_names_apart", "error")
    assert len(apart_problems(make_cohort(cases), {"a": "train", "b": "val"})) == 1


def test_the_tables_own_parts_and_folds_count() -> None:
    first, second = cases_of("7", "007")

    by_part = similar_patient_names([replace(first, split="train"), replace(second, split="val")])
    by_fold = similar_patient_names([replace(first, fold=0), replace(second, fold=1)])

    assert [one.kind for one in by_part + by_fold] == ["similar_names_apart"] * 2
    assert by_fold[0].found.endswith("and they are in different folds (0, 1)")


def test_spellings_in_two_parts_are_reported_alike_for_each_fold() -> None:
    cases = [make_case("a", patient="7", line=2), make_case("b", patient="007", line=3)]

    for parts in ({"a": "train", "b": "val"}, {"a": "val", "b": "train"}):
        assert texts(apart_problems(make_cohort(cases), parts)) == [
            "cohort.csv line 3: case b: patient 007 is written almost like 7 (line 2), and they are in different parts "
            "of the split (train, val)"
        ]
    assert apart_problems(make_cohort(cases), {"a": "train", "b": "train"}) == []


def test_site_in_two_spellings_is_reported_once_with_both_counts() -> None:
    sites = ["Leeds", "leeds", "Lyon", "", "Leeds", "Lyon"]
    cases = [replace(case, site=site) for case, site in zip(cases_of(*"abcdef"), sites, strict=True)]

    (finding,) = similar_site_names(cases)

    assert (finding.kind, finding.line) == ("similar_site_names", 3)
    assert finding.found == "site 'leeds' (1 case) is written almost like 'Leeds' (2 cases, line 2)"
    assert similar_site_names(cases_of("a", "b")) == []
