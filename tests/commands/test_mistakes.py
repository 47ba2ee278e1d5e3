"""Mistakes of a user: each a message to act on, printed once, exit code 2, and no run folder."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, TINY, run_command

Rows = list[dict[str, str]]


def with_rows(cohort: Path, target: Path, change: Callable[[Rows], Rows | None]) -> Path:
    """A copy of the cohort's CSV with changed rows, its images where they were."""
    with cohort.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row.update({name: str(cohort.parent / row[name]) if row[name] else "" for name in ("vw_mri", "mri", "ct")})
    rows = change(rows) or rows
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return target


def drop_column(name: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{key: value for key, value in row.items() if key != name} for row in rows]


def patient_in_two_splits(rows: Rows) -> Rows:
    for number, row in enumerate(rows):
        row["split"] = "val" if number % 5 == 0 else "train"
    rows[1]["patient"] = rows[0]["patient"]
    return rows


def duplicate_case(rows: Rows) -> None:
    rows[4]["case"] = rows[2]["case"]


def one_class(rows: Rows) -> None:
    for row in rows:
        row["label"] = "stable"


def rare_label(rows: Rows) -> None:
    rows[7]["label"] = "aneurysm"


def missing_file(rows: Rows) -> None:
    rows[3]["mri"] = rows[3]["mri"] + "x/nowhere.nii.gz"


def unreadable_file(rows: Rows) -> None:
    path = Path(rows[5]["vw_mri"] or rows[6]["vw_mri"])
    broken = path.parent.parent / "broken.nii.gz"
    broken.write_bytes(path.read_bytes()[:500])
    rows[5]["vw_mri"] = str(broken)


COHORT_MISTAKES = {
    "missing column": (drop_column("mri"), r"cohort\.csv line 1: column 'mri' is missing .*modalities\.mri\.column"),
    "missing label column": (drop_column("label"), r"line 1: column 'label' is missing"),
    "missing file": (missing_file, r"cohort\.csv line 5: case \S+: mri .*nowhere\.nii\.gz: file not found"),
    "unreadable file": (
        unreadable_file,
        r"cohort\.csv line 7: case \S+: vw_mri .*broken\.nii\.gz: the file is truncated",
    ),
    "label only once": (rare_label, r"cohort\.csv line 9: label 'aneurysm' occurs in one patient only"),
    "one class only": (one_class, r"every case has the same label 'stable'"),
    "patient in two splits": (
        patient_in_two_splits,
        r"line 3: case \S+: patient \S+ is in split train, but in split val in line 2",
    ),
    "duplicate case": (duplicate_case, r"cohort\.csv line 6: case \S+: this name already stands in line 4"),
}
KEY_MISTAKES = {
    "unknown key": (
        "train.epoch=3",
        r"argument train\.epoch=3: train\.epoch: no such key; did you mean train\.epochs\?",
    ),
    "wrong type": ("train.lr=fast", r"train\.lr: expected a valid number, found fast"),
    "zero epochs": ("train.epochs=0", r"train\.epochs: expected a number greater than or equal to 1, found 0"),
    "odd batch": ("train.batch_size=7", r"batch_size \(7\) must be a multiple of micro_batch_size \(2\)"),
    "too many weights": ("train.class_weights=[1,2]", r"class_weights has 2 numbers, but there are 3 classes"),
}


