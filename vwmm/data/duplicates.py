"""Patients and images that are where they must not be: in two splits, or in the cohort twice."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

from vwmm.config.findings import Finding
from vwmm.data.manifest import Case

Key = tuple[str, str]
"""(case's name, modality)."""


def split_leaks(cases: Sequence[Case]) -> list[Finding]:
    """Patients whose cases the CSV puts into more than one split; one finding for each patient."""
    splits: dict[str, dict[str, Case]] = defaultdict(dict)
    for case in cases:
        if case.split is not None:
            splits[case.patient].setdefault(case.split, case)
    findings = []
    for patient, firsts in splits.items():
        if len(firsts) > 1:
            first, *others = sorted(firsts.values(), key=lambda case: case.line)
            places = ", ".join(f"{case.split} (line {case.line})" for case in (first, *others))
            findings.append(Finding("two_splits", f"patient {patient} is in {places}", others[0].line, others[0].name))
    return findings


def alike_names(cases: Sequence[Case]) -> list[Finding]:
    """Patients whose names a person would take for one: other capitals or spaces, or Unicode's other way to write."""
    firsts: dict[str, Case] = {}
    told, findings = set[str](), []
    for case in sorted(cases, key=lambda case: case.line):
        first = firsts.setdefault(_as_read(case.patient), case)
        if first.patient != case.patient and case.patient not in told:
            told.add(case.patient)
            text = f"patient {case.patient} is written almost like {first.patient} (line {first.line}: {first.name})"
            findings.append(Finding("alike_names", text, case.line, case.name))
    return findings


def _as_read(name: str) -> str:
    """Compatible characters as one (Unicode TR15, NFKC), no capitals, and spaces, hyphens and underscores alike."""
    return re.sub(r"[\s_\-\u2010-\u2015]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def same_contents(
    cases: Sequence[Case], contents: Mapping[Key, str], files: Mapping[Key, str]
) -> tuple[list[Finding], set[frozenset[Key]]]:
    """Images of equal voxels in more than one case, whatever files they are in; and the pairs that were found.

    contents: a hash of each image. Each copy is one finding that names the first one. Within one case an image may be
    in two columns, with a window each, for example.
    """
    groups: dict[str, list[tuple[Case, str]]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.line):
        for name in case.images:
            if (case.name, name) in contents:
                groups[contents[case.name, name]].append((case, name))
    findings, pairs = [], set()
    for (first, modality), *copies in groups.values():
        for case, name in copies:
            if case.name == first.name:
                continue
            own, other = (case.name, name), (first.name, modality)
            pairs.add(frozenset((own, other)))
            kind = "repeated_image" if case.patient == first.patient else "same_image"
            whose = "" if kind == "repeated_image" else f" of patient {first.patient}"
            text = f"has the voxels of line {first.line}: case {first.name}{whose}: {modality} {files[other]}"
            findings.append(Finding(kind, text, case.line, case.name, name, files[own]))
    return findings, pairs
