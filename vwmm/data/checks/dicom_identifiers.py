"""Acquisition parameters of a DICOM header, and whether it names a person.

Only the keywords of `IDENTIFIERS` that are filled in leave this module, never their values.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vwmm.data.checks.person_names import (
    NOTHING,
    is_persons_own,
    is_pseudonym,
    letters,
    names_file,
    not_shared,
    pieces_of,
)
from vwmm.data.readers.dicom.volume import files_in
from vwmm.data.readers.read import ImageError, format_of

# Direct identifiers of a person (DICOM PS3.15, table E.1-1, the basic confidentiality profile; a selection).
IDENTIFIERS = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthDate", "PatientBirthName",
    "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "AccessionNumber",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InsurancePlanIdentification",
)  # fmt: skip
_SCANNER = ("Modality", "Manufacturer", "ManufacturerModelName", "PatientIdentityRemoved")
_SERIES = ("SeriesInstanceUID", "SeriesDescription")
_DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")
# Elements that a study's own name of a patient may stand in; in all others it is there by chance.
_PSEUDONYMS = ("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "AccessionNumber")
# Elements with the name that a table's name of a patient must not be.
_PERSONS = ("PatientName", "OtherPatientNames", "PatientBirthName")
NAME_IN_CSV = "name in the CSV"
"""The CSV's own name of the case or the patient is the person's."""
FILE_NAME = "file name"
"""The file or a folder that holds it is named after the person."""
# The file and the folders that hold it which may be named after a person.
_NUM_NAMES = 3


@dataclass(frozen=True)
class Header:
    """The values kept from a DICOM header."""

    modality: str = ""
    """`CT`, `MR`, ...; empty: unknown, or not DICOM."""
    scanner: str = ""
    """Manufacturer and model."""
    identifiers: tuple[str, ...] = ()
    """Keywords that are filled in with something else than the CSV's own names, `NAME_IN_CSV` and `FILE_NAME`."""


def read_header(
    path: Path, *, known_as: Sequence[str], series: str | None = None, shared: Collection[str] = ()
) -> Header:
    """Of a DICOM file, or of the first file of a series; empty for all other formats and for what cannot be read.

    known_as: the case's and the patient's names in the CSV. A name or number that is one of these, or has one of at
    least four letters in it, is taken for a pseudonym, unless that one is the person's own name. series: of a folder,
    the one that counts, by UID or description; its last and its middle file may name a person as well.
    shared: words that the names of most patients have (`shared_words`), which name nobody.
    """
    try:
        kind = format_of(path)
    except ImageError:
        return Header()
    if kind not in ("dicom", "dicom_series"):
        return Header()
    files = files_in(path) if path.is_dir() else [path]
    for number, file in enumerate(files):
        found = _read(file)
        if found is not None and not (path.is_dir() and _is_other(found, series)):
            rest = files[number + 1 :]
            others = [_read(one) for one in dict.fromkeys([*rest[len(rest) // 2 :][:1], *rest[-1:]])]
            same = [one for one in others if one is not None and not _is_other(one, series)]
            return _header_of([found, *same], [*names_of(path), file.name], known_as, shared)
    return Header()


def names_of(path: Path) -> list[str]:
    """Of the file or folder and of those that hold it, which may be named after a person."""
    return list(path.parts[-_NUM_NAMES:])


def _is_other(found: Any, series: str | None) -> bool:
    return series is not None and series not in [_text(found, key).strip() for key in _SERIES]


def _read(file: Path) -> Any:
    import pydicom

    try:
        # Without a preamble GDCM reads a file as well, so `force`.
        found = pydicom.dcmread(
            file, stop_before_pixels=True, force=True, specific_tags=[*_SCANNER, *_SERIES, *IDENTIFIERS, "Rows"]
        )
        return found if found.get("Rows") else None  # a report or a plan among the slices has none
    except Exception:  # a damaged file may raise anything; the voxel reader reports the error
        return None


def _header_of(found: Sequence[Any], names: Sequence[str], known_as: Sequence[str], shared: Collection[str]) -> Header:
    """found: headers of one image, the first of which tells the scanner; names: of its file and folders."""
    filled, pieces = set[str](), set[str]()
    for header in found:
        of_header, of_person = _identifiers(header, known_as, shared)
        filled, pieces = filled | of_header, pieces | of_person
    if names_file(not_shared(pieces, shared), names):
        filled.add(FILE_NAME)
    first = found[0]
    scanner = " ".join(text for text in (_text(first, key).strip() for key in _SCANNER[1:3]) if text)
    in_order = tuple(one for one in (*IDENTIFIERS, NAME_IN_CSV, FILE_NAME) if one in filled)
    return Header(_text(first, "Modality").strip().upper(), scanner, in_order)


def _identifiers(header: Any, known_as: Sequence[str], shared: Collection[str]) -> tuple[set[str], set[str]]:
    """(what is filled in with more than a pseudonym, the pieces of what names the person)."""
    known = [text for text in known_as if letters(text)]
    persons = [_text(header, keyword) for keyword in _PERSONS]
    others = [text for text in known if not any(is_persons_own(text, person, shared) for person in persons)]
    own = [letters(text) for text in others]
    filled, pieces = set[str](), set[str]()
    for keyword in IDENTIFIERS:
        value = letters(_text(header, keyword))
        if value in NOTHING or (keyword in _PSEUDONYMS and is_pseudonym(value, own)):
            continue
        if keyword in _PERSONS and not not_shared(pieces_of(_text(header, keyword)), shared):
            continue
        filled.add(keyword)
        if keyword in ("PatientName", "PatientID", "PatientBirthDate"):
            pieces |= pieces_of(_text(header, keyword))
    if len(own) < len(known):
        filled.add(NAME_IN_CSV)
    return filled, pieces


def _text(found: Any, keyword: str) -> str:
    try:
        return str(found.get(keyword, "") or "")
    except Exception:  # an element that cannot be decoded
        return ""


def has_date(name: str) -> bool:
    """Whether a file's name has what looks like a date, such as 19540312."""
    return _DATE.search(name) is not None
