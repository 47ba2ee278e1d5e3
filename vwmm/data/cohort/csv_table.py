"""Reads a CSV strictly: every error with its line."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.messages import shorten
from vwmm.data.cohort.csv_dialect import find_start, later_header
from vwmm.data.cohort.spelling import without_blanks
from vwmm.system.csv_cells import as_meant
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

MAX_SHOWN = 300
# Of a table, in memory below 1.5 GiB: 250,000 cases, or 50,000 with 160 columns each. Excel has 16,384 columns.
MAX_BYTES = 2**27
MAX_LINE_BYTES = 2**20
MAX_COLUMNS = 2**14
MAX_ROWS = 2**18
MAX_CELLS = 2**23
_COMMENT = "begins with '#', as comments do: remove the line, or the '#'"
# The column of row numbers that pandas writes, as it names it when it reads it again.
_INDEX = re.compile(r"Unnamed: \d+(\.\d+)?")
_EXCEL_TEXT = re.compile(r'^="([^"]*)"$')  # as it is written lest a number lose its zeros
_NAMELESS = "\0"  # no cell of a table has one
# What other files begin with, and what they are.
_OTHERS = {
    b"\x1f\x8b": "a gzip file: unpack it, or, if it is an image, name it in a table of cases",
    b"\x89PNG": "a picture; expected a table of cases, a CSV, that names it",
    b"NRRD": "an image; expected a table of cases, a CSV, that names it",
    b"PK\x03\x04": "a zip file or an Excel workbook: save the table as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the table as 'CSV UTF-8'",
}


@dataclass
class Table:
    """The contents of a CSV."""

    path: Path
    """Where it was read from."""
    header: list[str]
    """Names of the columns, without the spaces around them."""
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """(line, cells by column) of each row that has the right number of cells; blank rows are left out."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the rows that are not there."""
    notes: list[tuple[int | None, str]] = field(default_factory=list)
    """(line, text) of ignored lines and columns."""
    is_whole: bool = True
    """Whether every row is there."""

    def add(self, line: int | None, found: str, **fields: str) -> None:
        """Adds a problem, of a line or of the whole table. fields: further ones of `Problem`."""
        problem = Problem(shorten(found, MAX_SHOWN), line=line, where=self.path.name, **{"kind": "table", **fields})
        self.problems.append(problem)

    def note(self, line: int | None, template: str, **values: object) -> None:
        """Adds a problem made of a template and its values, of which `case`, `modality` and `file` are its place."""
        fields = {name: str(values[name]) for name in ("case", "modality", "file") if name in values}
        self.add(line, template.format(**values), template=template, **fields)


def read_table(path: Path, *, example: str, key: str = "data.csv") -> Table:
    """Reads a CSV with commas, semicolons or tabs. Raises UserError where there is no table at all.

    example: a header, for the message about an empty file. key: the configuration's, that names the file.
    """
    names = example.split(",")
    text, num_before, delimiter = find_start(_read_text(path, key), names)
    table = Table(path, [])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header_line, num_cells = 0, 0
    uneven = list[tuple[int, list[str]]]()
    try:
        for line, cells in _with_lines(reader, num_before):
            if not any(cells):
                continue
            if not table.header:
                table.header, header_line = cells, line
                _check_header(table, line, text, names)
                continue
            num_cells += len(cells)
            if len(table.rows) >= MAX_ROWS or num_cells > MAX_CELLS:
                raise _unreadable(
                    path, line, f"a table of more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells; leave out rows or "
                    "columns that are not needed",
                )  # fmt: skip
            if len(cells) != len(table.header):
                uneven.append((line, cells))
            else:
                table.rows.append((line, dict(zip(table.header, cells, strict=True))))
    except csv.Error as error:
        table.note(reader.line_num + num_before, "not valid CSV: {error}", error=error)
        table.is_whole = False
        if not table.header:
            raise UserError(table.problems) from error
    if not table.header:
        raise _unreadable(path, None, f"the file is empty; expected a header such as {example}")
    _note_uneven(table, uneven)
    _note_comments(table)
    _drop_index(table, header_line, names)
    return table


