"""Splits patients into train, val and test.

Always by patient. The draw depends on the patients' names, their labels and the seed; never on the order of the rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vwmm.config.schema import Split
from vwmm.data.cohort.cases import SPLITS, Case, Cohort
from vwmm.data.cohort.site_splits import (
    check_named_sites,
    deal_evenly,
    draw_evenly,
    draw_sites,
    fold_sites,
    sites_of_patients,
)
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
        assigned = _draw(cohort, split)
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


def _patients(cases: Sequence[Case]) -> tuple[list[str], list[str]]:
    """Each patient, sorted, with the label that stratifies it: its most frequent, on a tie the rarest of the cohort."""
    labels: dict[str, Counter[str]] = {}
    for case in cases:
        labels.setdefault(case.patient, Counter())[str(case.label)] += 1
    total = Counter(str(case.label) for case in cases)
    names = sorted(labels)
    return names, [min(labels[name], key=lambda label: (-labels[name][label], total[label], label)) for name in names]


def _draw(cohort: Cohort, split: Split) -> dict[str, str]:
    part_of: dict[str, str] = {}
    sites = _sites(cohort, split)
    for part, fraction in (("test", split.test_fraction), ("val", split.val_fraction)):
        part_of |= _draw_part(cohort, split, part, fraction, taken=part_of, sites=sites)
    return {case.name: part_of.get(case.patient, "train") for case in cohort.cases}


def _sites(cohort: Cohort, split: Split) -> dict[str, str]:
    """The site of each patient, where the draw looks at it."""
    if split.by_site is None:
        return {}
    sites = sites_of_patients(cohort, split.by_site)
    named = {"split.val_sites": split.val_sites, "split.test_sites": split.test_sites}
    check_named_sites(named, sorted(set(sites.values())))
    return sites


def _draw_part(
    cohort: Cohort, split: Split, part: str, fraction: float, *, taken: Mapping[str, str], sites: Mapping[str, str]
) -> dict[str, str]:
    """The part of each patient drawn for it, from those not `taken`; `fraction` is of all patients."""
    named = split.test_sites if part == "test" else split.val_sites
    if named is not None:
        return {patient: part for patient, site in sites.items() if site in named}
    if fraction == 0:
        return {}
    wanted = max(1, round(fraction * len({case.patient for case in cohort.cases})))
    spoken_for = split.val_sites or () if part == "test" else ()
    patients, labels = _patients(
        [case for case in cohort.cases if case.patient not in taken and sites.get(case.patient) not in spoken_for]
    )
    if split.by_site == "hold_out":
        left = 2 if part == "test" and split.val_sites is None else 1
        return dict.fromkeys(_draw_whole_sites(patients, labels, sites, wanted, split, part, left), part)
    return dict.fromkeys(_draw_patients(patients, labels, wanted, split, part, sites), part)


def _generator(split: Split, part: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((split.seed, SPLITS.index(part))))


def _draw_whole_sites(
    patients: list[str], labels: list[str], sites: Mapping[str, str], wanted: int, split: Split, part: str, left: int
) -> list[str]:
    of_patients = [sites[name] for name in patients]
    if (count := len(set(of_patients))) <= left:
        named = [f"split.{key}" for key in ("test_sites", "val_sites") if getattr(split, key)]
        raise UserError(
            f"split.by_site=hold_out: {left + 1} sites are needed to set one aside as {part!r} and keep {left} for the "
            f"other parts; found {count}" + "".join(f" beside those of {key}" for key in named)
        )
    strata = labels if split.stratified else [""] * len(labels)
    chosen = draw_sites(strata, of_patients, wanted, _generator(split, part), left=left)
    return [name for name in patients if sites[name] in chosen]


def _draw_patients(
    patients: list[str], labels: list[str], wanted: int, split: Split, part: str, sites: Mapping[str, str]
) -> list[str]:
    from sklearn.model_selection import train_test_split

    classes = Counter(labels)
    if split.stratified:
        # Each class needs a patient on both sides; a small cohort gets a part as large as that takes.
        wanted = min(max(wanted, len(classes)), len(patients) - len(classes))
    if not 0 < wanted < len(patients):
        why = f"; each part takes one of each of the {len(classes)} classes, unless split.stratified=false"
        raise UserError(
            f"split: too few patients are left to set some aside as {part!r}: {len(patients)}" + why * split.stratified
        )
    if split.stratified and min(classes.values()) < 2:
        rare = min(classes, key=lambda label: (classes[label], label))
        raise UserError(
            f"split: label {rare!r} has too few patients for {part!r}; more of them, "
            "split.test_fraction=0 or split.stratified=false"
        )
    if split.by_site == "stratify":
        strata = labels if split.stratified else [""] * len(labels)
        return draw_evenly(patients, strata, [sites[name] for name in patients], wanted, _generator(split, part))
    seed = np.random.SeedSequence((split.seed, SPLITS.index(part))).generate_state(1)[0]
    _, drawn = train_test_split(
        patients, test_size=wanted, stratify=labels if split.stratified else None, random_state=int(seed)
    )
    return list(drawn)


def divide_in_folds(cohort: Cohort, split: Split) -> Folds:
    """The folds of `split.file`, of the CSV's column, or drawn; a `split.fold` that is not among them is an error."""
    if split.file is not None:
        folds = _folds_in_file(cohort, split, Path(split.file))
        _check_set_aside(split, bool(folds.aside), Path(split.file).name)
        return folds
    sites = _sites(cohort, split)
    aside = {case.patient: "test" for case in cohort.cases if case.split == "test"}
    if decided_by(cohort, split).test_by != "column":
        aside = _draw_part(cohort, split, "test", split.test_fraction, taken={}, sites=sites)
    else:
        _check_column_decides(cohort, split, "split", "test_sites")
        _check_set_aside(split, bool(aside), f"{cohort.csv_path.name}'s column of splits")
    cases = [case for case in cohort.cases if case.patient not in aside]
    fold_of = {case.patient: case.fold for case in cases if case.fold is not None}
    if fold_of:
        _check_column_decides(cohort, split, "fold", "by_site")
        _check_fold(split, sorted(set(fold_of.values())), "the CSV")
    return Folds(fold_of or _draw_folds(cases, split, sites), frozenset(aside))


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


def _draw_folds(cases: Sequence[Case], split: Split, sites: Mapping[str, str]) -> dict[str, int]:
    from sklearn.model_selection import KFold, StratifiedKFold

    if split.folds is None:
        raise UserError(f"split.fold={split.fold}: set their number (split.folds=5), or add a column 'fold' to the CSV")
    patients, labels = _patients(cases)
    if len(patients) < split.folds:
        raise UserError(f"split.folds={split.folds}: there are {len(patients)} patients, fewer than folds")
    strata, of_patients = labels if split.stratified else [""] * len(labels), [sites.get(name, "") for name in patients]
    if split.by_site == "hold_out":
        return fold_sites(patients, strata, of_patients, split.folds, split.seed)
    rarest, count = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if split.stratified and count < split.folds:
        raise UserError(
            f"split.folds={split.folds}: label {rarest!r} has {count} patients, fewer than folds; "
            "fewer folds, or split.stratified=false"
        )
    if split.by_site == "stratify":
        return deal_evenly(patients, strata, of_patients, split.folds, np.random.default_rng(split.seed))
    kind = StratifiedKFold if split.stratified else KFold
    folds = kind(split.folds, shuffle=True, random_state=split.seed).split(patients, labels)
    return {patients[index]: number for number, (_, held_out) in enumerate(folds) for index in held_out}


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
