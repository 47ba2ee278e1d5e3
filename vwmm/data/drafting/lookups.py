"""Labels and sites from tables beside the images."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vwmm.data.cohort.csv_table import read_table
from vwmm.data.drafting.draft import Row
from vwmm.data.drafting.patterns import compile_pattern
from vwmm.data.drafting.tree import Tree
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

NOTHING = ("", "n/a", "N/A")
"""What BIDS and people write into a cell that has no value."""
# Between the two parts of a key; no cell of a table has it.
_AND = "\x1f"


@dataclass(frozen=True)
class Lookup:
    """A table that has a value for each patient or case."""

    option: str
    """The option that named it."""
    column: str
    """The column of the cohort that it fills."""
    path: Path
    """Its file."""
    values: Mapping[str, tuple[int, str]]
    """(line, value) by the value of its key column."""


def find_lookup(text: str, beside: Path) -> Path:
    """The file of `FILE:KEY_COLUMN:VALUE_COLUMN`, in the working directory or in DIR."""
    name = text.rsplit(":", 2)[0]
    return Path(name) if os.path.exists(name) else beside / name


def read_lookup(option: str, column: str, text: str, tree: Tree) -> Lookup:
    """The table of `FILE:KEY_COLUMN:VALUE_COLUMN`. Raises UserError.

    KEY_COLUMN may be two, `participant_id+session_id`. FILE may have `{patient}` in it, as BIDS's sessions.tsv: a table
    for each patient, with the session as key.
    """
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not all(parts):
        raise UserError(f"{option} {text}: expected FILE:KEY_COLUMN:VALUE_COLUMN, such as labels.csv:patient:{column}")
    keys = parts[1].split("+")
    if len(keys) > 2:
        raise UserError(f"{option} {text}: expected one key column, or two: of the patient and of the session")
    if "{" not in parts[0]:
        path = find_lookup(text, tree.root)
        return Lookup(option, column, path, _values_of(option, path, keys, parts[2]))
    if re.findall(r"\{([^{}]*)\}", parts[0]).count("patient") == 0 or len(keys) != 1:
        raise UserError(f"{option} {text}: a table for each patient needs {{patient}} in its name, and one key column")
    regex, values = compile_pattern(parts[0]), dict[str, tuple[int, str]]()
    matches = [(file, match) for file in tree.files if (match := regex.fullmatch(file))]
    if not matches:
        raise UserError(f"{option} {text}: no file is named so in {tree.root}")
    for file, match in matches:
        of_patient = _values_of(option, tree.root / file, keys, parts[2])
        values |= {f"{match['patient']}{_AND}{key}": found for key, found in of_patient.items()}
    return Lookup(option, column, Path(parts[0]), values)


def _values_of(option: str, path: Path, keys: Sequence[str], column: str) -> dict[str, tuple[int, str]]:
    """(line, value) by key; of two key columns, joined. Raises UserError."""
    try:
        table = read_table(path, example=f"{','.join(keys)},{column}", key=option)
    except UserError as error:
        raise UserError(one if one.key == option else one.within(option) for one in error.problems) from error
    problems = [problem.within(option) for problem in table.problems]
    for name in [*keys, column]:
        if name not in table.header:
            found = f"{path.name} has no column {name!r}; it has {', '.join(table.header)}"
            problems.append(Problem(found, key=option))
    values: dict[str, tuple[int, str]] = {}
    for line, cells in [] if problems else table.rows:
        value = "" if cells[column] in NOTHING else cells[column]
        before = values.setdefault(_AND.join(cells[key] for key in keys), (line, value))
        if before[1] != value:
            found = f"another {column} than in line {before[0]}, same key"
            session = next((name for name in table.header if name.lower() in ("session", "session_id")), None)
            if session is not None and session not in keys:
                found += f"; if the rows are visits, use {keys[0]}+{session} as the key"
            problems.append(Problem(found, "table", line, where=f"{option}: {path.name}"))
    if problems:
        raise UserError(problems)
    return values


def fill_in(rows: Sequence[Row], lookup: Lookup) -> tuple[list[str], list[str]]:
    """Puts a table's values into the rows: (problems, warnings). No key is named: it may be a patient's.

    A key is a case, a patient, or a patient and a session, each in BIDS's way as well: `sub-01` for 01.
    """
    problems, used, empty = [], set[str](), 0
    for row in rows:
        key = next((name for name in _names_of(row) if name in lookup.values), None)
        if lookup.column in row.values:
            problems = [f"{lookup.option}: a pattern has {{{lookup.column}}} as well; leave out one of them"]
            continue
        row.values[lookup.column] = "" if key is None else lookup.values[key][1]
        empty += not row.values[lookup.column]
        used |= set() if key is None else {key}
    unused = [line for key, (line, _) in lookup.values.items() if key not in used]
    warnings = [f"cases without a {lookup.column} in {lookup.path.name}: {empty} of {len(rows)}"] if empty else []
    if unused:
        shown = ", ".join(map(str, unused[:5])) + (", ..." if len(unused) > 5 else "")
        warnings.append(f"rows of {lookup.path.name} without a case that was found: {len(unused)} (line {shown})")
    return problems, warnings


def _names_of(row: Row) -> list[str]:
    """What a table may call a row, the narrowest first."""
    patients = [row.patient, f"sub-{row.patient}"]
    visits = [row.session, f"ses-{row.session}"] if row.session else []
    pairs = [f"{patient}{joint}{visit}" for joint in (_AND, "_") for patient in patients for visit in visits]
    return [*pairs, row.case, *patients]
