"""Records how a cohort's split was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vwmm.config.data_schema import Columns
from vwmm.config.schema import Split
from vwmm.config.split_record import PartCount, SplitRecord
from vwmm.data.cohort.cases import SPLITS, Cohort
from vwmm.data.cohort.splits import decided_by, fold_numbers


def record_of_split(cohort: Cohort, assigned: Mapping[str, str], split: Split, columns: Columns) -> SplitRecord:
    """The origin of the parts of `splits.split_cohort`, and their sizes."""
    decision, has_test = decided_by(cohort, split), "test" in assigned.values()
    facts: dict[str, Any] = {"parts": count_parts(cohort, assigned)}
    if decision.by == "draw":
        facts |= {"seed": split.seed, "is_stratified": split.stratified, "by_site": split.by_site}
        facts |= {"val_sites": tuple(split.val_sites or ())}
        if split.fold is None and not split.val_sites:
            facts["val_fraction"] = split.val_fraction
    if split.fold is not None:
        facts |= {"fold": split.fold, "folds": tuple(fold_numbers(cohort, split))}
    test_by = decision.test_by if has_test else ""
    if test_by == "draw":
        facts |= {"test_fraction": split.test_fraction, "seed": split.seed}
        facts |= {"is_stratified": split.stratified, "by_site": split.by_site}
    if test_by == "sites":
        facts["test_sites"] = tuple(split.test_sites or ())
    names = {"file": Path(split.file or "").name, "column": columns.fold if split.fold is not None else columns.split}
    used = {names.get(decision.by, ""), columns.split if test_by == "column" else ""}
    return SplitRecord(
        by=decision.by,
        source=names.get(decision.by, ""),
        test_by=test_by,
        test_source=columns.split if test_by == "column" else names["file"] if test_by == "file" else "",
        unused=_unused(cohort, columns, used),
        **facts,
    )


def count_parts(cohort: Cohort, assigned: Mapping[str, str]) -> dict[str, PartCount]:
    """Cases and patients of each part that has any."""
    found = {}
    for part in SPLITS:
        inside = [case.patient for case in cohort.cases if assigned[case.name] == part]
        if inside:
            found[part] = PartCount(len(inside), len(set(inside)))
    return found


def _unused(cohort: Cohort, columns: Columns, used: set[str]) -> tuple[str, ...]:
    """The columns of parts and of folds that are there, but decided nothing."""
    there = {
        columns.split: any(case.split for case in cohort.cases),
        columns.fold: any(case.fold is not None for case in cohort.cases),
    }
    return tuple(name for name, is_there in there.items() if is_there and name not in used)
