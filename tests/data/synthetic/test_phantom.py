"""The synthetic cohort: its truth, its files, and that each modality shows its own finding and no other."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from nibabel.affines import obliquity as obliquity_of
from scipy.ndimage import distance_transform_edt

from tests.conftest import texts
from vwmm.data.synthetic import phantom, phantom_truth
from vwmm.system.errors import UserError

CASES, SITES, SEED = 24, 2, 5
PLAIN_FILES = {"cohort.csv", "truth.csv", "README.txt", "demo.json"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small cohort."""
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    assert phantom.make_cohort(out, cases=CASES, sites=SITES, seed=SEED) == out / "cohort.csv"
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_truth(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "cohort.csv").merge(pd.read_csv(folder / "truth.csv"), on=["case", "label"])


def ct_hu(path: Path) -> np.ndarray:
    header = pydicom.dcmread(path)
    return header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)


def wall_thickness_mm(path: Path) -> float:
    """The thickest place of what is bright, in any slice."""
    image = nib.load(path)
    voxels, zooms = image.get_fdata(), image.header.get_zooms()
    bright = voxels > 0.6 * np.percentile(voxels, 99.5)
    slices = [distance_transform_edt(bright[..., k], sampling=zooms[:2]).max() for k in range(bright.shape[2])]
    return 2 * float(np.median(sorted(slices)[-5:]))


def brightest_over_fat(path: Path) -> float:
    """The eight brightest pixels, in units of what a fifth of the image exceeds."""
    voxels = nib.load(path).get_fdata()
    return float(np.sort(voxels, axis=None)[-8:].mean() / np.percentile(voxels, 80))


@pytest.mark.parametrize("cases", [10, 24, 37, 300])
def test_the_counts_are_as_near_to_the_probabilities_as_the_size_allows(cases: int) -> None:
    drawn = phantom.draw_cases(phantom.Options(cases=cases, sites=3, seed=cases))

    assert len({case.name for case in drawn}) == len({case.patient for case in drawn}) == len(drawn) == cases
    classes = Counter(case.label for case in drawn)
    assert max(classes.values()) - min(classes[label] for label in phantom_truth.LABELS) <= 1
    for label, choices in phantom_truth.FINDINGS_OF.items():
        within = Counter(case.findings for case in drawn if case.label == label)
        assert set(within) <= set(choices)
        assert max(within.values()) - min(within[findings] for findings in choices) <= 1
        sites = Counter(case.site for case in drawn if case.label == label)
        assert max(sites.values()) - min(sites[number] for number in (1, 2, 3)) <= 1


def test_the_order_of_the_cases_says_nothing_about_the_class() -> None:
    drawn = phantom.draw_cases(phantom.Options(cases=300))
    place = [np.mean([case.index for case in drawn if case.label == label]) for label in phantom_truth.LABELS]
    # The mean place of 100 of 300 cases has a standard deviation of 7 around 150.5.
    assert np.abs(np.array(place) - 150.5).max() < 28


def test_age_sex_and_side_do_not_depend_on_the_truth() -> None:
    shared = [
        [(case.age, case.sex, case.side) for case in phantom.draw_cases(phantom.Options(cases=cases))][:30]
        for cases in (30, 31)  # another number of cases is another truth
    ]
    assert shared[0] == shared[1]
    assert len(set(shared[0])) > 20


def test_the_same_options_make_the_same_bytes_in_any_number_of_processes(cohort: Path, tmp_path: Path) -> None:
    phantom.make_cohort(tmp_path / "again", cases=CASES, sites=SITES, seed=SEED)
    phantom.make_cohort(tmp_path / "parallel", cases=CASES, sites=SITES, seed=SEED, workers=2)

    first = contents(cohort)
    assert len(first) == 3 * CASES + len(PLAIN_FILES)
    assert contents(tmp_path / "again") == first
    assert contents(tmp_path / "parallel") == first


