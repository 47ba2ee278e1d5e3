"""Whom a run has learned from: what in a cohort contradicts the run's split, said by line of the CSV.

Nobody whose images were trained on, or chose the checkpoint, may come back as a test case, whatever the name.
"""

import hashlib
from collections.abc import Mapping, Sequence

from vwmm.data.manifest import Case, Cohort
from vwmm.data.split_file import SplitRow

Hashes = Mapping[str, Mapping[str, str]]
"""Content hash of each image, by case and modality."""
SEEN = {"train": "trained on", "val": "validated on, which chose the checkpoint"}


def set_aside_problems(cohort: Cohort, rows: Mapping[str, SplitRow]) -> list[str]:
    """Where the CSV no longer says of the test cases what the run's split says; rows: the split's, by case."""
    named = {case.name for case in cohort.cases}
    missing = [(row.line, name) for name, row in rows.items() if row.part == "test" and name not in named]
    problems = [
        f"split.csv line {line}: the test case {name} is not in {cohort.csv_path.name}" for line, name in missing
    ]
    for case in cohort.cases:
        row = rows.get(case.name)
        if row is not None and row.part == "test" and row.patient not in (None, case.patient):
            where = _where(cohort, case)
            problems.append(f"{where} is of patient {case.patient}, but was of {row.patient} when it was set aside")
    return problems


def label_problems(cohort: Cohort, rows: Mapping[str, SplitRow]) -> list[str]:
    """Cases without a label, and cases that have another one than in the run; rows: those that must agree."""
    problems = []
    for case in cohort.cases:
        before = rows.get(case.name)
        if case.label is None:
            problems.append(f"{_where(cohort, case)} has no label, without which nothing can be evaluated")
        elif before is not None and before.label not in (None, case.label):
            problems.append(f"{_where(cohort, case)} has label {case.label!r}, but had {before.label!r} in the run")
    return problems


def patient_problems(cohort: Cohort, rows: Mapping[str, SplitRow]) -> list[str]:
    """Cases of patients that the run has seen."""
    seen = {str(row.patient or name): (name, row) for name, row in rows.items() if row.part in SEEN}
    problems = []
    for case in cohort.cases:
        if case.patient in seen:
            name, row = seen[case.patient]
            problems.append(
                f"{_where(cohort, case)}: patient {case.patient} was {SEEN[row.part]} (case {name}, split.csv line "
                f"{row.line})"
            )
    return problems


def image_problems(cohort: Cohort, hashes: Hashes, rows: Mapping[str, SplitRow], *, is_own: bool) -> list[str]:
    """Images that the run has seen, whatever their names; is_own: and those that are not what was set aside."""
    seen = {content: (name, row) for name, row in rows.items() if row.part in SEEN for content in row.hashes.values()}
    problems = []
    for case in cohort.cases:
        for modality, content in hashes[case.name].items():
            if content in seen:
                name, row = seen[content]
                problems.append(
                    f"{_where(cohort, case)}: its {modality} is, to the byte, an image of case {name}, which was "
                    f"{SEEN[row.part]} (split.csv line {row.line})"
                )
        if is_own and (changed := _changed(rows[case.name].hashes, hashes[case.name])):
            problems.append(
                f"{_where(cohort, case)}: {', '.join(changed)}: not the image that was set aside; it has changed, "
                "gone or come since the run"
            )
    return problems


def num_test_cases(hashes: Hashes, rows: Mapping[str, SplitRow]) -> int:
    """How many cases share an image with a test case of the run, whatever their names."""
    tested = {content for row in rows.values() if row.part == "test" for content in row.hashes.values()}
    return sum(not tested.isdisjoint(of_case.values()) for of_case in hashes.values())


def cases_hash(cases: Sequence[Case], hashes: Hashes) -> str:
    """Hash of who is evaluated, with label and images: equal for the same cases."""
    rows = [(case.name, case.patient, case.label, sorted(hashes[case.name].items())) for case in cases]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]


def _where(cohort: Cohort, case: Case) -> str:
    return f"{cohort.csv_path.name} line {case.line}: case {case.name}"