def _with_lines(reader: Iterator[list[str]], num_before: int) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line that it begins in; a quoted cell may go over several."""
    start = 1 + num_before
    for cells in reader:
        yield start, [as_meant(_EXCEL_TEXT.sub(r"\1", without_blanks(cell))) for cell in cells]
        start = reader.line_num + 1 + num_before  # type: ignore[attr-defined]


def _note_uneven(table: Table, uneven: list[tuple[int, list[str]]]) -> None:
    """Rows that have more or fewer cells than the header; once, where all have one too many."""
    if not uneven:
        return
    table.is_whole = False
    width, earlier = len(table.header), table.problems
    table.problems = []
    if not table.rows and len(uneven) > 1 and all(len(cells) == width + 1 for _, cells in uneven):
        table.note(
            uneven[0][0],
            "each of the {rows} rows has {cells} cells, but the header has {width} columns: is the name of a column "
            "missing, such as that of row numbers?",
            rows=len(uneven),
            cells=width + 1,
            width=width,
        )
    else:
        for line, cells in uneven:
            wrong = _COMMENT if cells[0].startswith("#") else "{cells} cells, but the header has {width} columns"
            table.note(line, wrong, cells=len(cells), width=width)
    table.problems += earlier


def _note_comments(table: Table) -> None:
    """A row that has been commented out is not taken for a case, unless all names begin like that."""
    first = table.header[0]
    behind_hash = [(line, row) for line, row in table.rows if row[first].startswith("#")]
    if 0 < len(behind_hash) < len(table.rows):
        table.is_whole = False
        table.rows = [one for one in table.rows if not one[1][first].startswith("#")]
        for line, _ in behind_hash:
            table.note(line, _COMMENT)
    table.problems.sort(key=lambda problem: problem.line or 0)


def _drop_index(table: Table, line: int, names: list[str]) -> None:
    """Passes over the row numbers that pandas and R write; raises UserError for another column without a name."""
    first, nameless = table.header[0], [column for column in table.header if column.startswith(_NAMELESS)]
    may_be_index = first in nameless or (_INDEX.fullmatch(first) is not None and first not in names)
    values = [row[first] for _, row in table.rows]
    is_index = may_be_index and bool(values) and all(map(_is_whole_number, values))
    if set(nameless) - ({first} if is_index else set()):
        table.note(line, "a column has no name; name or remove it")
        raise UserError(table.problems)
    if is_index:
        what = "has no name" if first in nameless else f"is {first!r}"
        table.notes.append((line, f"the first column {what} and holds row numbers: it is ignored"))
        del table.header[0]
        for _, row in table.rows:
            del row[first]


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _check_header(table: Table, line: int, text: str, names: list[str]) -> None:
    """Names of columns that stand once each; those without a name get one that no table can have."""
    if len(table.header) > MAX_COLUMNS:
        raise _unreadable(table.path, line, f"{len(table.header):,} columns; expected {MAX_COLUMNS:,} at most")
    if not set(table.header) & set(names) and (later := later_header(text, names)):
        title = text.splitlines()[0].strip(' ",;\t')
        raise _unreadable(
            table.path, line, f"{shorten(title, 60)!r} stands before the header, which is line {line + later - 1}: "
            "remove what is before it",
        )  # fmt: skip
    counts = Counter(table.header)
    for name in sorted(name for name, count in counts.items() if count > 1 and name):
        table.note(line, "column {column!r} stands {count} times", column=name, count=counts[name])
    if table.problems:
        raise UserError(table.problems)
    table.header = [name or f"{_NAMELESS}{number}" for number, name in enumerate(table.header)]


def _read_text(path: Path, key: str) -> str:
    """UTF-8 text (without a byte order mark), or a UserError that names the line."""
    try:
        if not path.is_file():
            raise UserError(Problem(f"{'not a file' if path.exists() else 'file not found'}: {path}", key=key))
        with path.open("rb") as stream:
            raw = stream.read(min(path.stat().st_size, MAX_BYTES) + 1)
    except OSError as error:
        raise UserError(Problem(f"{path} cannot be read: {error.strerror}", key=key)) from error
    if raw[128:132] == b"DICM":
        raise _unreadable(path, 1, "no text, but a DICOM file; expected a table of cases, a CSV, that names it")
    for start, what in _OTHERS.items():
        if raw.startswith(start):
            raise _unreadable(path, 1, f"no text, but {what}")
    if len(raw) > MAX_BYTES:
        found = f"more than {MAX_BYTES:,} bytes: this is no table of cases, or has columns too many"
        raise _unreadable(path, None, found)
    try:
        text = raw.decode().lstrip("\ufeff")  # a byte order mark, or two of two programs
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _unreadable(path, line, "not UTF-8 text; save the table as 'CSV UTF-8'") from error
    if line := _long_line(raw):
        raise _unreadable(path, line, f"longer than {MAX_LINE_BYTES:,} bytes; is this a table of cases?")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise _unreadable(path, line, "a NUL character; this is no text file (save the table as CSV)")
    return text


def _unreadable(path: Path, line: int | None, found: str) -> UserError:
    """The error that ends the reading of a table."""
    return UserError(Problem(found, kind="table", line=line, where=path.name))


def _long_line(raw: bytes) -> int:
    """Number of the first line that is too long; 0 where there is none."""
    start, number = 0, 1
    while len(raw) - start > MAX_LINE_BYTES:
        window = raw[start : start + MAX_LINE_BYTES]
        end = max(window.rfind(b"\n"), window.rfind(b"\r"))
        if end < 0:
            return number
        number += len(window[: end + 1].splitlines())
        start += end + 1
    return 0