def test_another_seed_makes_other_images(cohort: Path, tmp_path: Path) -> None:
    phantom.make_cohort(tmp_path / "other", cases=CASES, sites=SITES, seed=SEED + 1)

    first, other = contents(cohort), contents(tmp_path / "other")
    assert first.keys() == other.keys()
    assert [name for name in first if first[name] == other[name]] == []
    assert len(set(first.values())) == len(first)  # and no two images of a cohort are the same


def test_the_seed_reaches_every_image_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = phantom.draw_cases(phantom.Options())[0]
    scanner = phantom.draw_site(phantom.Options(), 1)
    monkeypatch.setattr(phantom, "draw_site", lambda options, number: scanner)  # so that only the drawing differs
    for seed in (0, 1):
        for modality in phantom_truth.MODALITIES:
            (tmp_path / str(seed) / modality).mkdir(parents=True)
        phantom._write_images(tmp_path / str(seed), phantom.Options(seed=seed), case)

    first, other = tmp_path / "0", tmp_path / "1"
    assert not np.array_equal(ct_hu(first / case.path("ct")), ct_hu(other / case.path("ct")))
    for modality in ("vw_mri", "mri"):
        voxels = [nib.load(folder / case.path(modality)).get_fdata() for folder in (first, other)]
        assert not np.array_equal(*voxels)


@pytest.mark.parametrize("modality", phantom_truth.MODALITIES)
def test_an_image_depends_on_its_own_finding_and_no_other(modality: str, tmp_path: Path) -> None:
    options = phantom.Options(cases=CASES, seed=SEED)
    case = phantom.draw_cases(options)[0]
    own = phantom_truth.MODALITIES.index(modality)
    images: dict[bool, set[bytes]] = {False: set(), True: set()}
    for number, findings in enumerate(f for choices in phantom_truth.FINDINGS_OF.values() for f in choices):
        folder = tmp_path / str(number) / modality
        folder.mkdir(parents=True)
        phantom._write_images(folder.parent, options, replace(case, findings=findings, images=(modality,)))
        images[findings[own]].add((folder.parent / case.path(modality)).read_bytes())

    # Eight truths, two images: header, voxels, noise and file size included.
    assert len(images[False]) == len(images[True]) == 1
    assert images[False] != images[True]


def test_the_table_names_each_image_by_a_relative_path_that_exists(cohort: Path) -> None:
    table = pd.read_csv(cohort / "cohort.csv")

    assert list(table.columns) == ["case", "patient", "label", "vw_mri", "mri", "ct", "site", "age", "sex"]
    assert list(table["case"][:2]) == ["case_0001", "case_0002"]
    assert list(table["patient"][:2]) == ["patient_0001", "patient_0002"]
    assert set(table["site"]) == {"site_1", "site_2"}
    named = [name for modality in phantom_truth.MODALITIES for name in table[modality]]
    assert not any(PurePosixPath(name).is_absolute() or "\\" in name or ".." in name for name in named)
    assert set(named) == set(contents(cohort)) - PLAIN_FILES
    assert b"\r" not in (cohort / "cohort.csv").read_bytes()


def test_the_truth_on_disk_gives_the_label(cohort: Path) -> None:
    table = with_truth(cohort)
    findings = table[["wall_thick", "haemorrhage", "calcification"]].astype(bool).to_numpy()
    assert len(table) == CASES
    assert [phantom_truth.label_of(phantom_truth.Findings(*row)) for row in findings] == list(table["label"])


@pytest.mark.parametrize(
    ("modality", "finding", "measure", "threshold"),
    [
        ("vw_mri", "wall_thick", wall_thickness_mm, 2.2),
        ("mri", "haemorrhage", brightest_over_fat, 1.65),
        ("ct", "calcification", lambda path: ct_hu(path).max(), 400),
    ],
)
def test_a_simple_measurement_finds_what_is_hidden(cohort: Path, modality, finding, measure, threshold) -> None:  # type: ignore[no-untyped-def]
    table = with_truth(cohort)
    measured = np.array([measure(cohort / name) for name in table[modality]])
    np.testing.assert_array_equal(measured > threshold, table[finding] == 1)


