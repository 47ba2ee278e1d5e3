"""DICOM series below a folder, from their headers alone: whose they are and what they are called."""

import fnmatch
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vwmm.data.dicom_stream import is_marked, quiet
from vwmm.data.patterns import Found
from vwmm.data.tree import Tree

_THREADS = 8
_TAGS = ["PatientID", "SeriesInstanceUID", "SeriesDescription"]
_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR, which is a table of contents


@dataclass(frozen=True)
class Series:
    """A series that vwmm can read: all of a folder's DICOM files, or a single file."""

    path: str
    """Relative to the tree's root: the folder, or the file where it is not alone in there."""
    description: str
    """SeriesDescription."""
    patient_id: str
    """PatientID; empty where there is none."""
    num_others: int = 0
    """Other series in the same folder, from which a path cannot tell it."""


def scan_series(tree: Tree) -> list[Series]:
    """Every series below a folder, sorted by path."""
    found = list[Series]()
    with ThreadPoolExecutor(_THREADS) as pool:
        for folder, files in sorted(tree.files_in().items()):
            of_series: dict[str, list[tuple[str, Any]]] = {}
            headers = pool.map(_header, [tree.root / file for file in files])
            for file, header in zip(files, headers, strict=True):
                if header is not None:
                    of_series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
            others = len(of_series) - 1
            for members in of_series.values():
                file, header = members[0]
                path = file if others and len(members) == 1 else folder or "."
                description, patient = str(header.get("SeriesDescription", "")), str(header.get("PatientID", ""))
                shared = others if len(members) > 1 else 0
                found.append(Series(path, description.strip(), patient.strip(), shared))
    return sorted(found, key=lambda series: (series.path, series.description))


def match_series(
    series: Sequence[Series], named: Sequence[tuple[str, str]], root: Path
) -> tuple[list[Found], list[Series], list[str]]:
    """The images that each (modality, description) means, the series that none means, and what is wrong.

    A description may have `*` and `?`; capitals do not matter.
    """
    found, problems, used = list[Found](), list[str](), set[str]()
    for modality, text in named:
        matches = [s for s in series if fnmatch.fnmatchcase(s.description.lower(), text.lower())]
        used |= {match.path for match in matches}
        problems += [f"{match.path}: the series has no PatientID" for match in matches if not match.patient_id]
        problems += [
            f"{match.path}: series {match.description!r} shares the folder with others: give each a folder of its own; "
            f"or, if all cases call it that, take the folders by --pattern, and modalities.{modality}.series chooses it"
            for match in matches
            if match.num_others
        ]
        found += [Found(modality, match.path, {"patient": match.patient_id}) for match in matches]
        if not matches:
            names = sorted({s.description for s in series})
            such = f"; there are {', '.join(map(repr, names[:8]))}" if names else ""
            problems.append(f"--series {modality}={text}: no series is described so in {root}{such}")
    return found, [s for s in series if s.path not in used], problems


def _header(path: Path) -> Any:
    """The three values that are needed of a DICOM file; None for any other file."""
    import pydicom

    if not is_marked(path):
        return None
    quiet()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    except Exception:  # damaged in any of a header's many ways: it will be left over
        return None
    return None if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY else header
