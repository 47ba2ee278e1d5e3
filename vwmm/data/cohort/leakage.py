"""Rejects patients and images that a run was trained on.

Patients and images used in training or validation are rejected as test cases, under any name.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.cohort.spelling import name_key, names_alike
from vwmm.data.cohort.split_file import SplitRow
from vwmm.system.problems import Problem

Hashes = Mapping[str, Mapping[str, str]]
"""Content hash of each image, by case and modality."""
SEEN = {"train": "trained on", "val": "validated on, which chose the checkpoint"}


def set_aside_problems(cohort: Cohort, rows: Mapping[str, SplitRow], *, has_parts: bool) -> list[Problem]:
    """Differences between the CSV and the run's split; rows: the split's, by case.

    has_parts: whether it was the CSV's own column that divided the cases, so that the two must agree.
    """
    named = {case.name for case in cohort.cases}
    missing = [(row.line, name) for name, row in rows.items() if row.part == "test" and name not in named]
    problems = [
        Problem(f"a test case of the run, but not in {cohort.csv_path.name}", "table", line, name, where="split.csv")
        for line, name in missing
    ]
    for case in cohort.cases:
        if (row := rows.get(case.name)) is None:
            continue
        if row.patient not in (None, case.patient):
            was = "as a test case" if row.part == "test" else f"when it was {SEEN[row.part]}"
            problems.append(_of(cohort, case, f"is of patient {case.patient}, but was of {row.patient} {was}"))
        if has_parts and case.split not in (None, row.part):
            problems.append(_of(cohort, case, f"is in {case.split!r}, but was in {row.part!r} in the run"))
    return problems


def label_problems(cohort: Cohort, rows: Mapping[str, SplitRow], *, hint: str = "") -> list[Problem]:
    """Cases that have another label than in the run; rows: those that must agree; hint: what to do with the first."""
    problems = list[Problem]()
    for case in cohort.cases:
        before = rows.get(case.name)
        if case.label is not None and before is not None and before.label not in (None, case.label):
            found = f"has label {case.label!r}, but had {before.label!r} in the run"
            problems.append(_of(cohort, case, found if problems else found + hint))
    return problems


def unlabelled_problems(cohort: Cohort, cases: Sequence[Case]) -> list[Problem]:
    """Cases that cannot be evaluated."""
    return [
        _of(cohort, case, "has no label, without which it cannot be evaluated") for case in cases if case.label is None
    ]


def num_gone(cohort: Cohort, rows: Mapping[str, SplitRow]) -> int:
    """The number of training and validation cases of the run that are no longer in the CSV."""
    named = {case.name for case in cohort.cases}
    return sum(row.part in SEEN and name not in named for name, row in rows.items())


def patient_problems(cohort: Cohort, rows: Mapping[str, SplitRow]) -> list[Problem]:
    """Cases of patients that the run has seen, in any spelling (7, 007)."""
    seen = {str(row.patient or name): (name, row) for name, row in rows.items() if row.part in SEEN}
    spelled = defaultdict[str, list[str]](list)
    for patient in seen:
        spelled[name_key(patient)].append(patient)
    problems = []
    for case in cohort.cases:
        names = [case.patient] if case.patient in seen else spelled.get(name_key(case.patient), ())
        for patient in [one for one in names if names_alike(one, case.patient)][:1]:
            name, row = seen[patient]
            almost = "" if patient == case.patient else f" is written almost like {patient}, who"
            seen_as = f"was {SEEN[row.part]} (case {name}, split.csv line {row.line})"
            problems.append(_of(cohort, case, f"patient {case.patient}{almost} {seen_as}"))
    return problems


def image_problems(cohort: Cohort, hashes: Hashes, rows: Mapping[str, SplitRow], *, is_own: bool) -> list[Problem]:
    """Images that the run has seen, under any name; is_own: and test images that have changed."""
    seen = {content: (name, row) for name, row in rows.items() if row.part in SEEN for content in row.hashes.values()}
    problems = list[Problem]()
    for case in cohort.cases:
        for modality, content in hashes[case.name].items():
            if content in seen:
                name, row = seen[content]
                found = (
                    f"is, to the byte, an image of case {name}, which was {SEEN[row.part]} (split.csv line {row.line})"
                )
                problems.append(_of(cohort, case, found, modality))
        if is_own and (changed := _changed(rows[case.name].hashes, hashes[case.name])):
            found = "not the test image of the run; it was changed, removed or added since"
            problems += [_of(cohort, case, found, modality) for modality in changed]
    return problems


def num_learned_from(hashes: Hashes, rows: Mapping[str, SplitRow]) -> int:
    """How many cases share an image with the run's training or validation cases, under any name."""
    return _num_sharing(hashes, rows, SEEN)


def num_test_cases(hashes: Hashes, rows: Mapping[str, SplitRow]) -> int:
    """How many cases share an image with a test case of the run, under any name."""
    return _num_sharing(hashes, rows, ["test"])


def cases_hash(cases: Sequence[Case], hashes: Hashes) -> str:
    """Hash of who is evaluated, with label and images: equal for the same cases."""
    rows = [(case.name, case.patient, case.label, sorted(hashes[case.name].items())) for case in cases]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _num_sharing(hashes: Hashes, rows: Mapping[str, SplitRow], parts: Collection[str]) -> int:
    contents = {content for row in rows.values() if row.part in parts for content in row.hashes.values()}
    return sum(not contents.isdisjoint(of_case.values()) for of_case in hashes.values())


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]


def _of(cohort: Cohort, case: Case, found: str, modality: str = "") -> Problem:
    """What was found about a case, or about one of its images."""
    return Problem(found, "table", case.line, case.name, modality, where=cohort.csv_path.name)
