"""Which patients are trained on, validated on and set aside.

Always by patient. The draw depends on the patients' names, their labels and the seed; never on the order of the rows.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vwmm.config.errors import UserError
from vwmm.config.schema import Split
from vwmm.data.manifest import SPLITS, Case, Cohort


def split_cohort(cohort: Cohort, split: Split) -> dict[str, str]:
    """`train`, `val` or `test` for each case's name.

    In order of precedence: `split.file`; with `split.fold`, the CSV's column of folds or a draw of `split.folds`; the
    CSV's column `split`; a draw by `split.val_fraction`. Raises UserError where a part comes out empty.
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


def cases_of(cohort: Cohort, assigned: Mapping[str, str], part: str) -> list[Case]:
    """The cases of one part, sorted by name."""
    return [case for case in cohort.cases if assigned[case.name] == part]


def split_hash(cohort: Cohort, assigned: Mapping[str, str]) -> str:
    """Hash of who is where: equal for equal splits."""
    rows = [(case.name, case.patient, case.label, assigned[case.name]) for case in cohort.cases]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _patients(cases: Sequence[Case]) -> tuple[list[str], list[str]]:
    """Each patient, sorted, with the label that stratifies it: its most frequent, the first in order on a tie."""
    labels: dict[str, Counter[str]] = {}
    for case in cases:
        labels.setdefault(case.patient, Counter())[str(case.label)] += 1
    names = sorted(labels)
    return names, [min(labels[name].items(), key=lambda item: (-item[1], item[0]))[0] for name in names]


def _draw(cohort: Cohort, split: Split) -> dict[str, str]:
    patients, labels = _patients(cohort.cases)
    part_of = dict.fromkeys(patients, "train")
    rest, rest_labels = patients, labels
    for part, fraction in (("test", split.test_fraction), ("val", split.val_fraction)):
        if fraction == 0:
            continue
        wanted = max(1, round(fraction * len(patients)))
        drawn = set(_draw_patients(rest, rest_labels, wanted, split, part))
        part_of.update(dict.fromkeys(drawn, part))
        rest_labels = [label for name, label in zip(rest, rest_labels, strict=True) if name not in drawn]
        rest = [name for name in rest if name not in drawn]
    return {case.name: part_of[case.patient] for case in cohort.cases}


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
    in_csv = {case.name: case.fold for case in cohort.cases if case.fold is not None}
    if in_csv:
        found = sorted(set(in_csv.values()))
        if split.fold not in found:
            raise UserError(f"split.fold={split.fold}: the CSV has the folds {', '.join(map(str, found))}")
        return {case.name: "val" if in_csv[case.name] == split.fold else "train" for case in cohort.cases}
    if split.folds is None:
        raise UserError(f"split.fold={split.fold}: say of how many (split.folds=5), or add a column 'fold' to the CSV")
    fold_of = _draw_folds(cohort, split)
    return {case.name: "val" if fold_of[case.patient] == split.fold else "train" for case in cohort.cases}


def _draw_folds(cohort: Cohort, split: Split) -> dict[str, int]:
    from sklearn.model_selection import KFold, StratifiedKFold

    patients, labels = _patients(cohort.cases)
    assert split.folds is not None
    rarest, count = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if len(patients) < split.folds or (split.stratified and count < split.folds):
        raise UserError(f"split.folds={split.folds}: label {rarest!r} has {count} patients, fewer than folds")
    kind = StratifiedKFold if split.stratified else KFold
    folds = kind(split.folds, shuffle=True, random_state=split.seed).split(patients, labels)
    return {patients[index]: number for number, (_, held_out) in enumerate(folds) for index in held_out}


def _from_file(cohort: Cohort, path: Path) -> dict[str, str]:
    """A split.csv of an earlier run: every case of the cohort must be in it, under the same patient."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = {row["case"]: row for row in csv.DictReader(stream)}
            valid = all(row["split"] in SPLITS for row in rows.values())
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"split.file: {path} cannot be read as a split.csv: {error}") from error
    if not valid:
        raise UserError(f"split.file: {path}: column 'split' must be train, val or test in every row")
    problems = [
        f"split.file: case {case.name} ({cohort.csv_path.name} line {case.line}) is not in {path.name}"
        for case in cohort.cases
        if case.name not in rows
    ]
    parts: dict[str, set[str]] = {}
    for case in cohort.cases:
        if case.name in rows:
            parts.setdefault(case.patient, set()).add(rows[case.name]["split"])
    problems += [
        f"split.file: patient {name} is in {' and '.join(sorted(found))}"
        for name, found in parts.items()
        if len(found) > 1
    ]
    if problems:
        raise UserError(problems)
    return {case.name: rows[case.name]["split"] for case in cohort.cases}


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


def write_split(
    path: Path, cohort: Cohort, assigned: Mapping[str, str], hashes: Mapping[str, Mapping[str, str]]
) -> None:
    """Writes `case,patient,label,split` and the content hash of each image, sorted by case; empty: missing."""
    modalities = list(cohort.cases[0].images)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "patient", "label", "split", *(f"hash_{name}" for name in modalities)])
        for case in cohort.cases:
            row = [hashes[case.name].get(name, "") for name in modalities]
            writer.writerow([case.name, case.patient, case.label, assigned[case.name], *row])
