"""Splits patients into train, val and test: which source decides, a file, a column or a draw, and its record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vwmm.config.data_schema import Columns
from vwmm.config.schema import Split
from vwmm.config.split_record import PartCount, SplitRecord
from vwmm.data.cohort.cases import SPLITS, Case, Cohort
from vwmm.data.cohort.split_draw import draw_folds, draw_part, draw_parts, sites_to_draw_by
from vwmm.data.cohort.split_file import hash_rows, rows_of_cohort
from vwmm.system.csv_cells import csv_text
from vwmm.system.errors import UserError


@dataclass(frozen=True)
class Folds:
    """The fold of each case."""

    fold_of: Mapping[str, int]
    """The fold of each patient."""
    aside: frozenset[str]
    """The patients who are in none: test cases."""

    def parts(self, cohort: Cohort, fold: int) -> dict[str, str]:
        """The part of each case where this fold is validated on."""
        part_of = {name: "val" if number == fold else "train" for name, number in self.fold_of.items()}
        return {case.name: part_of.get(case.patient, "test") for case in cohort.cases}


@dataclass(frozen=True)
class Decision:
    """The origin of the split; see `split_cohort` for the order of precedence."""

    by: Literal["draw", "column", "file"]
    """Of who is validated on: the column is that of folds with `split.fold`, else that of parts."""
    test_by: Literal["draw", "sites", "column", "file"]
    """Origin of the test part; a column is always that of parts."""


def decided_by(cohort: Cohort, split: Split) -> Decision:
    """The source of a cohort's split."""
    if split.file is not None:
        return Decision("file", "file")
    has_parts = any(case.split for case in cohort.cases)
    drawn: Literal["draw", "sites"] = "draw" if split.test_sites is None else "sites"
    if split.fold is not None:
        has_folds = any(case.fold is not None for case in cohort.cases)
        return Decision("column" if has_folds else "draw", "column" if has_parts else drawn)
    return Decision("column", "column") if has_parts else Decision("draw", drawn)


def split_cohort(cohort: Cohort, split: Split) -> dict[str, str]:
    """`train`, `val` or `test` for each case's name.

    In order of precedence: `split.file`; with `split.fold`, the CSV's column of folds or a draw of `split.folds`; the
    CSV's column `split`; a draw by `split.val_fraction`. With folds, the cases that the CSV or `split.test_fraction`
    sets aside are in none. Raises UserError where a part comes out empty.
    """
    by = decided_by(cohort, split).by
    if split.fold is not None:
        assigned = divide_in_folds(cohort, split).parts(cohort, split.fold)
    elif by == "file":
        assert split.file is not None
        assigned = _from_file(cohort, Path(split.file))
        _check_set_aside(split, "test" in assigned.values(), Path(split.file).name)
    elif by == "column":
        _check_column_decides(cohort, split, "split", "by_site")
        assigned = {case.name: str(case.split) for case in cohort.cases}
        _check_set_aside(split, "test" in assigned.values(), f"{cohort.csv_path.name}'s column of splits")
    else:
        if any(case.fold is not None for case in cohort.cases):
            _check_column_decides(cohort, split, "fold", "by_site")
        assigned = draw_parts(cohort, split)
    check_parts(cohort, assigned, by_site=split.by_site)
    return assigned


def fold_numbers(cohort: Cohort, split: Split) -> list[int]:
    """The folds that there are: those of `split.file` or of the CSV's column, else 0 to `split.folds` - 1."""
    if split.file is not None:
        rows = rows_of_cohort(cohort, Path(split.file)).values()
        return sorted({row.fold for row in rows if row.fold is not None})
    found = sorted({case.fold for case in cohort.cases if case.fold is not None})
    return found or list(range(split.folds or 0))


def cases_of(cohort: Cohort, assigned: Mapping[str, str], part: str) -> list[Case]:
    """The cases of one part, sorted by name."""
    return [case for case in cohort.cases if assigned[case.name] == part]


def split_hash(cohort: Cohort, assigned: Mapping[str, str]) -> str:
    """Hash of who is where: equal for equal splits."""
    return hash_rows([(case.name, case.patient, case.label, assigned[case.name]) for case in cohort.cases])


def divide_in_folds(cohort: Cohort, split: Split) -> Folds:
    """The folds of `split.file`, of the CSV's column, or drawn; a `split.fold` that is not among them is an error."""
    if split.file is not None:
        folds = _folds_in_file(cohort, split, Path(split.file))
        _check_set_aside(split, bool(folds.aside), Path(split.file).name)
        return folds
    sites = sites_to_draw_by(cohort, split)
    aside = {case.patient: "test" for case in cohort.cases if case.split == "test"}
    if decided_by(cohort, split).test_by != "column":
        aside = draw_part(cohort, split, "test", split.test_fraction, taken={}, sites=sites)
    else:
        _check_column_decides(cohort, split, "split", "test_sites")
        _check_set_aside(split, bool(aside), f"{cohort.csv_path.name}'s column of splits")
    cases = [case for case in cohort.cases if case.patient not in aside]
    fold_of = {case.patient: case.fold for case in cases if case.fold is not None}
    if fold_of:
        _check_column_decides(cohort, split, "fold", "by_site")
        _check_fold(split, sorted(set(fold_of.values())), "the CSV")
    return Folds(fold_of or draw_folds(cases, split, sites), frozenset(aside))


