"""`vwmm check`: faults that were planted in the demonstration cohort are found, and a clean one raises nothing."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image as Pillow
from scipy.ndimage import zoom

from tests.conftest import TINY, run_command, without_origin
from tests.data.making import write_csv
from tests.faults.rehearsing import in_long_form
from vwmm.__main__ import main
from vwmm.config.schema import Data, Modality
from vwmm.data.cache.content_index import content_hash
from vwmm.data.checks.near_duplicate_record import find_near_pairs
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.readers.read import read_image
from vwmm.data.synthetic.phantom import make_cohort

NUM_CASES = 60
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cohort of 60 cases of four hospitals."""
    return make_cohort(tmp_path_factory.mktemp("clean") / "demo", cases=NUM_CASES, sites=4, seed=11).parent


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where near-duplicates are kept for training, unless `cache.dir` says otherwise."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


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


def check(table: Path, out: Path, *more: str, code: int, num_workers: int = 2) -> dict[str, Any]:
    """Runs the command in this process; its JSON."""
    assert main(["check", f"data.csv={table}", "--out", str(out), "--workers", str(num_workers), *more]) == code
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
    assert set(result["kinds"]) == {
        "two_splits", "same_image", "swapped", "mixed_formats", "confounded", "shortcut", "identifiers",
    }  # fmt: skip
    assert sorted(table.parent.rglob("*")) == before
    first = of_kind(result, "same_image")[0]
    assert (first["line"], first["modality"], first["file"]) == (52, "ct", "ct/copy.nii.gz")
    shown = capsys.readouterr().out
    assert "error: CT and MR in each other's column: 10" in shown
    assert "line 22: case case_0021: ct mri/case_0021.nii.gz: column ct has an MR" in shown


@pytest.mark.parametrize("missing", [pytest.param(0.0, marks=in_long_form), 0.3])
def test_a_clean_cohort_raises_nothing(missing: float, tmp_path: Path) -> None:
    table = make_cohort(tmp_path / "demo", cases=40, sites=4, missing=missing, seed=21)

    result = check(table, tmp_path / "out", "--strict", code=0)

    assert result["findings"] == []
    assert result["images"] == sum(name["present"] for name in result["modalities"].values())


def test_each_of_many_copies_is_named_once(planted: Any, tmp_path: Path) -> None:
    """Eight noisy copies of one image, two exact ones of another, and a picture of that in grey levels."""

    def copy(folder: Path, rows: Rows) -> None:
        image = nibabel.load(folder / rows[0]["vw_mri"])
        voxels = image.get_fdata()
        for number in range(20, 28):
            noise = np.random.default_rng(number).normal(0, 0.005 * np.ptp(voxels), voxels.shape)
            nibabel.save(
                nibabel.Nifti1Image((voxels + noise).astype(np.float32), image.affine), folder / f"{number}.nii"
            )
            rows[number]["vw_mri"] = f"{number}.nii"
        mri = read_image(folder / rows[1]["mri"]).voxels
        for number in (30, 31):
            shutil.copy(folder / rows[1]["mri"], folder / f"copy_{number}.nii.gz")
            rows[number]["mri"] = f"copy_{number}.nii.gz"
        grey = np.rint((mri - mri.min()) / np.ptp(mri) * 255).astype(np.uint8)
        Pillow.fromarray(np.squeeze(grey).T).save(folder / "copy.png")
        rows[32]["mri"] = "copy.png"

    table = planted(copy)
    result = check(table, tmp_path / "out", f"cache.dir={tmp_path / 'kept'}", code=2)

    cohort = read_cohort(Data(csv=str(table)), dict.fromkeys(("vw_mri", "mri", "ct"), Modality(dims=2, size=[8, 8])))
    hashes = {
        case.name: {name: content_hash(path) for name, path in case.images.items() if path is not None}
        for case in cohort.cases
    }
    kept = find_near_pairs(tmp_path / "kept", cohort, hashes)
    assert {pair.second[0] for pair in kept} >= {f"case_{n:04d}" for n in (*range(21, 29), 33)}
    assert all("case_0002" not in (pair.first[0], pair.second[0]) or pair.likeness < 1 for pair in kept), "equal files"

    near = [(one["line"], one["modality"]) for one in of_kind(result, "near_duplicate")]
    assert near == [*((line, "vw_mri") for line in range(22, 30)), (34, "mri")]
    assert all(
        "to line 2: " in one["found"] for one in of_kind(result, "near_duplicate") if one["modality"] == "vw_mri"
    )
    assert [one["line"] for one in of_kind(result, "same_image")] == [32, 33]


