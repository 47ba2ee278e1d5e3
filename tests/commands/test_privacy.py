"""What is written in the images' own headers and names is nowhere in what vwmm writes: run folder, cache, trackers."""

import shutil
from pathlib import Path

import nibabel as nib
import pandas as pd
import pydicom
import pytest

from tests.conftest import TINY, run_command

NAME, RECORD, FOLDER = "Ziegelbauer", "MRN77310042", "adelheid_1961"


@pytest.fixture
def planted(cohort: Path, tmp_path: Path) -> Path:
    """The cohort's CSV, with a name, a record number and a birth year in headers, files' names and folders."""
    folder = tmp_path / "data"
    shutil.copytree(cohort.parent, folder)
    table = pd.read_csv(folder / "cohort.csv", dtype=str, keep_default_na=False)
    (folder / FOLDER).mkdir()
    for name in ("vw_mri", "mri", "ct"):
        for row, old in enumerate(table[name]):
            if old:
                new = f"{FOLDER}/{name}_{NAME}_{RECORD}_{row}{''.join(Path(old).suffixes)}"
                _plant(folder / old, folder / new)
                table.loc[row, name] = new
    table.to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv"


def _plant(old: Path, new: Path) -> None:
    if ".nii" in old.name:
        image = nib.load(old)
        image.header["descrip"] = f"{NAME} {RECORD}"
        nib.save(image, new)
    elif old.suffix in ("", ".dcm") and old.is_file():
        dataset = pydicom.dcmread(old)
        dataset.PatientName, dataset.PatientID = f"{NAME}^Adelheid", RECORD
        dataset.save_as(new)
    else:
        shutil.move(old, new)


def test_planted_names_record_numbers_and_paths_are_nowhere(planted: Path, tmp_path: Path) -> None:
    done = run_command(
        "train", "--launch", "launch/cpu.yaml", f"data.csv={planted}", *TINY, "train.epochs=1", "run.name=x",
        "tracking.trackers=[wandb,tensorboard,mlflow,trackio]", "tracking.mode=offline", "tracking.images=3",
        cwd=tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(planted.parent)]
    kinds = {path.relative_to(tmp_path).parts[:3] for path in written}
    for expected in (("runs", "x", "wandb"), ("runs", "x", "tensorboard"), ("runs", "mlflow.db"), ("trackio",)):
        assert any(kind[: len(expected)] == expected for kind in kinds), (expected, kinds)
    assert any(kind[0] == "cache" for kind in kinds)
    secrets = [text.encode() for text in (NAME, RECORD, FOLDER)]
    found = [(path, secret) for path in written for secret in secrets if secret in path.read_bytes()]
    assert found == []
    assert not any(secret.decode() in done.stdout + done.stderr for secret in secrets)
