"""Finds the header and the delimiter of a CSV."""

import csv
import io
import re
from collections.abc import Collection, Iterator

DELIMITERS = ",;\t"
# So much of a text is looked at to find out how it begins.
_MAX_START = 2**21
_MAX_LINES = 20
_SEP = re.compile(r'"?sep *= *(.) *"?[,;\t ]*', re.IGNORECASE)


def find_start(text: str, names: Collection[str]) -> tuple[str, int, str]:
    """(the text from its header on, number of lines before it, delimiter); names: columns that a header may have.

    Lines before it that begin with `#` are comments, unless two of the names stand in one: then that is the header.
    """
    asked, position, number = "", 0, 0
    for num_before, (start, line) in enumerate(_lines(text[:_MAX_START])):
        number, position = num_before, start
        if not asked and (sep := _SEP.fullmatch(line)):
            asked = sep[1]
        elif line.strip() and not line.startswith(("#", '"#')):
            break
        elif line.startswith("#") and _num_named(line[1:], names) > 1:
            position = start + 1
            break
    else:  # nothing but comments and blank lines
        return "", number, DELIMITERS[0]
    rest = text[position:]
    is_right = asked != "" and _num_cells(rest, asked) > 1
    return rest, number, asked if is_right else _likeliest(rest)


def later_header(text: str, names: Collection[str]) -> int | None:
    """Number of the line, from 1, that looks like the header where the first does not; None: no line does."""
    for number, (_, line) in enumerate(_lines(text[:_MAX_START]), 1):
        if number > _MAX_LINES:
            return None
        if _num_named(line, names) > 1:
            return number
    return None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(where it starts, line), however lines end."""
    start = 0
    for end in re.finditer(r"\r\n|\r|\n|$", text):
        if end.start() < len(text) or start < len(text):
            yield start, text[start : end.start()]
        start = end.end()


def _likeliest(text: str) -> str:
    """The delimiter that takes the header apart into the most columns."""
    return max(DELIMITERS, key=lambda delimiter: _num_cells(text, delimiter))


def _num_named(line: str, names: Collection[str]) -> int:
    """How many of the names stand in a line, with the delimiter that gives the most."""
    return max(sum(cell.strip() in names for cell in _first_row(line, delimiter)) for delimiter in DELIMITERS)


def _num_cells(text: str, delimiter: str) -> int:
    return len(_first_row(text[:_MAX_START].lstrip(" \r\n"), delimiter))


def _first_row(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []
