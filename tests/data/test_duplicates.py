"""Patients whose names could be one person's."""

import unicodedata

import pytest

from vwmm.data.duplicates import alike_names
from vwmm.data.manifest import Case


def cases_of(*patients: str) -> list[Case]:
    return [Case(f"c{line}", patient, "a", {}, line) for line, patient in enumerate(patients, 2)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (unicodedata.normalize("NFC", "Müller"), unicodedata.normalize("NFD", "Müller")),  # as macOS writes it
        ("P-7", "p-7"), ("sub 07", "sub_07"), ("p7", "p7 "), ("no–1", "no-1"), ("\uff10\uff17", "07"),
    ],
)  # fmt: skip
def test_names_that_a_person_reads_as_one_are_said_once(first: str, second: str) -> None:
    (finding,) = alike_names(cases_of(first, "other", second, first, second))

    assert (finding.kind, finding.line, finding.case) == ("alike_names", 4, "c4")
    assert f"is written almost like {first} (line 2: c2)" in finding.found


def test_other_names_are_other_people() -> None:
    assert alike_names(cases_of("1-11", "11-1", "111", "p01", "p1", "Muller", "Müller", "p1")) == []