def _check_set_aside(split: Split, has_test: bool, where: str) -> None:
    """Rejects a test_fraction that would be ignored because a table defines the split without test cases."""
    if split.test_fraction and not has_test:
        raise UserError(
            f"split.test_fraction={split.test_fraction:g}: {where} already defines the split, without test cases; "
            "set test cases aside there, draw a new split without it, or leave split.test_fraction out"
        )


def _check_column_decides(cohort: Cohort, split: Split, column: str, *keys: str) -> None:
    """Rejects keys of a draw that would be ignored because the CSV has a column."""
    if asked := _asked_for(split, keys):
        raise UserError(
            f"{key}={value}: {cohort.csv_path.name} already defines the split, in its column of {column}s; rename the "
            f"column there to draw a new split, or leave {key} out"
            for key, value in asked.items()
        )


def _asked_for(split: Split, keys: Sequence[str]) -> dict[str, object]:
    """Those of the keys that are not at their defaults, dotted, with their values."""
    values = {key: getattr(split, key) for key in keys}
    return {f"split.{key}": value for key, value in values.items() if value != Split.model_fields[key].default}


def _check_fold(split: Split, found: list[int], where: str) -> None:
    """`split.fold` and `split.folds` fit the folds that a table has."""
    if split.fold not in (None, *found) or (split.folds or len(found)) != len(found):
        keys = {"split.fold": split.fold, "split.folds": split.folds}
        setting = " of ".join(f"{key}={value}" for key, value in keys.items() if value is not None)
        raise UserError(f"{setting}: {where} has the folds {', '.join(map(str, found))}")


def _from_file(cohort: Cohort, path: Path) -> dict[str, str]:
    """The parts of a split.csv; a file of folds has no validation cases and needs a fold number."""
    rows = rows_of_cohort(cohort, path)
    folds = sorted({row.fold for row in rows.values() if row.fold is not None})
    if folds and all(row.part != "val" for row in rows.values()):
        raise UserError(
            f"split.file: {path.name} has the folds {', '.join(map(str, folds))}: choose the one to validate on "
            f"(split.fold={folds[0]}), or `vwmm cross_validate` for all of them"
        )
    return {name: row.part for name, row in rows.items()}


def _folds_in_file(cohort: Cohort, split: Split, path: Path) -> Folds:
    rows = rows_of_cohort(cohort, path)
    fold_of = {case.patient: fold for case in cohort.cases if (fold := rows[case.name].fold) is not None}
    if not fold_of:
        raise UserError(
            f"split.fold={split.fold}: {path.name} has no column 'fold' (`vwmm split split.folds=5` writes one)"
        )
    _check_fold(split, sorted(set(fold_of.values())), path.name)
    return Folds(fold_of, frozenset(case.patient for case in cohort.cases if rows[case.name].part == "test"))


def check_parts(cohort: Cohort, assigned: Mapping[str, str], *, by_site: str | None) -> None:
    """Raises UserError where nothing can be learned or validated; by_site: how the parts were drawn."""
    why = "; split.by_site=hold_out keeps each site whole: hold out other sites, or split.by_site=stratify"
    why = why if by_site == "hold_out" else ""
    problems = [
        f"split: no case is in {part!r}; training needs some to train on and some to validate on"
        for part in ("train", "val")
        if part not in assigned.values()
    ]
    if not problems:
        trained = {case.label for case in cases_of(cohort, assigned, "train")}
        problems = [
            f"split: no case with label {label!r} is in 'train': the model could not learn it{why}"
            for label in cohort.classes
            if label not in trained
        ]
    if problems:
        raise UserError(problems)


def split_table(cohort: Cohort, assigned: Mapping[str, str], hashes: Mapping[str, Mapping[str, str]]) -> str:
    """split.csv: `case,patient,label,split` and the content hash of each image, sorted by case; empty: missing."""
    modalities = list(cohort.cases[0].images)
    rows: list[list[Any]] = [["case", "patient", "label", "split", *(f"hash_{name}" for name in modalities)]]
    for case in cohort.cases:
        row = [hashes[case.name].get(name, "") for name in modalities]
        rows.append([case.name, case.patient, case.label, assigned[case.name], *row])
    return csv_text(rows)


def record_of_split(cohort: Cohort, assigned: Mapping[str, str], split: Split, columns: Columns) -> SplitRecord:
    """The origin of the parts of `split_cohort`, and their sizes."""
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
