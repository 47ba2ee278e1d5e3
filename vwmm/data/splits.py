"""Which patients are trained on, validated on and set aside.

Always by patient. The draw depends on the patients' names, their labels and the seed; never on the order of the rows.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vwmm.config.errors import UserError
from vwmm.config.schema import Split
from vwmm.data.manifest import SPLITS, Case, Cohort
from vwmm.data.table import read_table


def split_cohort(cohort: Cohort, split: Split) -> dict[str, str]:
    """`train`, `val` or `test` for each case's name.

    In order of precedence: `split.file`; with `split.fold`, the CSV's column of folds or a draw of `split.folds`; the
    CSV's column `split`; a draw by `split.val_fraction`. With folds, the cases that the CSV or `split.test_fraction`
    sets aside are in none. Raises UserError where a part comes out empty.
    """
    if split.file is not None:
        assigned = _from_file(cohort, Path(split.file))
    elif split.fold is not None:
        assigned = _from_folds(cohort, split)
    elif any(case.split for case in cohort.cases):
        assigned = {case.name: str(case.split) for case in cohort.cases}
    else:
        assigned = _draw(cohort, split)
    _check(cohort, assigned)
    return assigned


def fold_numbers(cohort: Cohort, split: Split) -> list[int]:
    """The folds that there are: those of the CSV's column, else 0 to `split.folds` - 1."""
    found = sorted({case.fold for case in cohort.cases if case.fold is not None})
    return found or list(range(split.folds or 0))


def cases_of(cohort: Cohort, assigned: Mapping[str, str], part: str) -> list[Case]:
    """The cases of one part, sorted by name."""
    return [case for case in cohort.cases if assigned[case.name] == part]


def split_hash(cohort: Cohort, assigned: Mapping[str, str]) -> str:
    """Hash of who is where: equal for equal splits."""
    rows = [(case.name, case.patient, case.label, assigned[case.name]) for case in cohort.cases]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


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
    for part, fraction in (("test", split.test_fraction), ("val", split.val_fraction)):
        part_of |= _draw_part(cohort, split, part, fraction, taken=part_of)
    return {case.name: part_of.get(case.patient, "train") for case in cohort.cases}


def _draw_part(cohort: Cohort, split: Split, part: str, fraction: float, *, taken: Mapping[str, str]) -> dict[str, str]:
    """The part of each patient drawn for it, from those not `taken`; `fraction` is of all patients."""
    if fraction == 0:
        return {}
    wanted = max(1, round(fraction * len({case.patient for case in cohort.cases})))
    patients, labels = _patients([case for case in cohort.cases if case.patient not in taken])
    return dict.fromkeys(_draw_patients(patients, labels, wanted, split, part), part)


def _draw_patients(patients: list[str], labels: list[str], wanted: int, split: Split, part: str) -> list[str]:
    from sklearn.model_selection import train_test_split

    classes = Counter(labels)
    if split.stratified:
        # Each class needs a patient on both sides; a small cohort gets a part as large as that takes.
        wanted = min(max(wanted, len(classes)), len(patients) - len(classes))
    if not 0 < wanted < len(patients):
        raise UserError(f"split: {len(patients)} patients are too few to set some aside as {part!r}")
    if split.stratified and min(classes.values()) < 2:
        rare = min(classes, key=lambda label: (classes[label], label))
        raise UserError(
            f"split: label {rare!r} has too few patients for {part!r}; more of them, "
            "split.test_fraction=0 or split.stratified=false"
        )
    seed = np.random.SeedSequence((split.seed, SPLITS.index(part))).generate_state(1)[0]
    _, drawn = train_test_split(
        patients, test_size=wanted, stratify=labels if split.stratified else None, random_state=int(seed)
    )
    return list(drawn)


def _from_folds(cohort: Cohort, split: Split) -> dict[str, str]:
    aside = {case.patient: "test" for case in cohort.cases if case.split == "test"}
    if not any(case.split for case in cohort.cases):
        aside = _draw_part(cohort, split, "test", split.test_fraction, taken={})
    cases = [case for case in cohort.cases if case.patient not in aside]
    fold_of = _folds_in_csv(cases, split) or _draw_folds(cases, split)
    return {
        case.name: "test" if case.patient in aside else "val" if fold_of[case.patient] == split.fold else "train"
        for case in cohort.cases
    }


