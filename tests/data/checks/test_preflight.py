"""What the headers of the images show before any time is spent on them."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import vwmm.system.threads
from tests.conftest import texts
from tests.data.making import numbers, write_csv, write_dicom, write_nifti
from vwmm.config.schema import Cache, Data, Modality, Split
from vwmm.data.cache import content_index
from vwmm.data.cache.build import Failure, Job, build
from vwmm.data.checks import preflight
from vwmm.data.checks.preflight import check_cohort, check_images, image_problem
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.readers.read import check_header
from vwmm.system.errors import UserError

MODALITIES = {"vw_mri": Modality(dims=3, size=[8, 8, 8]), "ct": Modality(dims=2, size=[8, 8], slice=3)}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ten cases, all well."""
    rows = [["case", "label", "vw_mri", "ct"]]
    for number in range(10):
        write_nifti(tmp_path / "mr" / f"{number}.nii.gz", numbers(6, 5, 4, seed=number))
        write_dicom(tmp_path / "ct" / f"{number}.dcm", numbers(6, 5, seed=number).clip(0))
        ct = f"ct/{number}.dcm" if number % 3 else ""
        rows.append([f"c{number}", "ab"[number % 2], f"mr/{number}.nii.gz", ct])
    return write_csv(tmp_path / "cohort.csv", rows)


def test_a_good_cohort_has_no_problems_and_gets_its_split(table: Path) -> None:
    cohort, assigned = check_cohort(Data(csv=str(table)), Split(), MODALITIES)

    assert len(cohort.cases) == 10
    assert sorted(assigned.values()) == ["train"] * 8 + ["val"] * 2


def test_problems_name_file_line_and_modality_in_the_order_of_the_cases(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mr" / "7.nii.gz").write_bytes(b"nothing")
    (tmp_path / "ct" / "2.dcm").write_text("nothing")
    write_nifti(tmp_path / "mr" / "4.nii.gz", numbers(6, 5, 1))
    calls: list[tuple[int, int]] = []
    cohort = read_cohort(Data(csv=str(table)), MODALITIES)

    problems = check_images(cohort, MODALITIES, progress=lambda done, total: calls.append((done, total)))

    assert texts(problems) == [
        "cohort.csv line 4: case c2: ct ct/2.dcm: this is not a DICOM image, despite its name",
        "cohort.csv line 6: case c4: vw_mri mr/4.nii.gz: expected a volume (dims: 3), found a single slice of "
        "6 x 5 x 1",
        "cohort.csv line 9: case c7: vw_mri mr/7.nii.gz: this is not a gzip file, despite its name",
    ]
    assert calls == [(done, 16) for done in range(1, 17)]


def test_rows_and_files_are_reported_together(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mr" / "7.nii.gz").write_bytes(b"nothing")
    table.write_text(table.read_text().replace("c5,b", "c5,"))

    with pytest.raises(UserError) as caught:
        check_cohort(Data(csv=str(table)), Split(), MODALITIES)

    assert [(one.where, one.line) for one in caught.value.problems] == [("cohort.csv", 7), ("cohort.csv", 9)]


def test_files_need_not_be_opened(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mr" / "7.nii.gz").write_bytes(b"nothing")

    assert check_cohort(Data(csv=str(table)), Split(), MODALITIES, open_files=False)[0].cases


def test_an_image_elsewhere_is_described_by_its_whole_path(table: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    elsewhere = table.rename(tmp_path / "tables" / "cohort.csv")

    cohort = read_cohort(Data(csv=str(elsewhere), root=str(tmp_path)), MODALITIES)

    problem = image_problem(cohort.cases[1], "ct", cohort, "why", "unreadable")
    assert problem.text == f"cohort.csv line 3: case c1: ct {tmp_path}/ct/1.dcm: why"


@pytest.mark.parametrize("waits", [False, True])
def test_threads_look_into_files_only_where_the_disk_is_waited_for(
    table: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    cohort, threads = read_cohort(Data(csv=str(table)), MODALITIES), set[int]()

    def check(path: Path, **options: Any) -> tuple[int, ...]:
        threads.add(threading.get_ident())
        if waits:
            time.sleep(0.002)
        return check_header(path, **options)

    monkeypatch.setattr(vwmm.system.threads, "_NUM_SEEN", 4)
    monkeypatch.setattr(vwmm.system.threads, "_NUM_FOLLOWING", 2)
    monkeypatch.setattr(preflight, "check_header", check)

    assert check_images(cohort, MODALITIES) == []
    assert (threads == {threading.get_ident()}) is not waits


def test_of_many_images_those_in_the_cache_are_not_opened_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, opened = read_cohort(Data(csv=str(table)), MODALITIES), list[str]()
    cache = Cache(dir=str(tmp_path / "cache"))
    monkeypatch.setattr(preflight, "_MANY", 16)

    def check(path: Path, **options: Any) -> tuple[int, ...]:
        opened.append(path.name)
        return check_header(path, **options)

    monkeypatch.setattr(preflight, "check_header", check)
    monkeypatch.setattr(content_index, "RACY_S", -1.0)
    jobs = [
        Job(path, name, case.name)
        for case in cohort.cases
        for name, path in case.images.items()
        if path is not None and case.name not in ("c5", "c7")
    ]
    assert not [one for one in build(cache, MODALITIES, jobs, num_workers=1) if isinstance(one, Failure)]

    assert check_images(cohort, MODALITIES, cache=cache) == []
    assert opened == ["5.nii.gz", "5.dcm", "7.nii.gz", "7.dcm"]

    (tmp_path / "mr" / "2.nii.gz").write_bytes(b"nothing")
    (problem,) = check_images(cohort, MODALITIES, cache=cache)
    assert "case c2: vw_mri mr/2.nii.gz: this is not a gzip file" in problem.text

    opened.clear()
    other = MODALITIES | {"ct": MODALITIES["ct"].model_copy(update={"size": [4, 4]})}
    check_images(cohort, other, cache=cache)
    assert [name for name in opened if name.endswith(".dcm")] == [f"{n}.dcm" for n in range(10) if n % 3]
