"""Patients and images that occur twice, or in two parts of the split."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.cohort.spelling import name_key, names_alike
from vwmm.system.problems import Problem

Key = tuple[str, str]
"""(case's name, modality)."""


def split_leaks(cases: Sequence[Case]) -> list[Problem]:
    """Patients with cases in more than one split of the CSV; one finding for each patient."""
    splits: dict[str, dict[str, Case]] = defaultdict(dict)
    for case in cases:
        if case.split is not None:
            splits[case.patient].setdefault(case.split, case)
    findings = []
    for patient, firsts in splits.items():
        if len(firsts) > 1:
            first, *others = sorted(firsts.values(), key=lambda case: case.line)
            second, *more = others
            places = ", ".join(f"{case.split} (line {case.line})" for case in (first, *more))
            found = f"patient {patient} is in {second.split}, but also in {places}"
            findings.append(Problem(found, "two_splits", second.line, second.name))
    return findings


def similar_patients(cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """For each patient with a name similar to an earlier one's: the first case of either."""
    own: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.line):
        own.setdefault(case.patient, case)
    groups, pairs = defaultdict[str, list[Case]](list), []
    for case in own.values():
        group = groups[name_key(case.patient)]
        first = next((one for one in group if names_alike(one.patient, case.patient)), None)
        if first is None:
            group.append(case)
        else:
            pairs.append((first, case))
    return pairs


def similar_patient_names(cases: Sequence[Case], assigned: Mapping[str, str] = MappingProxyType({})) -> list[Problem]:
    """Patients with similar names: an error if they are in different parts, else a warning.

    7, 007 and 7.0 are one, P7 and P007 too, as are other capitals or blanks and Unicode's other ways to write.
    assigned: the part of each case, where there is a split; a part or a fold of the table itself counts as well.
    """
    findings = []
    for first, case in similar_patients(cases):
        text = f"patient {case.patient} is written almost like {first.patient} (line {first.line}: {first.name})"
        if places := _places_apart(first, case, assigned):
            text = f"{text}, and they are in different {places}"
        kind = "similar_names_apart" if places else "similar_patient_names"
        findings.append(Problem(text, kind, case.line, case.name))
    return findings


def apart_problems(cohort: Cohort, assigned: Mapping[str, str]) -> list[Problem]:
    """Patients with similar names in different parts; assigned: the part or fold of each case."""
    return [
        Problem(
            f"patient {case.patient} is written almost like {first.patient} (line {first.line}), and they are in "
            f"different parts of the split ({_both(assigned[first.name], assigned[case.name])})",
            "similar_names_apart",
            case.line,
            case.name,
            where=cohort.csv_path.name,
        )
        for first, case in similar_patients(cohort.cases)
        if assigned[first.name] != assigned[case.name]
    ]


def similar_in_words(cohort: Cohort) -> list[str]:
    """Patients with similar names, for a log."""
    return [
        f"{cohort.csv_path.name} line {case.line}: patient {case.patient} is written almost like {first.patient} (line "
        f"{first.line}); if it is one person, write it one way"
        for first, case in similar_patients(cohort.cases)
    ]


def similar_site_names(cases: Sequence[Case]) -> list[Problem]:
    """Sites with similar names: in tables and in splits by site they count as two."""
    lines = defaultdict[str, list[int]](list)
    for case in sorted(cases, key=lambda case: case.line):
        if case.site:
            lines[case.site].append(case.line)
    groups, findings = defaultdict[str, list[str]](list), []
    for site, own in lines.items():
        group = groups[name_key(site)]
        first = next((one for one in group if names_alike(one, site)), None)
        if first is None:
            group.append(site)
        else:
            own_count, count = (f"{n} case{'s' * (n > 1)}" for n in (len(own), len(lines[first])))
            text = f"site {site!r} ({own_count}) is written almost like {first!r} ({count}, line {lines[first][0]})"
            findings.append(Problem(text, "similar_site_names", own[0]))
    return findings


def _places_apart(first: Case, case: Case, assigned: Mapping[str, str]) -> str:
    """`parts (train, val)` or `folds (0, 1)` where the two are not in the same; else nothing."""
    part, other = (assigned.get(one.name) or one.split for one in (first, case))
    if part and other and part != other:
        return f"parts ({_both(part, other)})"
    if first.fold is not None and case.fold is not None and first.fold != case.fold:
        return f"folds ({_both(str(first.fold), str(case.fold))})"
    return ""


def _both(one: str, other: str) -> str:
    return ", ".join(sorted((one, other)))


def same_contents(
    cases: Sequence[Case], contents: Mapping[Key, str], files: Mapping[Key, str]
) -> tuple[list[Problem], set[frozenset[Key]]]:
    """Images of equal voxels in more than one case, in any file formats; and the pairs found.

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
            of_patient = "" if kind == "repeated_image" else f" of patient {first.patient}"
            text = f"has the voxels of line {first.line}: case {first.name}{of_patient}: {modality} {files[other]}"
            findings.append(Problem(text, kind, case.line, case.name, name, files[own]))
    return findings, pairs
