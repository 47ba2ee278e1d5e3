"""Writes CSV cells so that spreadsheets do not run them as formulas.

Excel and LibreOffice run a cell that begins with `=`, `+`, `-` or `@` (OWASP, "CSV Injection"). Such a cell gets an
apostrophe before it, as a person would type it; numbers and a sign alone, as a label may be, are left as they are.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

# The last four signs are those of full width, which Excel takes for the others in some countries.
_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?")


def as_text(cell: Any) -> Any:
    """A cell as it is written: a text that would be run as a formula gets an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def as_meant(cell: str) -> str:
    """A cell as it was before `as_text`."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """A CSV of these rows, the header among them."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([as_text(cell) for cell in row] for row in rows)
    return stream.getvalue()


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text.lstrip("'")) is None
