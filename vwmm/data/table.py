"""A CSV as rows of named cells, read strictly: every problem with its line."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.errors import UserError
from vwmm.config.explaining import shorten

DELIMITERS = ",;\t"
MAX_SHOWN = 300
# Of a table, in memory below 1.5 GiB: 250,000 cases, or 50,000 with 160 columns each. Excel has 16,384 columns.
MAX_BYTES = 2**27
MAX_LINE_BYTES = 2**20
MAX_COLUMNS = 2**14
MAX_ROWS = 2**18
MAX_CELLS = 2**23
# What other files begin with, and what they are.
_OTHERS = {
    b"\x1f\x8b": "a gzip file: unpack it",
    b"PK\x03\x04": "a zip file or an Excel workbook: save the table as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the table as 'CSV UTF-8'",
}


@dataclass
class Table:
    """What a CSV says."""

    path: Path
    """Where it was read from."""
    header: list[str]
    """Names of the columns, without the spaces around them."""
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """(line, cells by column) of each row that has the right number of cells; blank rows are left out."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with the rows that are not there."""
    is_whole: bool = True
    """Whether every row is there."""

    def note(self, line: int | None, text: str) -> None:
        """Adds a problem, of a line or of the whole table."""
        self.problems.append(f"{self.path.name}{f' line {line}' if line else ''}: {shorten(text, MAX_SHOWN)}")


def read_table(path: Path, *, example: str, key: str = "data.csv") -> Table:
    """Reads a CSV with commas, semicolons or tabs. Raises UserError where there is no table at all.

    example: a header, for the message about an empty file. key: the configuration's, that names the file.
    """
    text = _read_text(path, key)
    table = Table(path, [])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    num_cells = 0
    try:
        for line, cells in _with_lines(reader):
            if not any(cells):
                continue
            if not table.header:
                table.header = cells
                _check_header(table, line)
                continue
            num_cells += len(cells)
            if len(table.rows) >= MAX_ROWS or num_cells > MAX_CELLS:
                raise UserError(
                    f"{path.name} line {line}: a table of more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells; "
                    "leave out rows or columns that are not needed"
                )
            if len(cells) != len(table.header):
                table.note(line, f"{len(cells)} cells, but the header has {len(table.header)} columns")
                table.is_whole = False
            else:
                table.rows.append((line, dict(zip(table.header, cells, strict=True))))
    except csv.Error as error:
        table.note(reader.line_num, f"not valid CSV: {error}")
        table.is_whole = False
        if not table.header:
            raise UserError(table.problems) from error
    if not table.header:
        raise UserError(f"{path.name}: the file is empty; expected a header such as {example}")
    return table


def _with_lines(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line that it begins in; a quoted cell may go over several."""
    start = 1
    for cells in reader:
        yield start, [cell.strip() for cell in cells]
        start = reader.line_num + 1  # type: ignore[attr-defined]


def _delimiter(text: str) -> str:
    """The one that takes the header apart into the most columns."""
    counts, start = dict.fromkeys(DELIMITERS, 0), text[: 2 * MAX_LINE_BYTES].lstrip()
    for delimiter in DELIMITERS:
        try:
            rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)
            counts[delimiter] = len(next(rows, []))
        except csv.Error:
            continue
    return max(counts, key=lambda delimiter: counts[delimiter])


def _check_header(table: Table, line: int) -> None:
    if len(table.header) > MAX_COLUMNS:
        raise UserError(
            f"{table.path.name} line {line}: {len(table.header):,} columns; expected {MAX_COLUMNS:,} at most"
        )
    counts = Counter(table.header)
    for name in sorted(name for name, count in counts.items() if count > 1 or not name):
        count = counts[name]
        table.note(line, f"column {name!r} stands {count} times" if name else "a column has no name; name or remove it")
    if table.problems:
        raise UserError(table.problems)


def _read_text(path: Path, key: str) -> str:
    """UTF-8 text (a byte order mark is passed over), or a UserError that names the line."""
    try:
        if not path.is_file():
            raise UserError(f"{key}: {'not a file' if path.exists() else 'file not found'}: {path}")
        with path.open("rb") as stream:
            raw = stream.read(min(path.stat().st_size, MAX_BYTES) + 1)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error.strerror}") from error
    for start, what in _OTHERS.items():
        if raw.startswith(start):
            raise UserError(f"{path.name} line 1: no text, but {what}")
    if len(raw) > MAX_BYTES:
        raise UserError(
            f"{path.name}: more than {MAX_BYTES:,} bytes: this is no table of cases, or has columns too many"
        )
    try:
        text = raw.decode().lstrip("\ufeff")  # a byte order mark, or two of two programs
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path.name} line {line}: not UTF-8 text; save the table as 'CSV UTF-8'") from error
    if line := _long_line(raw):
        raise UserError(f"{path.name} line {line}: longer than {MAX_LINE_BYTES:,} bytes; is this a table of cases?")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path.name} line {line}: a NUL character; this is no text file (save the table as CSV)")
    return text


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