def test_files_of_a_class_from_another_day_are_a_shortcut(planted: Any, tmp_path: Path) -> None:
    def age(folder: Path, rows: Rows) -> None:
        for row in rows:
            day = 20000 + 30 * (row["label"] == "no_plaque")
            for name in ("vw_mri", "mri", "ct"):
                os.utime(folder / row[name], (day * 86400.0, day * 86400.0 + 5))

    result = check(planted(age), tmp_path / "out", "--strict", code=1)

    assert list(result["kinds"]) == ["shortcut"]
    assert "file date" in of_kind(result, "shortcut")[0]["found"]


def faults_of_images(folder: Path, rows: Rows) -> None:
    """An empty file, a constant one, one with a NaN, a slice for a volume, a resized and cropped copy."""
    (folder / rows[2]["mri"]).write_bytes(b"")
    image = nibabel.load(folder / rows[3]["vw_mri"])
    voxels = np.asarray(image.dataobj, np.float32)
    nibabel.save(nibabel.Nifti1Image(np.ones_like(voxels), image.affine), folder / rows[3]["vw_mri"])
    voxels[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), folder / rows[4]["vw_mri"])
    nibabel.save(nibabel.Nifti1Image(voxels[..., 3:4] + 1, image.affine), folder / rows[5]["vw_mri"])
    copied = read_image(folder / rows[6]["mri"]).voxels[..., 0].astype(np.float32)
    np.save(folder / "mri" / "copy.npy", np.flip(zoom(copied[1:-1, 1:-1], 0.8, order=1), 0) * 0.7 + 3)
    rows[7]["mri"] = "mri/copy.npy"


def test_each_fault_of_an_image_is_named_with_its_place(planted: Any, tmp_path: Path) -> None:
    table = planted(faults_of_images)

    result = check(table, tmp_path / "out", code=2)

    assert [(one["kind"], one["line"], one["case"], one["modality"], one["file"]) for one in result["findings"]] == [
        ("empty", 4, "case_0003", "mri", "mri/case_0003.nii.gz"),
        ("constant", 5, "case_0004", "vw_mri", "vw_mri/case_0004.nii.gz"),
        ("not_finite", 6, "case_0005", "vw_mri", "vw_mri/case_0005.nii.gz"),
        ("dimension", 7, "case_0006", "vw_mri", "vw_mri/case_0006.nii.gz"),
        ("near_duplicate", 9, "case_0008", "mri", "mri/copy.npy"),
        ("mixed_formats", None, "", "mri", ""),
    ]
    assert "line 8: case case_0007 of patient patient_0007" in result["findings"][-2]["found"]
    assert "1 of 59 images are pictures or arrays" in result["findings"][-1]["found"]
    assert all(one["found"] and one["action"] for one in result["findings"])


def test_nothing_depends_on_the_number_of_workers(planted: Any, tmp_path: Path) -> None:
    table = planted(faults_of_images)
    extra = tmp_path / "copy.json"

    check(table, tmp_path / "two", code=2)
    check(table, tmp_path / "three", "--json", str(extra), code=2, num_workers=3)

    two, three = tmp_path / "two", tmp_path / "three"
    assert (two / "check.json").read_bytes() == (three / "check.json").read_bytes()
    pages = [(folder / "report.html").read_text() for folder in (two, three)]
    assert without_origin(pages[0]) == without_origin(pages[1])
    assert re.search(r"<code>vwmm check data.csv=[^/<]*\.csv --out \.\.\. --workers 3 --json \.\.\.</code>", pages[1])
    assert extra.read_bytes() == (tmp_path / "two" / "check.json").read_bytes()


def test_no_value_of_a_header_is_in_what_is_written(planted: Any, tmp_path: Path, capfd: Any) -> None:
    def name_them(folder: Path, rows: Rows) -> None:
        for row in rows[:4]:
            header = pydicom.dcmread(folder / row["ct"])
            header.PatientName, header.PatientBirthDate, header.AccessionNumber = "Zaphod^Bee", "19420101", "ACC77X"
            header.save_as(folder / row["ct"])

    result = check(planted(name_them), tmp_path / "out", "--strict", code=1)

    assert [one["found"] for one in result["findings"]] == [
        f"{keyword} is filled in: 4 of 60 DICOM images" for keyword in ("AccessionNumber", "PatientBirthDate",
                                                                         "PatientName")
    ]  # fmt: skip
    said = "".join(capfd.readouterr()) + "".join(file.read_text() for file in (tmp_path / "out").iterdir())
    assert not [secret for secret in ("Zaphod", "Bee", "19420101", "ACC77X") if secret in said]


def test_the_page_needs_no_network_and_shows_each_case(clean: Path, tmp_path: Path) -> None:
    check(clean / "cohort.csv", tmp_path / "out", code=0)

    page = (tmp_path / "out" / "report.html").read_text()

    assert page.count("data:image/jpeg;base64,") == 3 * NUM_CASES
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page
    assert len(page) < 1_500_000


