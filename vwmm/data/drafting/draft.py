"""Builds the cohort table from the images that patterns matched."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.data.cohort.spelling import is_one_line
from vwmm.data.drafting.patterns import KEYS, Found

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
    session: str = ""
    """The visit; empty where the patterns have none."""


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
        row = Row(patient or name, name, {}, session=session)
        for modality, candidates in images.items():
            paths = list(dict.fromkeys(image.path for image in candidates))
            row.images[modality] = paths[0]
            if len(paths) > 1:
                shown = ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
                problems.append(f"{modality}: {len(paths)} images for one case: {shown}; {_NARROWER}")
            for image in candidates:
                problems += _add_words(row, image)
        rows.append(row)
    return sorted(rows, key=lambda row: row.case), problems + _repeated(rows) + _shared(found) + _mixed_parts(found)


def part_of(path: str) -> str:
    """`mag`, `phase`, `real` or `imag`, from the file name (BIDS, entity `part`); else empty."""
    found = re.search(r"_part-(mag|phase|real|imag)(?=[_.])", path.rpartition("/")[2])
    return found[1] if found else ""


def _mixed_parts(found: Sequence[Found]) -> list[str]:
    """Modalities that have magnitudes and phases: their values mean different things."""
    counts: dict[str, Counter[str]] = {}
    for image in found:
        counts.setdefault(image.modality, Counter())[part_of(image.path) or "mag"] += 1
    problems = []
    for modality, of in counts.items():
        if len(of) > 1:
            listed = ", ".join(f"{count} of part-{part}" for part, count in sorted(of.items()))
            problems.append(
                f"{modality}: {listed}: magnitude and phase are two modalities; name one in the pattern, such as "
                f"*_part-{min(of)}*"
            )
    return problems


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
        elif what != "its path" and not is_one_line(text):
            problems.append(f"{what} has a line break or a control character; rename it")
        try:
            text.encode()
        except UnicodeEncodeError:
            problems.append(f"{what} is not valid Unicode; rename it")
    return problems
