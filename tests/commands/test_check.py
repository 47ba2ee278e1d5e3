"""`vwmm check`: faults that were planted in the demonstration cohort are found, and a clean one raises nothing."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from tests.data.making import write_csv
from vwmm.__main__ import main
from vwmm.data.phantom import make_cohort
from vwmm.data.readers import read_image

NUM_CASES = 60
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cohort of 60 cases of four hospitals."""
    return make_cohort(tmp_path_factory.mktemp("clean") / "demo", cases=NUM_CASES, sites=4, seed=11).parent


@pytest.fixture
def planted(clean: Path, tmp_path: Path) -> Callable[[Callable[[Path, Rows], None]], Path]:
    """Copies the cohort, lets a function change its rows and files, and returns the new table."""

    def plant(change: Callable[[Path, Rows], None]) -> Path:
        folder = Path(shutil.copytree(clean, tmp_path / "planted"))
        with (folder / "cohort.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        change(folder, rows)
        return write_csv(folder / "cohort.csv", [list(rows[0]), *(list(row.values()) for row in rows)])

    return plant


def check(table: Path, out: Path, *more: str, code: int) -> dict[str, Any]:
    """Runs the command in this process; its JSON."""
    assert main(["check", f"data.csv={table}", "--out", str(out), "--workers", "2", *more]) == code
    result: dict[str, Any] = json.loads((out / "check.json").read_text())
    return result


def of_kind(result: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in result["findings"] if one["kind"] == kind]


def all_faults(folder: Path, rows: Rows) -> None:
    """Three patients in two splits, five copies, a site that gives the label away, ten swapped pairs."""
    for number, row in enumerate(rows):
        row["split"] = ("train", "train", "val")[number % 3]
        row["site"] = f"site_{row['label']}" if number % 6 else row["site"]
        if 20 <= number < 30:
            row["mri"], row["ct"] = row["ct"], row["mri"]
    for number in range(3):
        rows[number + 1]["patient"], rows[number + 10]["patient"] = (f"shared_{number}",) * 2
        rows[number + 1]["split"], rows[number + 10]["split"] = "train", "val"
    copies = ["copy.nii.gz", "copy.npy", "copy.nrrd", "copy.mha", "other.nii.gz"]
    for number, name in enumerate(copies):
        image = read_image(folder / rows[40 + number]["mri" if number else "ct"])
        column = "mri" if number else "ct"
        rows[50 + number][column] = save(folder / column / name, image.voxels, flips=number % 2)


def save(path: Path, voxels: np.ndarray, *, flips: int) -> str:
    """The voxels in another format, in which the axes may run the other way."""
    voxels = np.flip(voxels.swapaxes(0, 1), 0) if flips else voxels
    if path.suffix == ".npy":
        np.save(path, voxels)
    elif path.suffix in (".nrrd", ".mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T)), str(path))
    else:
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 3, 1, 1])), path)
    return str(path.relative_to(path.parents[1]))


def test_each_planted_fault_is_found(planted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = planted(all_faults)
    before = sorted(table.parent.rglob("*"))

    result = check(table, tmp_path / "out", code=2)

    assert [one["found"].split(" is in ")[0] for one in of_kind(result, "two_splits")] == [
        f"patient shared_{number}" for number in range(3)
    ]
    assert sorted(one["case"] for one in of_kind(result, "same_image")) == [f"case_{n:04d}" for n in range(51, 56)]
    assert [one["case"] for one in of_kind(result, "swapped")] == [f"case_{number:04d}" for number in range(21, 31)]
    confounded = [one["found"] for one in of_kind(result, "confounded")]
    assert [text for text in confounded if text.startswith("label by site:")], result["tables"]
    assert of_kind(result, "shortcut")
    # Those who were given another name in the table are known by their own one in the header.
    assert [one["found"] for one in of_kind(result, "identifiers")] == ["PatientID is filled in: 6 of 49 DICOM images"]
    assert set(result["kinds"]) == {"two_splits", "same_image", "swapped", "confounded", "shortcut", "identifiers"}
    assert sorted(table.parent.rglob("*")) == before
    first = of_kind(result, "same_image")[0]
    assert (first["line"], first["modality"], first["file"]) == (52, "ct", "ct/copy.nii.gz")
    shown = capsys.readouterr().out
    assert "error: CT and MR in each other's column: 10" in shown
    assert "line 22: case case_0021: ct mri/case_0021.nii.gz: column ct has an MR" in shown