def _folds_in_csv(cases: Sequence[Case], split: Split) -> dict[str, int]:
    """The fold of each patient, where the CSV has a column of them."""
    fold_of = {case.patient: case.fold for case in cases if case.fold is not None}
    found = sorted(set(fold_of.values()))
    if found and (split.fold not in found or (split.folds or len(found)) != len(found)):
        said = f"split.fold={split.fold}" + ("" if split.folds is None else f" of split.folds={split.folds}")
        raise UserError(f"{said}: the CSV has the folds {', '.join(map(str, found))}")
    return fold_of


def _draw_folds(cases: Sequence[Case], split: Split) -> dict[str, int]:
    from sklearn.model_selection import KFold, StratifiedKFold

    if split.folds is None:
        raise UserError(f"split.fold={split.fold}: say of how many (split.folds=5), or add a column 'fold' to the CSV")
    patients, labels = _patients(cases)
    if len(patients) < split.folds:
        raise UserError(f"split.folds={split.folds}: there are {len(patients)} patients, fewer than folds")
    rarest, count = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if split.stratified and count < split.folds:
        raise UserError(
            f"split.folds={split.folds}: label {rarest!r} has {count} patients, fewer than folds; "
            "fewer folds, or split.stratified=false"
        )
    kind = StratifiedKFold if split.stratified else KFold
    folds = kind(split.folds, shuffle=True, random_state=split.seed).split(patients, labels)
    return {patients[index]: number for number, (_, held_out) in enumerate(folds) for index in held_out}


def _from_file(cohort: Cohort, path: Path) -> dict[str, str]:
    """A split.csv of an earlier run: every case of the cohort must be in it, under the same patient."""
    rows = _read_split(path)
    problems = []
    parts: dict[str, set[str]] = {}
    for case in cohort.cases:
        where = f"split.file: case {case.name} ({cohort.csv_path.name} line {case.line})"
        if case.name not in rows:
            problems.append(f"{where} is not in {path.name}")
            continue
        patient, part = rows[case.name]
        if patient not in (None, case.patient):
            problems.append(f"{where} is of patient {case.patient}, but of {patient} in {path.name}")
        parts.setdefault(case.patient, set()).add(part)
    problems += [
        f"split.file: patient {name} is in {' and '.join(sorted(found))}"
        for name, found in parts.items()
        if len(found) > 1
    ]
    if problems:
        raise UserError(problems)
    return {case.name: rows[case.name][1] for case in cohort.cases}


def _read_split(path: Path) -> dict[str, tuple[str | None, str]]:
    """(patient, part) of each case in a split.csv; the patient is None where there is no such column."""
    table = read_table(path, key="split.file", example="case,patient,label,split")
    if table.problems:
        raise UserError(f"split.file: {problem}" for problem in table.problems)
    if not {"case", "split"} <= set(table.header):
        raise UserError(f"split.file: {path.name} has no column 'case' or 'split'; expected a run's split.csv")
    rows: dict[str, tuple[str | None, str]] = {}
    for line, row in table.rows:
        part, name = row["split"], row["case"]
        if part not in SPLITS:
            raise UserError(f"split.file: {path.name} line {line}: 'split' must be train, val or test; found {part!r}")
        if rows.setdefault(name, (row.get("patient"), part))[1] != part:
            raise UserError(
                f"split.file: {path.name} line {line}: case {name} stands twice, in {rows[name][1]} and {part}"
            )
    return rows


def _check(cohort: Cohort, assigned: Mapping[str, str]) -> None:
    problems = [
        f"split: no case is in {part!r}; training needs some to train on and some to validate on"
        for part in ("train", "val")
        if part not in assigned.values()
    ]
    if not problems:
        trained = {case.label for case in cases_of(cohort, assigned, "train")}
        problems = [
            f"split: no case with label {label!r} is in 'train': the model could not learn it"
            for label in cohort.classes
            if label not in trained
        ]
    if problems:
        raise UserError(problems)


def split_table(cohort: Cohort, assigned: Mapping[str, str], hashes: Mapping[str, Mapping[str, str]]) -> str:
    """split.csv: `case,patient,label,split` and the content hash of each image, sorted by case; empty: missing."""
    modalities = list(cohort.cases[0].images)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "patient", "label", "split", *(f"hash_{name}" for name in modalities)])
    for case in cohort.cases:
        row = [hashes[case.name].get(name, "") for name in modalities]
        writer.writerow([case.name, case.patient, case.label, assigned[case.name], *row])
    return stream.getvalue()
