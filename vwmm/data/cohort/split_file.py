"""Reads and writes split files.

`case,patient,label,split` and, with folds, `fold` (empty for test cases); a run's own split.csv has the content
hash of each image as well.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vwmm.data.cohort.cases import SPLITS, Cohort
from vwmm.data.cohort.csv_table import read_table
from vwmm.system.csv_cells import csv_text
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

_HASH = "hash_"


@dataclass(frozen=True)
class SplitRow:
    """Where a case is."""

    line: int
    """Line of the file."""
    part: str
    """`train`, `val` or `test`."""
    patient: str | None = None
    """None where there is no such column."""
    label: str | None = None
    """None where there is no such column."""
    fold: int | None = None
    """The fold in which it is validated; None for a test case, or without folds."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Content hash of each image, by modality; what is missing is left out."""

    @property
    def place(self) -> str:
        """The part or the fold, in words."""
        return self.part if self.fold is None else f"fold {self.fold}"


def read_split_file(path: Path, *, key: str = "split.file") -> dict[str, SplitRow]:
    """The rows of a split by the cases' names. Raises UserError with every problem; key: what named the file."""
    table = read_table(path, key=key, example="case,patient,label,split")
    if table.problems:
        raise UserError(replace(problem, named_by=key) for problem in table.problems)
    if not {"case", "split"} <= set(table.header):
        raise UserError(Problem(f"{path.name} has no column 'case' or 'split'; expected a run's split.csv", key=key))
    rows, problems = dict[str, SplitRow](), list[Problem]()
    for line, cells in table.rows:
        name, part = cells["case"], cells["split"]
        place = Problem("", "table", line, name, where=path.name, named_by=key)
        text = cells.get("fold", "")
        if part not in SPLITS:
            problems.append(replace(place, found=f"'split' must be train, val or test; found {part!r}"))
            continue
        if "fold" in cells and not (part == "test" and not text) and not (text.isascii() and text.isdigit()):
            found = f"'fold' must be 0, 1, 2, ..., or empty in a row of 'test'; found {text!r}"
            problems.append(replace(place, found=found))
            continue
        hashes = {column.removeprefix(_HASH): cell for column, cell in cells.items() if column.startswith(_HASH)}
        row = SplitRow(
            line=line,
            part=part,
            patient=cells.get("patient"),
            label=cells.get("label"),
            fold=int(text) if text and part != "test" else None,
            hashes={modality: value for modality, value in hashes.items() if value},
        )
        if rows.setdefault(name, row).place != row.place:
            found = f"stands twice, in {rows[name].place} and {row.place}"
            problems.append(replace(place, found=found))
    if problems:
        raise UserError(problems)
    return rows


def hash_of_split(rows: Mapping[str, SplitRow]) -> str:
    """The hash of a run's split.csv, as its environment.json has it."""
    return hash_rows([(name, row.patient, row.label, row.part) for name, row in rows.items()])


def hash_of_images(rows: Mapping[str, SplitRow]) -> str:
    """The hash of the images of a run's split.csv, as its environment.json has it."""
    return hash_hashes({name: row.hashes for name, row in rows.items()})


def hash_hashes(hashes: Mapping[str, Mapping[str, str]]) -> str:
    """Hash of the content hashes of all images, by case and modality, in any order."""
    table = sorted((case, sorted(own.items())) for case, own in hashes.items())
    return hashlib.sha256(repr(table).encode()).hexdigest()[:16]


def hash_rows(rows: Sequence[tuple[str, str | None, str | None, str]]) -> str:
    """Hash of (case, patient, label, part), sorted by case."""
    return hashlib.sha256(repr(list(rows)).encode()).hexdigest()[:16]


def rows_of_cohort(cohort: Cohort, path: Path) -> dict[str, SplitRow]:
    """A split's rows of a cohort's cases: each must be in it, under the same patient, who is in one part and fold."""
    rows = read_split_file(path)
    problems = list[Problem]()
    places: dict[str, set[str]] = {}
    for case in cohort.cases:
        place = Problem("", "table", case.line, case.name, where=cohort.csv_path.name, key="split.file")
        if case.name not in rows:
            problems.append(replace(place, found=f"{path.name} does not have this case"))
            continue
        row = rows[case.name]
        if row.patient not in (None, case.patient):
            found = f"is of patient {case.patient}, but of {row.patient} in {path.name}"
            problems.append(replace(place, found=found))
        places.setdefault(case.patient, set()).add(row.place)
    problems += [
        Problem(f"patient {name} is in {' and '.join(sorted(own))}", key="split.file")
        for name, own in places.items()
        if len(own) > 1
    ]
    if problems:
        raise UserError(problems)
    return {case.name: rows[case.name] for case in cohort.cases}


def split_file_text(cohort: Cohort, parts: Mapping[str, str], folds: Mapping[str, int]) -> str:
    """What `split.file` reads: `case,patient,label,split`, `fold` and `site` where there are any, sorted by case.

    parts, folds: by the cases' names; a case without a fold is a test case.
    """
    has_sites = any(case.site is not None for case in cohort.cases)
    rows: list[list[Any]] = [["case", "patient", "label", "split", *["fold"] * bool(folds), *["site"] * has_sites]]
    for case in cohort.cases:
        fold, site = [folds.get(case.name, "")] * bool(folds), [case.site or ""] * has_sites
        rows.append([case.name, case.patient, case.label, parts[case.name], *fold, *site])
    return csv_text(rows)