def assert_refused(arguments: list[str], pattern: str, cwd: Path) -> str:
    done = run_command("train", "--launch", "launch/cpu.yaml", *arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert len(re.findall(pattern, done.stderr)) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 6, done.stderr
    assert not (cwd / "runs").exists()
    return done.stderr


@pytest.mark.parametrize("mistake", COHORT_MISTAKES)
def test_a_mistake_in_the_cohort_names_file_and_line(mistake: str, cohort: Path, tmp_path: Path) -> None:
    change, pattern = COHORT_MISTAKES[mistake]
    table = with_rows(cohort, tmp_path / "cohort.csv", change)
    assert_refused([f"data.csv={table}", "data.allow_outside_root=true", *TINY], pattern, tmp_path)


@pytest.mark.parametrize("mistake", KEY_MISTAKES)
def test_a_mistake_in_the_configuration_names_the_key(mistake: str, cohort: Path, tmp_path: Path) -> None:
    argument, pattern = KEY_MISTAKES[mistake]
    assert_refused([f"data.csv={cohort}", *TINY, argument], pattern, tmp_path)


def test_a_missing_cohort_and_a_wrong_key_are_said_together(tmp_path: Path) -> None:
    stderr = assert_refused(["data.csv=nowhere.csv", "train.epoch=3"], "train.epochs", tmp_path)
    assert "2 errors" in stderr
    assert f"data.csv: file not found: {tmp_path}/nowhere.csv" in stderr


def test_mistakes_of_several_rows_are_said_together(cohort: Path, tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        duplicate_case(rows)
        missing_file(rows)
        unreadable_file(rows)

    table = with_rows(cohort, tmp_path / "cohort.csv", change)
    stderr = assert_refused([f"data.csv={table}", "data.allow_outside_root=true", *TINY], "already stands", tmp_path)
    assert "3 errors" in stderr


def test_under_accelerate_launch_the_message_is_printed_once_by_two_processes(cohort: Path, tmp_path: Path) -> None:
    done = run_command(
        ROOT / "vwmm" / "train.py",
        f"data.csv={cohort}",
        "train.epoch=3",
        cwd=tmp_path,
        launcher=["--config_file", str(ROOT / "launch" / "cpu_two_processes.yaml")],
    )
    assert done.returncode == 1  # all that accelerate launch can say
    assert done.stderr.count("did you mean train.epochs?") == 1
    assert not (tmp_path / "runs").exists()


def test_an_image_that_is_damaged_inside_leaves_no_run_folder(cohort: Path, tmp_path: Path) -> None:
    """A flipped byte in the middle of a gzip stream is found only when the image is read whole."""

    def flip(rows: Rows) -> None:
        path = Path(next(row["vw_mri"] for row in rows if row["vw_mri"]))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        broken = tmp_path / "flipped.nii.gz"
        broken.write_bytes(content)
        rows[0]["vw_mri"] = str(broken)

    table = with_rows(cohort, tmp_path / "cohort.csv", flip)
    arguments = [f"data.csv={table}", "data.allow_outside_root=true", *TINY]
    assert_refused(
        arguments, r"cohort\.csv line 2: case \S+: vw_mri flipped\.nii\.gz: cannot be read as nifti", tmp_path
    )


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--lunch", "x"], "argument --lunch: no such option"),
        (["epochs"], "argument epochs: expected KEY=VALUE"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: file not found"),
        (["--launch", "nowhere.yaml", "--config", "configs/notebook.yaml"], "data.csv: no cohort was given"),
    ],
)
def test_wrong_words_are_explained(words: list[str], pattern: str, tmp_path: Path) -> None:
    done = run_command("train", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert pattern in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistyped_cohort_is_not_replaced_by_the_demonstration(tmp_path: Path) -> None:
    arguments = ["--config", "configs/demo.yaml", "data.csv=typo/cohort.csv"]
    assert_refused(arguments, "data.csv: file not found", tmp_path)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("argument", "pattern"),
    [
        ("cache.dir=/proc/nowhere", "cache.dir: /proc/nowhere cannot be written"),
        ("run.dir=/proc/nowhere", "run.dir: /proc/nowhere/run cannot be written"),
        ("train.warmup_steps=99", "train.warmup_steps: 99 is not below the 8 steps"),
    ],
)
def test_unwritable_folder_and_endless_warm_up_are_reported_once(
    argument: str, pattern: str, cohort: Path, tmp_path: Path
) -> None:
    assert_refused([f"data.csv={cohort}", *TINY, argument], pattern, tmp_path)


def test_a_modality_that_no_training_case_has_is_refused(cohort: Path, tmp_path: Path) -> None:
    def no_ct(rows: Rows) -> Rows:
        rows = [row for row in rows if row["vw_mri"] or row["mri"]]
        for row in rows:
            row["ct"] = ""
        return rows

    table = with_rows(cohort, tmp_path / "cohort.csv", no_ct)
    pattern = "modalities.ct: no case that is trained on has this image"
    assert_refused([f"data.csv={table}", "data.allow_outside_root=true", *TINY], pattern, tmp_path)


def test_a_launch_file_for_gpus_is_refused_where_there_are_none(cohort: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run_command("train", "--launch", "launch/one_gpu.yaml", f"data.csv={cohort}", *TINY, cwd=tmp_path)
    assert done.returncode == 2
    assert "asks for a GPU, but none is visible" in done.stderr