def test_nifti_is_oblique_anisotropic_int16_in_mm(cohort: Path) -> None:
    table = pd.read_csv(cohort / "cohort.csv")
    origins = set()
    for modality, shape in (("vw_mri", (64, 64, 32)), ("mri", (64, 64, 1))):
        for name in table[modality]:
            image = nib.load(cohort / name)
            zooms = image.header.get_zooms()
            assert image.shape == shape
            assert image.get_data_dtype() == np.int16
            assert image.header.get_xyzt_units()[0] == "mm"
            assert image.header["sform_code"] > 0
            assert image.header["qform_code"] > 0
            np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
            assert zooms[2] > 2 * zooms[0]
            assert 30 < zooms[0] * shape[0] < 50  # mm
            obliquity = np.degrees(obliquity_of(image.affine))
            assert ((obliquity > 0.5) & (obliquity < 15)).all()
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
            assert np.linalg.norm(image.affine[:3, 3]) < 150
            origins.add(tuple(image.affine[:3, 3]))
    assert len(origins) == 2 * CASES


def test_each_site_has_its_own_scanner(cohort: Path) -> None:
    table = pd.read_csv(cohort / "cohort.csv")
    seen = {
        (row.site, pydicom.dcmread(cohort / row.ct).Manufacturer, *nib.load(cohort / row.vw_mri).header.get_zooms())
        for row in table.itertuples()
    }
    assert len(seen) == SITES
    assert len({zoom for *_, zoom, _ in seen}) == SITES


def test_ct_is_a_valid_dicom_in_hounsfield_units(cohort: Path) -> None:
    uids = set()
    for row in with_truth(cohort).itertuples():
        header = pydicom.dcmread(cohort / row.ct)  # without force: preamble and file meta are there
        hu = ct_hu(cohort / row.ct)
        assert header.SOPClassUID == header.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
        assert header.SOPInstanceUID == header.file_meta.MediaStorageSOPInstanceUID
        assert header.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert (header.PatientName, header.PatientID) == (f"Synthetic^{row.case}", row.patient)
        assert header.StudyDescription == "SYNTHETIC vwmm demonstration"
        assert (header.RescaleSlope, header.RescaleIntercept, header.pixel_array.dtype) == (1, -1024, np.uint16)
        assert header.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
        assert header.PixelSpacing[0] == header.PixelSpacing[1] > 0
        assert hu.shape == (64, 64)
        assert -1024 <= hu.min() < -980  # air
        assert 500 <= hu.max() <= 1100 if row.calcification else 200 < hu.max() < 300
        assert ((hu > -150) & (hu < 550)).mean() > 0.3
        uids |= {header.SOPInstanceUID, header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID}
    assert len(uids) == 4 * CASES


def test_the_vessel_is_on_the_same_side_of_the_patient_in_nifti_and_dicom(cohort: Path) -> None:
    for row in pd.read_csv(cohort / "cohort.csv").itertuples():
        header = pydicom.dcmread(cohort / row.ct)
        mri = nib.load(cohort / row.mri)
        middle_x = (mri.affine @ [*((np.array(mri.shape) - 1) / 2), 1])[0]  # RAS: right is positive
        assert header.Laterality == ("R" if middle_x > 0 else "L")
        # The air beyond the skin is lateral: in RAS where x is high on the right; DICOM's columns run to the left.
        ct_air = (ct_hu(cohort / row.ct) < -900)[:, :: 1 if middle_x > 0 else -1]
        assert ct_air[:, :8].mean() > ct_air[:, 16:32].mean()


def test_full_size_has_clinical_matrices(tmp_path: Path) -> None:
    options = phantom.Options(size="full")
    case = phantom.draw_cases(options)[0]
    for modality in phantom_truth.MODALITIES:
        (tmp_path / modality).mkdir()
    phantom._write_images(tmp_path, options, case)

    assert nib.load(tmp_path / case.path("vw_mri")).shape == (256, 256, 96)
    assert nib.load(tmp_path / case.path("mri")).shape == (512, 512, 1)
    assert ct_hu(tmp_path / case.path("ct")).shape == (512, 512)
    assert (wall_thickness_mm(tmp_path / case.path("vw_mri")) > 2.2) == case.findings.wall_thick
    assert (ct_hu(tmp_path / case.path("ct")).max() > 400) == case.findings.calcification