def test_a_table_with_wrong_rows_is_checked_as_far_as_it_can_be(planted: Any, tmp_path: Path) -> None:
    def spoil(folder: Path, rows: Rows) -> None:
        rows[1]["label"] = ""
        rows[2]["mri"] = "mri/nowhere.nii.gz"
        (folder / rows[3]["mri"]).write_bytes(b"")

    result = check(planted(spoil), tmp_path / "out", code=2)

    assert [(one["kind"], one["line"]) for one in result["findings"]] == [("table", 3), ("table", 4), ("empty", 5)]


def test_a_cohort_about_which_little_can_be_said_says_so(
    planted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shrink(_: Path, rows: Rows) -> None:
        del rows[12:]
        for row in rows:
            row["hospital"] = row.pop("site")
        rows[1]["patient"] = rows[0]["patient"].upper()

    result = check(planted(shrink), tmp_path / "out", code=0)

    small, carried = result["notes"]
    assert small.startswith("classes with fewer than 10 patients in a part: no_plaque ")
    assert (
        carried
        == "columns age, sex, hospital are carried to the predictions, for sub-groups; training does not use them"
    )
    (named, few) = result["remarks"]
    assert named.startswith("The cohort has no column 'site': nothing was tested by site.")
    assert few.startswith("12 patients are too few for the tables")
    assert f"note: {few}" in capsys.readouterr().out
    assert [one["line"] for one in of_kind(result, "similar_patient_names")] == [3]


def test_a_report_never_lands_among_images_or_on_another_file(
    planted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = planted(lambda folder, rows: None)
    folder, link = table.parent, tmp_path / "link"
    link.symlink_to(folder)
    (tmp_path / "mine.json").write_text("{}")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for words, message in (
        (["--out", str(folder / "ct" / "..")], "is the cohort's own folder"),
        (["--out", str(link)], "is the cohort's own folder"),
        (["--out", str(folder / "ct")], "which is no report's; choose a folder of its own"),
        (["--json", str(folder / "demo.json")], "this file is no result of `vwmm check`"),
        (["--json", str(tmp_path / "mine.json")], "this file is no result of `vwmm check`"),
        (["--out", "/proc/report"], "cannot be written"),
        (["--out", str(tmp_path / ("n" * 300))], "cannot be written"),
    ):
        out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
        assert main(["check", f"data.csv={table}", *words, *out]) == 2, words
        assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out" / "check.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "none"], "--workers none: expected a whole number"),
        (["--json", "result.txt"], "--json result.txt: expected the name of a .json file"),
        (["--out", "{folder}"], "is the cohort's own folder"),
        (["--timeout-s", "0"], "--timeout-s 0: expected a whole number from 1"),
        (["--sheets"], "--sheets: no such option"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_read(
    arguments: list[str], message: str, clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("{folder}", str(clean)) for word in arguments]

    assert main(["check", f"data.csv={clean / 'cohort.csv'}", *words]) == 2
    assert message in capsys.readouterr().err


def test_training_refuses_a_file_that_is_in_two_parts(planted: Any, tmp_path: Path) -> None:
    def copy(folder: Path, rows: Rows) -> None:
        for number, row in enumerate(rows):
            row["split"] = ("train", "val")[number % 2]
        shutil.copy(folder / rows[6]["mri"], folder / "mri" / "copy.nii.gz")
        rows[7]["mri"] = "mri/copy.nii.gz"

    done = run_command("train", "--launch", "launch/cpu.yaml", f"data.csv={planted(copy)}", *TINY, cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert "line 9: case case_0008: mri: is the same file as mri of case case_0007 in line 8" in done.stderr


@pytest.mark.parametrize(
    ("fault", "options", "kind", "reason"),
    [
        ("kill", (), "crash", "the process that read it was ended by SIGKILL, perhaps for want of memory"),
        ("hang", ("--timeout-s", "8"), "timeout", "reading it did not end within 8 s"),
        pytest.param("stop", ("--timeout-s", "8"), "timeout", "reading it did not end within 8 s", marks=in_long_form),
    ],
)
def test_a_process_that_dies_or_hangs_costs_the_images_that_it_had_in_hand(
    fault: str, options: tuple[str, ...], kind: str, reason: str, clean: Path, tmp_path: Path
) -> None:
    done = run_command(
        "check", f"data.csv={clean / 'cohort.csv'}", "--out", "out", "--workers", "3", *options, cwd=tmp_path,
        VWMM_FAULT=f"phase=read,case=case_0003,do={fault}",
    )  # fmt: skip

    result = json.loads((tmp_path / "out" / "check.json").read_text())
    assert done.returncode == 2, done.stderr
    assert [(one["kind"], one["case"], one["modality"], one["found"]) for one in result["findings"]] == [
        (kind, "case_0003", name, reason) for name in ("ct", "mri", "vw_mri")
    ]
    assert result["images"] == 3 * NUM_CASES - 3
    assert "Traceback" not in done.stderr
