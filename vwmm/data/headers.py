"""What a DICOM header says of the scanner, and whether it names a person: counted, never kept.

Only the keywords of `IDENTIFIERS` that are filled in leave this module, never their values.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vwmm.data.dicom import files_in
from vwmm.data.readers import ImageError, format_of

# Direct identifiers of a person (DICOM PS3.15, table E.1-1, the basic confidentiality profile; a selection).
IDENTIFIERS = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthDate", "PatientBirthName",
    "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "AccessionNumber",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InsurancePlanIdentification",
)  # fmt: skip
# Values that say nothing.
_NOTHING = {"", "anonymous", "anonymized", "anonymised", "anon", "none", "unknown", "removed", "na"}
_SCANNER = ("Modality", "Manufacturer", "ManufacturerModelName", "PatientIdentityRemoved")
_SERIES = ("SeriesInstanceUID", "SeriesDescription")
_DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")
# Shorter pieces of a name are parts of other words.
_MIN_PIECE = 4
# Elements that a study's own name of a patient may stand in; in all others it is there by chance.
_PSEUDONYMS = ("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "AccessionNumber")
# The file and the folders that hold it which may be named after a person.
_NUM_NAMES = 3


@dataclass(frozen=True)
class Header:
    """What is kept of a DICOM header."""

    modality: str = ""
    """`CT`, `MR`, ...; empty: no DICOM, or it does not say."""
    scanner: str = ""
    """Manufacturer and model."""
    identifiers: tuple[str, ...] = ()
    """Keywords that are filled in with something else than the CSV's own names; `file name`: it or a folder of it."""


def read_header(path: Path, *, known_as: Sequence[str], series: str | None = None) -> Header:
    """Of a DICOM file, or of the first file of a series; empty for all other formats and for what cannot be read.

    known_as: the case's and the patient's names in the CSV. A name or number that is one of these, or has one of at
    least four letters in it, is taken for a pseudonym. series: of a folder, the one that counts, by UID or description.
    """
    try:
        kind = format_of(path)
    except ImageError:
        return Header()
    if kind not in ("dicom", "dicom_series"):
        return Header()
    for file in files_in(path) if path.is_dir() else [path]:
        found = _read(file)
        is_other = series is not None and path.is_dir() and series not in [_text(found, key).strip() for key in _SERIES]
        if found is not None and not is_other:
            return _header_of(found, path, known_as)
    return Header()


def _read(file: Path) -> Any:
    import pydicom

    try:
        # Without a preamble GDCM reads a file as well, so `force`.
        found = pydicom.dcmread(
            file, stop_before_pixels=True, force=True, specific_tags=[*_SCANNER, *_SERIES, *IDENTIFIERS, "Rows"]
        )
        return found if found.get("Rows") else None  # a report or a plan among the slices has none
    except Exception:  # whatever a damaged file makes of it, the reader of the voxels says what is wrong
        return None


def _header_of(found: Any, path: Path, known_as: Sequence[str]) -> Header:
    own = [name for name in (_letters(text) for text in known_as) if name]
    filled, pieces = [], set[str]()
    for keyword in IDENTIFIERS:
        value = _letters(_text(found, keyword))
        if value in _NOTHING or (keyword in _PSEUDONYMS and _is_pseudonym(value, own)):
            continue
        filled.append(keyword)
        if keyword in ("PatientName", "PatientID", "PatientBirthDate"):
            pieces |= {_letters(piece) for piece in re.split(r"[\s^,=]+", _text(found, keyword))}
    names = [_letters(part) for part in path.parts[-_NUM_NAMES:]]
    if any(len(piece) >= _MIN_PIECE and piece in name for piece in pieces for name in names):
        filled.append("file name")
    scanner = " ".join(text for text in (_text(found, key).strip() for key in _SCANNER[1:3]) if text)
    return Header(_text(found, "Modality").strip().upper(), scanner, tuple(filled))


def _is_pseudonym(value: str, own: Sequence[str]) -> bool:
    """A short name, such as 1, is in many a number."""
    return any(name == value or (len(name) >= _MIN_PIECE and name in value) for name in own)


def _text(found: Any, keyword: str) -> str:
    try:
        return str(found.get(keyword, "") or "")
    except Exception:  # an element that cannot be decoded
        return ""


def _letters(text: str) -> str:
    """Letters and digits only, in lower case: `Doe^Jane` and `doe_jane` are the same."""
    return re.sub(r"[\W_]", "", text).casefold()


def has_date(name: str) -> bool:
    """Whether a file's name has what looks like a date, such as 19540312."""
    return _DATE.search(name) is not None
