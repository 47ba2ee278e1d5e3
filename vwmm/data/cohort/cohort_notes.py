"""Notes on a cohort without errors, shown by check and training."""

from collections import defaultdict
from collections.abc import Mapping

from vwmm.data.cohort.cases import SPLITS, Cohort

# Results on fewer patients of a class are uncertain: 9 of 9 right has a 95 % interval from 0.70 (Wilson).
MIN_PATIENTS = 10
_SHOWN_COLUMNS, _SHOWN_CLASSES = 8, 5


def cohort_notes(cohort: Cohort, assigned: Mapping[str, str], site_column: str, *, weights: object) -> list[str]:
    """All of it, in words. assigned: the part of each case, empty without a split; weights: `train.class_weights`."""
    others = [small_classes(cohort, assigned, weights=weights), carried_columns(cohort, site_column)]
    return [*table_notes(cohort), *(note for note in others if note is not None)]


def table_notes(cohort: Cohort) -> list[str]:
    """Ignored cells and columns, and cells treated as empty, in words."""
    name = cohort.csv_path.name
    return [f"{name}{f' line {note.line}' if note.line else ''}: {note.found}" for note in cohort.notes]


def small_classes(cohort: Cohort, assigned: Mapping[str, str], *, weights: object) -> str | None:
    """Which classes have fewer than 10 patients in a part; None: none has."""
    patients = defaultdict[tuple[str, str], set[str]](set)
    for case in cohort.cases:
        if case.label is not None and case.name in assigned:
            patients[case.label, assigned[case.name]].add(case.patient)
    parts = [part for part in SPLITS if part in assigned.values()]
    found = []
    for label in cohort.classes:
        counts = {part: len(patients[label, part]) for part in parts}
        if few := [f"{count} in {part}" for part, count in counts.items() if count < MIN_PATIENTS]:
            found.append(f"{label} {', '.join(few)}")
    if not found:
        return None
    more = f"; {len(found) - _SHOWN_CLASSES} more" if len(found) > _SHOWN_CLASSES else ""
    todo = "=balanced gives each class the same weight" if weights is None else " is set"
    which = "; ".join(found[:_SHOWN_CLASSES]) + more
    return (
        f"classes with fewer than {MIN_PATIENTS} patients in a part: {which}: training and results "
        f"on so few are uncertain; train.class_weights{todo}"
    )


def carried_columns(cohort: Cohort, site_column: str) -> str | None:
    """Which columns do nothing in training; None: there are none."""
    columns = [name for name in cohort.cases[0].extra if name != site_column] if cohort.cases else []
    if not columns:
        return None
    more = f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
    what = (
        f"column {columns[0]} is" if len(columns) == 1 else f"columns {', '.join(columns[:_SHOWN_COLUMNS])}{more} are"
    )
    them = "it" if len(columns) == 1 else "them"
    return f"{what} carried to the predictions, for sub-groups; training does not use {them}"
