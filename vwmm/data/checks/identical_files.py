"""The checks that need no voxels; training starts with them.

The content of each file is known by then, from the index of the cache.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from vwmm.data.checks.duplicates import Key, same_contents
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.system.problems import Problem

# A value of fewer patients is little evidence about the label.
_MIN_PATIENTS = 5
# Values that many patients have are to make up most of the cohort.
_MOST = 0.9


def content_leaks(
    cohort: Cohort, assigned: Mapping[str, str], hashes: Mapping[str, Mapping[str, str]]
) -> tuple[list[Problem], list[Problem]]:
    """Files of the same content in two cases: those in different parts of the split, and all others.

    hashes: content hash by case and modality. A model that has seen an image is not validated by it.
    """
    contents = {(case, name): content for case, own in hashes.items() for name, content in own.items()}
    cases = {case.name: case for case in cohort.cases}
    leaks, others = list[Problem](), list[Problem]()
    _, pairs = same_contents(cohort.cases, contents, dict.fromkeys(contents, ""))
    for pair in sorted(pairs, key=lambda pair: sorted((cases[case].line, name) for case, name in pair)):
        first, second = sorted(pair, key=lambda key: (cases[key[0]].line, key[1]))
        if assigned[first[0]] != assigned[second[0]]:
            parts = f"one is in {assigned[second[0]]!r} and one in {assigned[first[0]]!r}"
            leaks.append(_same_file(cohort, cases, first, second, f"but {parts}"))
        elif cases[first[0]].patient != cases[second[0]].patient:
            others.append(_same_file(cohort, cases, first, second, "of another patient"))
    return leaks, others


def same_images(cohort: Cohort, hashes: Mapping[str, Mapping[str, str]]) -> list[Problem]:
    """Files of the same content in cases of two patients; hashes: content hash by case and modality."""
    return content_leaks(cohort, dict.fromkeys(hashes, "test"), hashes)[1]


def telling_facts(cohort: Cohort, modalities: Sequence[str], site_column: str) -> list[str]:
    """Whether site or missing images alone determine the label, in words."""
    patterns = [" + ".join(name for name in modalities if case.images[name] is not None) for case in cohort.cases]
    sites = [case.extra.get(site_column, "") for case in cohort.cases]
    found = []
    for what, values in ((f"column {site_column!r}", sites), ("which images are missing", patterns)):
        if _tells_label(cohort.cases, values):
            found.append(
                f"{what} gives each label away: a model may learn that instead of the disease (`vwmm check` shows more)"
            )
    return found


def _tells_label(cases: Sequence[Case], values: Sequence[str]) -> bool:
    """Whether each common value goes with one label only, and not all of them with the same."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    rows = {(value, str(case.label), case.patient) for case, value in zip(cases, values, strict=True)}
    for value, label, _ in rows:
        labels[value][label] += 1
    common = [counts for counts in labels.values() if counts.total() >= _MIN_PATIENTS]
    covered = sum(counts.total() for counts in common) / max(1, sum(counts.total() for counts in labels.values()))
    told = {next(iter(counts)) for counts in common}
    return covered >= _MOST and len(told) > 1 and all(len(counts) == 1 for counts in common)


def _same_file(cohort: Cohort, cases: Mapping[str, Case], first: Key, second: Key, rest: str) -> Problem:
    """`cohort.csv line 9: case c8: ct: is the same file as ct of case c1 in line 2, ...`."""
    case, modality = second
    found = f"is the same file as {first[1]} of case {first[0]} in line {cases[first[0]].line}, {rest}"
    return Problem(found, "same_image", cases[case].line, case, modality, where=cohort.csv_path.name)
