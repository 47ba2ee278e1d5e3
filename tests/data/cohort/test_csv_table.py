"""Lines and columns that other programs put around a table."""

from pathlib import Path

import pytest

from tests.conftest import texts
from vwmm.data.cohort.csv_table import Table, read_table
from vwmm.system.errors import UserError

EXAMPLE = "case,label,mri,ct"
LINES = ["case,label,mri", "c1,a,1.png", "c2,b,2.png"]


def read(folder: Path, text: str) -> Table:
    path = folder / "cohort.csv"
    path.write_bytes(text.encode())
    return read_table(path, example=EXAMPLE)


def rows_of(table: Table) -> list[list[str]]:
    return [list(row.values()) for _, row in table.rows]


def refusal_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(folder, text)
    return texts(caught.value.problems)


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;", "\ufeffsep=;", "sep = ; "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_excels_first_line_names_the_delimiter(first: str, end: str, tmp_path: Path) -> None:
    table = read(tmp_path, end.join([first, *(line.replace(",", ";") for line in LINES), ""]))

    assert (table.header, rows_of(table)) == (["case", "label", "mri"], [["c1", "a", "1.png"], ["c2", "b", "2.png"]])
    assert [line for line, _ in table.rows] == [3, 4]


def test_excels_line_after_a_comment_is_obeyed(tmp_path: Path) -> None:
    table = read(tmp_path, "\n".join(["# by hand", "", "sep=|", *(line.replace(",", "|") for line in LINES)]))

    assert (table.header, [line for line, _ in table.rows]) == (["case", "label", "mri"], [5, 6])


def test_excels_first_line_is_obeyed_for_other_delimiters(tmp_path: Path) -> None:
    for mark in "|\t,":
        assert len(read(tmp_path, "\n".join([f"sep={mark}", *(line.replace(",", mark) for line in LINES)])).rows) == 2


def test_comment_lines_before_the_header_are_passed_over(tmp_path: Path) -> None:
    table = read(tmp_path, "\n".join(["# exported 2024-01-31, by R", '"# 2 cases",,', "", *LINES]))

    assert [line for line, _ in table.rows] == [5, 6]


def test_a_header_behind_a_hash_is_a_header(tmp_path: Path) -> None:
    table = read(tmp_path, "\n".join(["# by hand", f"#{LINES[0]}", *LINES[1:]]))

    assert table.header == ["case", "label", "mri"]
    assert [line for line, _ in table.rows] == [3, 4]


def test_a_row_behind_a_hash_is_not_taken_for_a_case(tmp_path: Path) -> None:
    table = read(tmp_path, "\n".join([*LINES, "#c3,a,3.png", "# the end"]))

    assert texts(table.problems) == [
        "cohort.csv line 4: begins with '#', as comments do: remove the line, or the '#'",
        "cohort.csv line 5: begins with '#', as comments do: remove the line, or the '#'",
    ]
    assert not table.is_whole


def test_names_that_all_begin_with_a_hash_are_names(tmp_path: Path) -> None:
    assert rows_of(read(tmp_path, "case,label,mri\n#1,a,1.png\n#2,b,2.png\n")) == [
        ["#1", "a", "1.png"],
        ["#2", "b", "2.png"],
    ]


def test_a_title_before_the_header_is_refused_once_with_the_headers_line(tmp_path: Path) -> None:
    assert refusal_of(tmp_path, "\n".join(["Plaque study", "", *(line.replace(",", ";") for line in LINES)])) == [
        "cohort.csv line 1: 'Plaque study' stands before the header, which is line 3: remove what is before it"
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("title", ["Cohort; v2", "Cohort, v2, 2024", "Cohort, ;v2"])
def test_a_title_with_a_delimiter_is_refused_once(title: str, delimiter: str, tmp_path: Path) -> None:
    assert refusal_of(tmp_path, "\n".join([title, *(line.replace(",", delimiter) for line in LINES * 4)])) == [
        f"cohort.csv line 1: {title!r} stands before the header, which is line 2: remove what is before it"
    ]


def test_a_header_of_other_names_is_no_title(tmp_path: Path) -> None:
    assert read(tmp_path, "name,finding,note\nc1,a,case\nc2,b,label\n").header == ["name", "finding", "note"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_row_numbers_of_pandas_and_r_are_passed_over_with_a_note(name: str, tmp_path: Path) -> None:
    table = read(tmp_path, "\n".join(f"{start},{line}" for start, line in zip([name, "0", "1"], LINES, strict=True)))

    assert (table.header, rows_of(table)[0]) == (["case", "label", "mri"], ["c1", "a", "1.png"])
    found = "has no name" if not name else f"is {name!r}"
    assert table.notes == [(1, f"the first column {found} and holds row numbers: it is ignored")]


def test_a_first_column_without_a_name_that_holds_names_is_refused(tmp_path: Path) -> None:
    lines = [f"{start},{line}" for start, line in zip(["", "p1", "p2"], LINES, strict=True)]

    assert refusal_of(tmp_path, "\n".join(lines)) == ["cohort.csv line 1: a column has no name; name or remove it"]


def test_rows_that_all_have_a_cell_too_many_are_told_once(tmp_path: Path) -> None:
    table = read(tmp_path, "\n".join([LINES[0], *(f"{n},{line}" for n, line in enumerate(LINES[1:], 1))]))

    assert texts(table.problems) == [
        "cohort.csv line 2: each of the 2 rows has 4 cells, but the header has 3 columns: is the name of a column "
        "missing, such as that of row numbers?"
    ]


def test_excels_form_of_a_text_is_that_text(tmp_path: Path) -> None:
    assert rows_of(read(tmp_path, 'case,label,mri\n="007",a,1.png\n"=""008""",b,"=""2.png"""\n')) == [
        ["007", "a", "1.png"],
        ["008", "b", "2.png"],
    ]


def test_blanks_that_cannot_be_seen_are_no_part_of_a_cell(tmp_path: Path) -> None:
    table = read(tmp_path, "case,label,mri\n\u00a0c1\u200b,\ufeffa\u00a0,\u200b\n")

    assert rows_of(table) == [["c1", "a", ""]]