def test_missing_images_are_empty_cells_and_no_case_is_left_without_one(tmp_path: Path) -> None:
    out = tmp_path / "missing"
    table = pd.read_csv(phantom.make_cohort(out, cases=20, missing=0.6))

    present = table[list(phantom_truth.MODALITIES)].notna()
    assert present.any(axis=1).all()
    assert not present.all().any()
    assert {n for m in phantom_truth.MODALITIES for n in table[m].dropna()} == set(contents(out)) - PLAIN_FILES


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.9])
def test_each_image_is_missing_with_the_chance_that_was_asked_for(missing: float) -> None:
    drawn = phantom.draw_cases(phantom.Options(cases=2000, missing=missing))
    present = np.array([[m in case.images for m in phantom_truth.MODALITIES] for case in drawn])

    expected = (missing - missing**3) / (1 - missing**3)  # given that a case keeps at least one
    assert present.any(axis=1).all()
    assert np.abs((1 - present.mean(axis=0)) - expected).max() < 0.04


def test_a_cohort_of_the_same_options_is_left_as_it_is(cohort: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}
    calls: list[int] = []

    path = phantom.make_cohort(
        cohort, cases=CASES, sites=SITES, seed=SEED, progress=lambda done, total: calls.append(done)
    )

    assert path == cohort / "cohort.csv"
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in cohort.rglob("*")} == before


def test_a_folder_with_anything_else_is_refused_and_left_alone(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty; give another --out, or remove it"):
        phantom.make_cohort(tmp_path, cases=CASES)
    with pytest.raises(UserError, match=r"cohort of other options .*; give another --out, or remove it"):
        phantom.make_cohort(cohort, cases=CASES, sites=SITES, seed=SEED + 1)
    with pytest.raises(UserError, match="is a file"):
        phantom.make_cohort(tmp_path / "notes.txt", cases=CASES)
    with pytest.raises(UserError, match="cannot be written"):
        phantom.make_cohort(tmp_path / "notes.txt" / "demo", cases=CASES)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    assert phantom.make_cohort(out, cases=10).is_file()
    assert len(contents(out)) == 34
    assert list(tmp_path.iterdir()) == [out]


def test_impossible_options_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        phantom.make_cohort(tmp_path / "no", cases=9, missing=float("nan"), sites=0, size="huge", seed=-1)  # type: ignore[arg-type]
    assert [problem.split(":")[0] for problem in texts(caught.value.problems)] == [
        "--cases",
        "--missing",
        "--sites",
        "--size",
        "--seed",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_aborted_run_leaves_nothing_behind(workers: int, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom.make_cohort(tmp_path / "deep" / "demo", cases=12, workers=workers, progress=stop)
    assert list((tmp_path / "deep").iterdir()) == []


def test_progress_counts_each_case_once(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    phantom.make_cohort(tmp_path / "counted", cases=10, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 10) for done in range(1, 11)]


def test_the_readme_and_the_options_are_written_beside_the_cohort(cohort: Path) -> None:
    readme = (cohort / "README.txt").read_text()
    assert readme.startswith("SYNTHETIC")
    assert f"--cases {CASES} --missing 0.0 --sites {SITES} --size small --seed {SEED}" in readme
    assert phantom_truth.ceilings_table() in readme
    options = json.loads((cohort / "demo.json").read_text())
    assert (options["cases"], options["sites"], options["seed"]) == (CASES, SITES, SEED)


def test_drawing_needs_neither_torch_nor_monai() -> None:
    code = "import sys, vwmm.data.synthetic.phantom; sys.exit(any(name in sys.modules for name in ('torch', 'monai')))"
    repository = Path(phantom.__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, timeout=60).returncode == 0
