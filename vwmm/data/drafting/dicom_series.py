"""Finds DICOM series below a folder by their headers."""

import fnmatch
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vwmm.data.drafting.patterns import Found
from vwmm.data.drafting.tree import Tree
from vwmm.data.readers.dicom.header import open_dicom
from vwmm.data.readers.dicom.stream import only_image_errors
from vwmm.data.readers.image import ImageError

_THREADS = 8
_TAGS = ["PatientID", "SeriesInstanceUID", "SeriesDescription"]


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
    num_patients: int = 1
    """How many PatientIDs its files have."""


def scan_series(tree: Tree, *, each: Callable[[int], None] = lambda count: None) -> list[Series]:
    """Every series below a folder, sorted by path; `each` receives the number of files read since its last call."""
    import pydicom  # noqa: F401  # before the threads that use it

    found = list[Series]()
    with ThreadPoolExecutor(_THREADS) as pool:
        for folder, files in sorted(tree.files_in().items()):
            of_series: dict[str, list[tuple[str, dict[str, str]]]] = {}
            headers = pool.map(_header, [tree.root / file for file in files])
            for file, header in zip(files, headers, strict=True):
                each(1)
                if header is not None:
                    of_series.setdefault(header["SeriesInstanceUID"], []).append((file, header))
            others = len(of_series) - 1
            for members in of_series.values():
                file, header = members[0]
                path = file if others and len(members) == 1 else folder or "."
                patients = len({header["PatientID"] for _, header in members})
                shared = others if len(members) > 1 else 0
                found.append(Series(path, header["SeriesDescription"], header["PatientID"], shared, patients))
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
            f"{match.path}: the files of this series have {match.num_patients} PatientIDs; give each patient a folder"
            for match in matches
            if match.num_patients > 1
        ]
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


def _header(path: Path) -> dict[str, str] | None:
    """The values that are needed of a DICOM image; None for any other file, and for one that is damaged."""
    import pydicom

    try:
        with open_dicom(path) as stream, only_image_errors("damaged"):
            if stream is None:
                return None
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=[*_TAGS, "Rows"])
            is_image = bool(header.get("Rows"))  # a table of contents, a report or a plan has none
            return {tag: str(header.get(tag) or "").strip("\0 ") for tag in _TAGS} if is_image else None
    except (ImageError, OSError):
        return None
