"""Cells that a spreadsheet would run as a formula."""

import csv
import io

import pytest

from vwmm.system.csv_cells import as_meant, as_text, csv_text

# Harmless, each in the form that spreadsheets take for a formula.
FORMULAS = ["=1+1", "+site", "-unknown", "@clinic", "-5 mm", "\t=1", "＝1+1"]
PLAIN = [
    "",
    "case_01",
    "-",
    "+",
    "=",
    "-5",
    "+3.25",
    "-1e-5",
    "-0,5",
    "-12%",
    "'-5",
    "1-2",
    "a=b",
    "O'Brien",
    "'quoted'",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_formula_is_written_as_text(cell: str) -> None:
    assert as_text(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", PLAIN)
def test_numbers_signs_and_names_are_written_as_they_are(cell: str) -> None:
    assert as_text(cell) == cell


@pytest.mark.parametrize("cell", [*FORMULAS, *PLAIN, *(f"'{cell}" for cell in FORMULAS), *(f"''{c}" for c in FORMULAS)])
def test_every_cell_is_read_back_the_same(cell: str) -> None:
    assert as_meant(as_text(cell)) == cell


def test_numbers_keep_their_type_and_the_header_is_a_row_like_any_other() -> None:
    text = csv_text([["case", "=sum"], ["a,b", -0.5], ["line\nbreak", None]])
    assert text == 'case,\'=sum\n"a,b",-0.5\n"line\nbreak",\n'
    assert list(csv.reader(io.StringIO(text)))[1] == ["a,b", "-0.5"]
