"""A cohort's table from the images that were found: one row a case, one cell a modality, or a problem in words."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.errors import UserError
from vwmm.data.patterns import KEYS, Found
from vwmm.data.table import read_table

NOTHING = ("", "n/a", "N/A")
"""What BIDS and people write into a cell that has no value."""
_SHOWN = 3
_NARROWER = "make the pattern or description narrower; visits of one patient need a pattern with {session}"


@dataclass
class Row:
    """One case."""

    patient: str
    """As it was found: a name, or a PatientID."""
    case: str
    """Unique; the patient, where there is one visit."""
    images: dict[str, str]
    """Path by modality, relative to the tree's root."""
    values: dict[str, str] = field(default_factory=dict)
    """Further columns: `label`, `site`, words of the patterns."""


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
    """(line, value) by what its key column says."""


def draft_rows(found: Sequence[Found]) -> tuple[list[Row], list[str]]:
    """The rows, sorted by case, and what stands against them: two images for one cell, two cases of one name."""
    cells: dict[tuple[str, ...], dict[str, list[Found]]] = {}
    problems = list[str]()
    for image in found:
        problems += [f"{image.path!r}: {why}" for why in _unwritable(image)]
        key = tuple(image.words.get(word, "") for word in KEYS)
        cells.setdefault(key, {}).setdefault(image.modality, []).append(image)
    rows = []
    for (patient, case, session), images in cells.items():
        name = case or "_".join(part for part in (patient, session) if part)
        row = Row(patient or name, name, {})
        for modality, candidates in images.items():
            paths = list(dict.fromkeys(image.path for image in candidates))
            row.images[modality] = paths[0]
            if len(paths) > 1:
                shown = ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
                problems.append(f"{modality}: {len(paths)} images for one case: {shown}; {_NARROWER}")
            for image in candidates:
                problems += _add_words(row, image)
        rows.append(row)
    return sorted(rows, key=lambda row: row.case), problems + _repeated(rows) + _shared(found)


def find_lookup(text: str, beside: Path) -> Path:
    """The file of `FILE:KEY_COLUMN:VALUE_COLUMN`, in the working directory or in DIR."""
    name = text.rsplit(":", 2)[0]
    return Path(name) if os.path.exists(name) else beside / name


def read_lookup(option: str, column: str, text: str, beside: Path) -> Lookup:
    """The table of `FILE:KEY_COLUMN:VALUE_COLUMN`. Raises UserError."""
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not all(parts):
        raise UserError(f"{option} {text}: expected FILE:KEY_COLUMN:VALUE_COLUMN, such as labels.csv:patient:{column}")
    path = find_lookup(text, beside)
    try:
        table = read_table(path, example=f"{parts[1]},{parts[2]}", key=option)
    except UserError as error:
        raise UserError([f"{option}: {problem.removeprefix(f'{option}: ')}" for problem in error.problems]) from error
    problems = [f"{option}: {problem}" for problem in table.problems]
    for name in parts[1:]:
        if name not in table.header:
            problems.append(f"{option}: {path.name} has no column {name!r}; it has {', '.join(table.header)}")
    values: dict[str, tuple[int, str]] = {}
    for line, cells in [] if problems else table.rows:
        value = "" if cells[parts[2]] in NOTHING else cells[parts[2]]
        before = values.setdefault(cells[parts[1]], (line, value))
        if before[1] != value:
            problems.append(f"{option}: {path.name} line {line}: another {parts[2]} than in line {before[0]}, same key")
    if problems:
        raise UserError(problems)
    return Lookup(option, column, path, values)


def fill_in(rows: Sequence[Row], lookup: Lookup) -> tuple[list[str], list[str]]:
    """Puts a table's values into the rows: (problems, warnings). No key is named: it may be a patient's.

    A key is a case, a patient, or a patient in BIDS's way: `sub-01` for 01.
    """
    problems, used, empty = [], set[str](), 0
    for row in rows:
        names = [row.case, row.patient, f"sub-{row.patient}"]
        key = next((name for name in names if name in lookup.values), None)
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


