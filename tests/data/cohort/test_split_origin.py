"""How a split came about, in words, for every way in which one can."""

from pathlib import Path
from typing import Any

import pytest

from vwmm.config.data_schema import Columns
from vwmm.config.schema import Data, Modality, Split
from vwmm.config.split_record import SplitRecord
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.cohort.splits import record_of_split, split_cohort

FILE = "case,patient,label,split\n" + "".join(
    f"c{n},p{n // 2},{'ab'[n % 2]},{('train', 'train', 'val', 'test')[n // 6]}\n" for n in range(24)
)
FOLDS = "case,patient,label,split,fold\n" + "".join(
    f"c{n},p{n // 2},{'ab'[n % 2]},{'test,' if n >= 20 else f'train,{n // 2 % 5}'}\n" for n in range(24)
)


def cohort_of(folder: Path, **columns: list[Any]) -> Cohort:
    """24 cases of 12 patients of two classes and four sites."""
    rows = [
        {"case": f"c{n}", "patient": f"p{n // 2}", "label": "ab"[n % 2], "ct": "x.nii", "site": "NEWS"[n // 6]}
        | {name: str(values[n // 2]) for name, values in columns.items()}
        for n in range(24)
    ]
    path = folder / "cohort.csv"
    path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n")
    (folder / "x.nii").touch()
    return read_cohort(Data(csv=str(path)), {"ct": Modality(dims=3, size=[32, 32, 32])})


PARTS = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
NUMBERS = [0, 1, 2, 3] * 3
CASES: list[tuple[dict[str, list[Any]], dict[str, Any], str]] = [
    ({}, {}, "drawn: validation 0.2 of the patients, seed 0, stratified by class"),
    (
        {},
        {"test_fraction": 0.2, "seed": 3, "stratified": False},
        "drawn: validation 0.2, test 0.2 of the patients, seed 3, not stratified",
    ),
    (
        {},
        {"by_site": "stratify"},
        "drawn: validation 0.2 of the patients, seed 0, stratified by class and site",
    ),
    (
        {},
        {"by_site": "hold_out", "val_sites": ["N"], "test_sites": ["E", "W"]},
        "whole sites held out: validation N, test E, W",
    ),
    (
        {},
        {"by_site": "hold_out", "test_sites": ["E"]},
        "drawn: validation 0.2 of the patients, in whole sites, seed 0, each class in each part if that can be; "
        "test site E held out",
    ),
    ({"split": PARTS}, {"seed": 5}, "by the column 'split'"),
    ({"split": PARTS, "fold": NUMBERS}, {}, "by the column 'split'; the column 'fold' is not used"),
    ({"fold": NUMBERS}, {}, "drawn: validation 0.2 of the patients, seed 0, stratified by class; the column 'fold' is "
                            "not used"),
    ({"fold": NUMBERS}, {"fold": 1}, "fold 1 of 0, 1, 2, 3, by the column 'fold'"),
    (
        {"split": PARTS, "fold": NUMBERS},
        {"fold": 1},
        "fold 1 of 0, 1, 2, 3, by the column 'fold'; test cases by the column 'split', of which 'train' and 'val' are "
        "not used",
    ),
    (
        {"fold": NUMBERS},
        {"fold": 1, "test_fraction": 0.2, "seed": 7},
        "fold 1 of 0, 1, 2, 3, by the column 'fold'; test cases drawn: 0.2 of the patients, seed 7, stratified by "
        "class",
    ),
    ({}, {"fold": 1, "folds": 4}, "fold 1 of 0, 1, 2, 3, drawn: seed 0, stratified by class"),
    (
        {},
        {"fold": 1, "folds": 3, "test_fraction": 0.2, "seed": 7},
        "fold 1 of 0, 1, 2, drawn: seed 7, stratified by class; test cases drawn: 0.2 of the patients, seed 7, "
        "stratified by class",
    ),
    (
        {},
        {"fold": 1, "folds": 2, "by_site": "hold_out", "test_sites": ["N"]},
        "fold 1 of 0, 1, drawn: in whole sites, seed 0, each class in each part if that can be; test site N held out",
    ),
    (
        {"split": PARTS},
        {"fold": 0, "folds": 3},
        "fold 0 of 0, 1, 2, drawn: seed 0, stratified by class; test cases by the column 'split', of which 'train' and "
        "'val' are not used",
    ),
    ({}, {"file": "split.csv"}, "by the file split.csv"),
    ({"split": PARTS}, {"file": "split.csv"}, "by the file split.csv; the column 'split' is not used"),
    ({}, {"file": "folds.csv", "fold": 2}, "fold 2 of 0, 1, 2, 3, 4, by the file folds.csv"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "split", "words"), CASES)
def test_the_words_are_those_of_what_decided(
    tmp_path: Path, columns: dict[str, list[Any]], split: dict[str, Any], words: str
) -> None:
    (tmp_path / "split.csv").write_text(FILE)
    (tmp_path / "folds.csv").write_text(FOLDS)
    cohort = cohort_of(tmp_path, **columns)
    if "file" in split:
        split = split | {"file": str(tmp_path / split["file"])}
    chosen = Split.model_validate(split)

    record = record_of_split(cohort, split_cohort(cohort, chosen), chosen, Columns())

    assert record.words() == words
    assert sum(count.cases for count in record.parts.values()) == 24
    assert str(tmp_path) not in str(record)


def test_the_counts_are_of_all_parts_and_survive_json(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, part=PARTS)
    chosen = Split(test_fraction=0.25, val_fraction=0.25)
    record = record_of_split(cohort, split_cohort(cohort, chosen), chosen, Columns())

    assert record.counts() == (
        "12 cases of 6 patients to train on, 6 cases of 3 patients to validate on, 6 cases of 3 patients set aside "
        "to test"
    )
    assert SplitRecord.of_json(record.to_json()) == record


@pytest.mark.parametrize("damaged", [None, {}, {"by": "draw"}, {"parts": 3}, "split", {"by": 1, "parts": {"val": []}}])
def test_what_was_not_recorded_is_not_known(damaged: Any) -> None:
    assert SplitRecord.of_json(damaged) is None


def test_a_column_of_another_name_is_named(tmp_path: Path) -> None:
    path = cohort_of(tmp_path, part=PARTS).csv_path
    columns = Columns(split="part")
    cohort = read_cohort(Data(csv=str(path), columns=columns), {"ct": Modality(dims=3, size=[32, 32, 32])})

    record = record_of_split(cohort, split_cohort(cohort, Split()), Split(), columns)

    assert record.words() == "by the column 'part'"