def give_numbers(rows: Sequence[Row]) -> None:
    """Replaces each patient's identifier by a number, in the order of their images' paths."""
    order = sorted(rows, key=lambda row: min(row.images.values()))
    patients = dict.fromkeys(row.patient for row in order)
    width = max(4, len(str(len(patients))))
    numbers = {patient: f"p{number:0{width}}" for number, patient in enumerate(patients, 1)}
    for row in rows:
        row.case = numbers[row.patient] + row.case.removeprefix(row.patient)
        row.patient = numbers[row.patient]


def mixed_sessions(found: Sequence[Found]) -> set[str]:
    """The patients of whom some images belong to a session and some to none."""
    sessions: dict[str, set[bool]] = {}
    for image in found:
        if patient := image.words.get("patient"):
            sessions.setdefault(patient, set()).add("session" in image.words)
    return {patient for patient, kinds in sessions.items() if len(kinds) > 1}


def table_cells(rows: Sequence[Row], modalities: Sequence[str], place: Callable[[str], str]) -> list[list[str]]:
    """The cohort's header and rows; place: turns a path below the tree's root into what is written."""
    further = [name for name in dict.fromkeys(name for row in rows for name in row.values) if name not in KEYS]
    has_cases = any(row.case != row.patient for row in rows)
    table = [[*["case"] * has_cases, "patient", *further, *modalities]]
    for row in rows:
        cells = [place(row.images[name]) if name in row.images else "" for name in modalities]
        names = [row.case] * has_cases
        table.append([*names, row.patient, *(row.values.get(name, "") for name in further), *cells])
    return table


def csv_text(cells: Sequence[Sequence[str]]) -> str:
    """A table as it is written."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(cells)
    return stream.getvalue()


def placed_from(root: Path, csv_path: Path) -> Callable[[str], str]:
    """How a path below the root is written in a CSV elsewhere: relative to the CSV's folder."""
    folder = csv_path.absolute().parent
    start = os.path.relpath(root.absolute(), folder)
    if start.startswith(".."):  # which means something else behind a link
        start = os.path.relpath(root.resolve(), folder.resolve())
    return lambda path: os.path.normpath(f"{start}/{path}")


def _add_words(row: Row, image: Found) -> list[str]:
    problems = []
    for word, value in image.words.items():
        before = row.values.get(word, value)
        if word not in KEYS and before != value:
            problems.append(f"{image.path}: {{{word}}} is {value!r} here, but {before!r} for another image of the case")
        if word not in KEYS:
            row.values[word] = before
    return problems


def _repeated(rows: Sequence[Row]) -> list[str]:
    first: dict[str, Row] = {}
    problems = []
    for row in rows:
        before = first.setdefault(row.case, row)
        if before is not row:
            paths = [next(iter(found.images.values())) for found in (before, row)]
            problems.append(f"two cases would have one name: {paths[0]} and {paths[1]}")
    return problems


def _shared(found: Sequence[Found]) -> list[str]:
    """Images that are of two modalities at once."""
    modalities: dict[str, dict[str, None]] = {}
    for image in found:
        modalities.setdefault(image.path, {})[image.modality] = None
    paths: dict[tuple[str, ...], list[str]] = {}
    for path, names in modalities.items():
        paths.setdefault(tuple(names), []).append(path)
    return [
        f"{' and '.join(names)}: {len(of)} images would be both, such as {of[0]}; make a pattern narrower"
        for names, of in paths.items()
        if len(names) > 1
    ]


def _unwritable(image: Found) -> list[str]:
    """Why a CSV cannot hold a path or a word: it is text, and the spaces around a cell are not read."""
    problems = []
    for what, text in (("its path", image.path), *((f"{{{word}}}", value) for word, value in image.words.items())):
        if text != text.strip():
            problems.append(f"{what} begins or ends with a space or a line break, which no table keeps; rename it")
        try:
            text.encode()
        except UnicodeEncodeError:
            problems.append(f"{what} is not valid Unicode; rename it")
    return problems
