"""`vwmm manifest DIR`: a cohort's table from what is in a folder, shown first, written when asked."""

import csv
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.data.making import write_dicom
from vwmm.__main__ import main
from vwmm.config.schema import Data, Modality
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.read_cases import read_cohort

Capture = pytest.CaptureFixture[str]
FLAT = Modality(dims=2, size=[32, 32])
ODD = ["plain", "two words", "a,b", 'quo"te', "Ünïcode 患者", "it's; [odd] {x}", "-dash"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"x")


def read_rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def cohort_of(path: str, *modalities: str, need_labels: bool = False) -> Cohort:
    """As training reads it."""
    return read_cohort(Data(csv=path), dict.fromkeys(modalities, FLAT), need_labels=need_labels)


def dicom(path: str, patient: str, description: str, *, series: str) -> None:
    """One slice; the pixels are of no interest."""
    write_dicom(Path(path), np.zeros((4, 4), np.uint16), series=series)
    header = pydicom.dcmread(path)
    header.PatientID, header.SeriesDescription = patient, description
    header.save_as(path)


def test_it_shows_what_it_would_match_and_writes_nothing(here: Path, capsys: Capture) -> None:
    touch(
        "d/001/vw_a.nii.gz", "d/001/ct/1.dcm", "d/002/vw_b.nii.gz", "d/003/ct/1.dcm", "d/003/scout.nii", "d/.x/vw.nii"
    )
    before = sorted(here.rglob("*"))

    assert main(["manifest", "d", "--pattern", "vw_mri={patient}/vw*.nii.gz", "--pattern", "ct={patient}/ct/"]) == 0

    said = capsys.readouterr()
    assert "3 cases of 3 patients" in said.out
    assert "vw_mri: 2 images, 1 missing" in said.out
    assert "patient,vw_mri,ct\n001,001/vw_a.nii.gz,001/ct\n002,002/vw_b.nii.gz,\n003,,003/ct\n" in said.out
    assert "nothing was written; --out cohort.csv writes it" in said.out
    assert "image files left over: 1 (003/scout.nii)" in said.err
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("out", ["d/cohort.csv", "cohort.csv", "tables/cohort.csv"])
def test_any_name_is_written_so_that_training_reads_it_back(out: str, here: Path, capsys: Capture) -> None:
    Path("tables").mkdir()
    touch(*(f"d/{name}/the image, 1.nii" for name in ODD))

    assert main(["manifest", "d", "--pattern", "mri={patient}/the image*.nii", "--out", out]) == 0

    data = Data(csv=out, allow_outside_root=out.startswith("tables"))
    cases = read_cohort(data, {"mri": FLAT}, need_labels=False).cases
    assert {case.patient for case in cases} == set(ODD)
    for case in cases:
        image = case.images["mri"]
        assert image is not None
        assert image.resolve() == here / "d" / case.patient / "the image, 1.nii"
    assert ("data.allow_outside_root=true" in capsys.readouterr().out) == out.startswith("tables")
    assert not any(row["mri"].startswith("/") for row in read_rows(out))


def test_links_on_the_way_do_not_lead_astray(here: Path) -> None:
    touch("elsewhere/d/a/ct.nii", "deep/tables/x")
    os.symlink("elsewhere/d", "d")
    os.symlink("deep/tables", "tables")
    for out, written in (("c.csv", "d/a/ct.nii"), ("tables/c.csv", "../../elsewhere/d/a/ct.nii")):
        assert main(["manifest", "d", "--pattern", "ct={patient}/ct.nii", "--out", out]) == 0
        assert [row["ct"] for row in read_rows(out)] == [written]
        assert (here / out).parent.joinpath(written).is_file()


def test_a_file_is_replaced_only_by_force(capsys: Capture) -> None:
    touch("d/a/ct.nii", "mine.csv")
    command = ["manifest", "d", "--pattern", "ct={patient}/ct.nii", "--out", "mine.csv"]
    assert main(command) == 2
    assert "--out mine.csv: this file is there already" in capsys.readouterr().err
    assert Path("mine.csv").read_bytes() == b"x"
    assert main([*command, "--force"]) == 0
    assert read_rows("mine.csv") == [{"patient": "a", "ct": "d/a/ct.nii"}]


@pytest.mark.parametrize("out", ["labels.csv", "d/../labels.csv", "d/sites.csv", "d/a/ct.nii", "link.csv"])
def test_what_the_table_is_made_of_is_not_replaced_even_by_force(out: str, capsys: Capture) -> None:
    touch("d/a/ct.nii", "other.csv")
    os.symlink("other.csv", "link.csv")
    for name in ("labels.csv", "d/sites.csv"):
        Path(name).write_text("id,what\na,x\n")
    before = Path(out).read_bytes()
    command = ["manifest", "d", "--pattern", "ct={patient}/ct.nii", "--labels", "labels.csv:id:what"]

    assert main([*command, "--sites", "sites.csv:id:what", "--out", out, "--force"]) == 2

    assert f"--out {out}: " in capsys.readouterr().err
    assert Path(out).read_bytes() == before
    assert Path("link.csv").is_symlink()


def test_unwritable_table_is_reported_before_the_work(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("d/a/ct.nii")
    command = ["manifest", "d", "--pattern", "ct={patient}/ct.nii", "--out"]
    for out in ("/proc/c.csv", "n" * 300 + ".csv"):
        assert main([*command, out]) == 2
        said = capsys.readouterr()
        assert f"--out {out}: cannot be written: " in said.err
        assert said.out == ""

    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vwmm.manifest.write_whole", full)
    assert main([*command, "c.csv"]) == 2
    assert "--out c.csv: cannot be written: No space left on device" in capsys.readouterr().err


def test_all_that_stands_against_a_table_is_said_at_once(here: Path, capsys: Capture) -> None:
    touch("d/a/ct_1.nii", "d/a/ct_2.nii", "d/b /ct_1.nii", "d/c_1/x/ct_1.nii", "d/c/1/ct_1.nii")
    Path("labels.csv").write_text("who,what\na,ill\na,well\n")
    command = ["--pattern", "ct={patient}/**/ct_*.nii", "--pattern", "mri={patient}/mri.nii"]
    assert main(["manifest", "d", *command, "--labels", "labels.csv:who:what", "--out", "c.csv"]) == 2
    said = capsys.readouterr().err
    assert "labels.csv line 3: another what than in line 2" in said
    narrower = "ct: 2 images for one case: a/ct_1.nii, a/ct_2.nii; make the pattern or description narrower; "
    assert f"{narrower}visits of one patient need a pattern with {{session}}" in said
    assert "'b /ct_1.nii': {patient} begins or ends with a space or a line break" in said
    assert "--pattern mri={patient}/mri.nii: no file is named so in d; there are a/ct_1.nii" in said
    assert not Path("c.csv").exists()

    assert (
        main(["manifest", "d", "--pattern", "ct={patient}/{session}/ct_*.nii", "--pattern", "mri={case}/x/ct_1.nii"])
        == 2
    )
    assert "two cases would have one name: c/1/ct_1.nii and c_1/x/ct_1.nii" in capsys.readouterr().err


def test_visits_labels_and_further_words_become_columns(capsys: Capture) -> None:
    touch(
        *(
            f"d/{site}/{label}/p{n}_v{v}.png"
            for n, (site, label) in enumerate([("X", "ill"), ("Y", "well")] * 2)
            for v in (1, 2)
        )
    )
    assert main(["manifest", "d", "--pattern", "ct={site}/{label}/{patient}_{session}.png", "--out", "c.csv"]) == 0
    rows = read_rows("c.csv")
    assert list(rows[0]) == ["case", "patient", "site", "label", "ct"]
    assert list(rows[1].values()) == ["p0_v2", "p0", "X", "ill", "d/X/ill/p0_v2.png"]
    cohort = cohort_of("c.csv", "ct", need_labels=True)
    assert (len(cohort.cases), cohort.classes, cohort.cases[0].site) == (8, ("ill", "well"), "X")
    assert "label: ill 4, well 4" in capsys.readouterr().out


def test_labels_and_sites_come_from_tables(capsys: Capture) -> None:
    touch("d/a/ct.nii", "d/b/ct.nii", "d/c/ct.nii")
    Path("labels.csv").write_text("sick;id\nyes;a\nno;b\nyes;zz\n")
    Path("d/sites.tsv").write_text("id\tclinic\na\tLyon\nb\tn/a\nc\tLyon\n")
    command = ["manifest", "d", "--pattern", "ct={patient}/ct.nii", "--labels", "labels.csv:id:sick"]
    assert main([*command, "--sites", "sites.tsv:id:clinic", "--out", "c.csv"]) == 0
    assert [(row["label"], row["site"]) for row in read_rows("c.csv")] == [("yes", "Lyon"), ("no", ""), ("", "Lyon")]
    said = capsys.readouterr()
    assert "cases without a label in labels.csv: 1 of 3" in said.err
    assert "rows of labels.csv without a case that was found: 1 (line 4)" in said.err
    assert "zz" not in said.err + said.out
    assert main([*command[:-1], "labels.csv:id:sickness"]) == 2
    assert "labels.csv has no column 'sickness'; it has sick, id" in capsys.readouterr().err


# --- BIDS and proposals --------------------------------------------------------------------------------------------


def bids(sessions: bool) -> None:
    touch("b/dataset_description.json", "b/derivatives/x/sub-01/anat/sub-01_T1w.nii.gz")
    for n in ("01", "02", "10"):
        for session in ("ses-a", "ses-b") if sessions else ("",):
            stem = "_".join(part for part in (f"sub-{n}", session) if part)
            folder = "/".join(part for part in (f"b/sub-{n}", session, "anat") if part)
            touch(f"{folder}/{stem}_T1w.nii.gz", f"{folder}/{stem}_T1w.json", f"{folder}/{stem}_acq-x_T2w.nii.gz")
    Path("b/participants.tsv").write_text("participant_id\tgroup\tage\nsub-01\tpd\t60\nsub-02\thc\t61\nsub-10\thc\t5\n")


@pytest.mark.parametrize("sessions", [True, False])
def test_a_bids_data_set_is_proposed_and_written(sessions: bool, capsys: Capture) -> None:
    bids(sessions)
    assert main(["manifest", "b"]) == 0
    said = capsys.readouterr().out
    session = "ses-{session}/" if sessions else ""
    pattern = f"t1w=sub-{{patient}}/{session}anat/*_T1w.nii.gz"
    assert f"{6 if sessions else 3}  --pattern '{pattern}'" in said
    assert "participants.tsv has the columns participant_id, group, age" in said
    assert "derivatives" not in said

    labels = ["--labels", "participants.tsv:participant_id:group"]
    assert main(["manifest", "b", "--pattern", pattern, *labels, "--out", "b/cohort.csv"]) == 0
    cohort = cohort_of("b/cohort.csv", "t1w", need_labels=False)
    names = ["01_a", "01_b", "02_a", "02_b", "10_a", "10_b"] if sessions else ["01", "02", "10"]
    assert [case.name for case in cohort.cases] == names
    assert {case.patient: case.label for case in cohort.cases} == {"01": "pd", "02": "hc", "10": "hc"}


@pytest.mark.parametrize(
    ("paths", "patterns"),
    [
        (["{p}/vw.nii.gz", "{p}/ct.nii"], ["vw={patient}/vw.nii.gz", "ct={patient}/ct.nii"]),
        (["ct/{p}.png", "mri/{p}.png"], ["ct=ct/{patient}.png", "mri=mri/{patient}.png"]),
        (["{p}/{p}_vw.nii", "{p}/x/{p}_ct.nii"], ["vw={patient}/*_vw.nii", "x_ct={patient}/x/*_ct.nii"]),
    ],
)
def test_what_is_proposed_fits(paths: list[str], patterns: list[str], capsys: Capture) -> None:
    touch(*(f"my data/{path.format(p=f'pat{n}')}" for path in paths for n in range(1, 5)))
    assert main(["manifest", "my data"]) == 0
    said = capsys.readouterr().out
    assert "vwmm manifest 'my data' \\\n" in said
    for pattern in patterns:
        assert f"       4  --pattern '{pattern}'" in said
    command = [word for pattern in patterns for word in ("--pattern", pattern)]
    assert main(["manifest", "my data", *command]) == 0
    said_now = capsys.readouterr()
    assert "4 cases of 4 patients" in said_now.out
    assert "left over" not in said_now.err


def test_a_folder_of_two_series_is_proposed_by_their_descriptions_alone(capsys: Capture) -> None:
    for number in range(2):
        for series in ("ct", "bone"):
            dicom(f"d/x/{series}{number}.dcm", "SECRET-1", series, series=series)
    assert main(["manifest", "d"]) == 0
    said = capsys.readouterr().out
    assert "1  --series bone=bone" in said
    assert "patterns that would fit" not in said


def test_a_series_that_a_pattern_takes_is_not_left_over(pacs: None, capsys: Capture) -> None:
    assert main(["manifest", "d", "--series", "ct=*angio*", "--pattern", "mri={patient}/mr/"]) == 0
    assert "DICOM series left over: 1 ('scout' 1)" in capsys.readouterr().err


# --- DICOM ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pacs() -> None:
    """Two patients, one of them with a scout; among the slices lie a report and a damaged file."""
    for n, patient in enumerate(("SECRET-2", "SECRET-1")):
        for number in range(2):
            dicom(f"d/export{n}/{n}7/{number}", patient, "CT ANGIO head", series=f"ct{n}")
            dicom(f"d/export{n}/mr/{number}.dcm", patient, "t1_vw", series=f"mr{n}")
    dicom("d/export1/scout/1.dcm", "SECRET-1", "scout", series="scout")
    touch("d/export1/README", "d/DICOMDIR")
    dicom("d/export1/mr/report.dcm", "SECRET-1", "dose report", series="report")
    report = pydicom.dcmread("d/export1/mr/report.dcm")
    del report.Rows, report.Columns, report.PixelData
    report.save_as("d/export1/mr/report.dcm")
    whole = Path("d/export0/mr/0.dcm").read_bytes()
    Path("d/export0/mr/damaged.dcm").write_bytes(whole[:150] + b"SECRET-3" * 40)


def test_series_are_found_by_description_and_patients_get_numbers(pacs: None, capsys: Capture) -> None:
    Path("labels.csv").write_text("PatientID,label\nSECRET-1,ill\nSECRET-2,well\n")
    command = ["manifest", "d", "--series", "ct=*angio*", "--series", "vw_mri=T1_vw"]
    command += ["--labels", "labels.csv:PatientID:label", "--out", "c.csv"]
    assert main(command) == 0
    assert [list(row.values()) for row in read_rows("c.csv")] == [
        ["p0001", "well", "d/export0/07", "d/export0/mr"],
        ["p0002", "ill", "d/export1/17", "d/export1/mr"],
    ]
    said = capsys.readouterr()
    assert "SECRET" not in said.out + said.err + Path("c.csv").read_text()
    assert "DICOM series left over: 1 ('scout' 1)" in said.err
    assert main([*command, "--force", "--keep-ids"]) == 0
    assert [row["patient"] for row in read_rows("c.csv")] == ["SECRET-1", "SECRET-2"]


def test_a_path_that_gives_a_patient_away_is_said(capsys: Capture) -> None:
    dicom("d/SECRET-1/1.dcm", "SECRET-1", "ct", series="a")
    assert main(["manifest", "d", "--series", "ct=ct"]) == 0
    assert "cases with the PatientID in a path, which stands in the table: 1 of 1" in capsys.readouterr().err


def test_series_that_cannot_be_read_by_a_path_are_refused(pacs: None, capsys: Capture) -> None:
    for number in range(2):
        dicom(f"d/export0/07/more{number}", "SECRET-2", "bone", series="bone")
        dicom(f"d/again/{number}.dcm", "SECRET-1", "ct angio thin", series="thin")
    dicom("d/nobody/1.dcm", "", "ct angio", series="nobody")
    assert main(["manifest", "d", "--series", "ct=*angio*", "--series", "mri=flair*", "--out", "c.csv"]) == 2
    said = capsys.readouterr().err
    assert "export0/07: series 'CT ANGIO head' shares the folder with others: give each a folder of its own" in said
    assert "ct: 2 images for one case: again, export1/17" in said
    assert "nobody: the series has no PatientID" in said
    assert "--series mri=flair*: no series is described so in d; there are 'CT ANGIO head', 'bone'" in said
    assert not Path("c.csv").exists()


def test_a_folder_may_be_one_series_itself(capsys: Capture) -> None:
    for number in range(2):
        dicom(f"d/{number}.dcm", "SECRET-1", "ct", series="a")
    assert main(["manifest", "d", "--series", "ct=ct", "--out", "c.csv"]) == 0
    assert read_rows("c.csv") == [{"patient": "p0001", "ct": "d"}]
    assert "left over" not in capsys.readouterr().err


def test_series_are_proposed(pacs: None, capsys: Capture) -> None:
    assert main(["manifest", "d"]) == 0
    said = capsys.readouterr().out
    assert "2  --series 'ct_angio_head=CT ANGIO head'" in said
    assert "SECRET" not in said


def test_a_proposal_counts_every_folder(capsys: Capture) -> None:
    dicom("d/p000/S2/0.dcm", "p", "t1", series="a")
    touch(*(f"flat/p{n:03}/ct.nii" for n in range(130)))
    for n in range(1, 130):
        touch(f"d/p{n:03}/S2/0.dcm")
        Path(f"d/p{n:03}/S2/0.dcm").write_bytes(Path("d/p000/S2/0.dcm").read_bytes())
    assert main(["manifest", "d"]) == 0
    said = capsys.readouterr().out
    assert "     130  --pattern 's2={patient}/S2/'" in said
    assert "0.dcm" not in said
    assert main(["manifest", "flat"]) == 0
    assert "     130  --pattern 'ct={patient}/ct.nii'" in capsys.readouterr().out


def test_a_series_of_two_patients_is_refused(capsys: Capture) -> None:
    for number, patient in enumerate(("SECRET-1", "SECRET-2")):
        dicom(f"d/x/{number}.dcm", patient, "ct", series="a")
    assert main(["manifest", "d", "--series", "ct=ct"]) == 2
    said = capsys.readouterr().err
    assert "x: the files of this series have 2 PatientIDs; give each patient a folder" in said
    assert "SECRET" not in said


# --- what is said --------------------------------------------------------------------------------------------------


def test_names_reach_the_terminal_written_out(capsys: Capture) -> None:
    odd = "a\x1b[31m\u202eb\nc"
    touch(f"d/{odd}/ct.nii", "d/plain/ct.nii", f"d/{odd}/x{odd}.nii")
    dicom(f"dicom/{odd}/1.dcm", "a\x1b[31m", "t1\x1b[31m", series="a")
    Path("t.csv").write_text("id,what\nplain,x\n")
    touch("e/a\u202eb/ct.nii", "e/b/ct.nii")
    pattern = ["--pattern", "ct={patient}/ct.nii"]
    for command, code in ((["d"], 0), (["d", *pattern], 2), (["e", *pattern], 0), (["dicom"], 0)):
        assert main(["manifest", *command]) == code
        said = capsys.readouterr()
        assert all(line.isprintable() for line in (said.out + said.err).splitlines())
        if command == ["d", *pattern]:
            assert "{patient} has a line break or a control character; rename it" in said.err
        if command == ["e", *pattern]:
            assert r"a\u202eb,a\u202eb/ct.nii" in said.out
            assert "invisible characters, such as a line break: 1 of 2" in said.err
    assert main(["manifest", "dicom", "--series", "t1=t1*", "--keep-ids"]) == 2
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).splitlines())


def test_visits_of_some_patterns_only_are_warned_of(capsys: Capture) -> None:
    touch("d/01/1/mri.nii", "d/01/2/mri.nii", "d/01/ct.nii", "d/02/ct.nii")
    command = ["manifest", "d", "--pattern", "mri={patient}/{session}/mri.nii", "--pattern", "ct={patient}/ct.nii"]
    assert main(command) == 0
    assert "patients with images in and outside of a session, which are cases apart: 1 of 2" in capsys.readouterr().err


def test_one_image_is_not_two_modalities(capsys: Capture) -> None:
    touch("d/a/ct.nii", "d/b/ct.nii")
    assert main(["manifest", "d", "--pattern", "ct={patient}/ct.nii", "--pattern", "mri={patient}/*.nii"]) == 2
    assert "ct and mri: 2 images would be both, such as a/ct.nii; make a pattern narrower" in capsys.readouterr().err


# --- what is refused -----------------------------------------------------------------------------------------------


def test_links_that_lead_back_end(capsys: Capture) -> None:
    touch("d/a/ct.nii", "elsewhere/b/ct.nii")
    os.symlink("..", "d/a/up")
    os.symlink("../d", "d/again")
    os.symlink("self", "d/self")
    os.symlink("nowhere", "d/a/broken.nii")
    os.symlink("../elsewhere/b", "d/b")
    assert main(["manifest", "d", "--pattern", "ct={patient}/ct.nii"]) == 0
    said = capsys.readouterr()
    assert "a,a/ct.nii\nb,b/ct.nii\n" in said.out
    assert "left over" not in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing: DIR"),
        (["nowhere"], "DIR nowhere: folder not found"),
        (["n" * 300], "cannot be read: File name too long"),
        (["empty"], "DIR empty: no image was found in 1 files"),
        (["empty", "--pattern", "ct"], "--pattern ct: expected MODALITY=..."),
        (["empty", "--pattern", "ct=*/ct.nii"], "--pattern ct=*/ct.nii: needs {patient} or {case}"),
        (["empty", "--pattern", "ct={patient/ct.nii"], "a brace without its other; write ? for a brace in a name"),
        (["empty", "--pattern", "label={patient}.nii"], "'label' is a column of its own"),
        (["empty", "--pattern", "ct={patient}/{a b}.nii"], "{a b}: expected a word in the braces"),
        (["empty", "--pattern", "ct=../{patient}.nii"], "expected a path below DIR"),
        (["empty", "--pattern", "ct={patient}/{ct}.nii"], "--pattern: {ct} and a modality have one name"),
        (["empty", "--pattern", "ct={patient}", "--labels", "labels.csv"], "expected FILE:KEY_COLUMN:VALUE_COLUMN"),
        (["empty", "--pattern", "ct={patient}", "--labels", "n" * 300 + ":a:b"], "cannot be read: File name too long"),
        (["empty", "--labels", "labels.csv:a:b"], "--labels: needs --pattern or --series"),
        (["empty", "--pattern", "ct={patient}", "--keep-ids"], "--keep-ids: belongs to --series"),
        (["empty", "other"], "argument other: there is one DIR only; it is empty"),
        (["empty", "--config", "a.yaml"], "argument --config: no such option; known are --labels, --sites,"),
        (["empty", "--pattern", "ct={patient}", "--labels", "latin.csv:a:b"], "--labels: latin.csv line 1: not UTF-8"),
        (["empty", "--pattern", "ct={patient}", "--sites", "twice.csv:a:b"], "--sites: twice.csv line 1: column 'a'"),
        (["empty", "--force"], "--force: there is nothing to replace"),
        (["empty", "data.csv=x"], "argument data.csv=x: there is no configuration here"),
        (["empty", "--pattern", "ct={patient}", "--out", "no/c.csv"], "expected the name of a .csv file in a folder"),
        (["empty", "--pattern", "ct={patient}", "--out", "c.tsv"], "--out c.tsv: expected the name of a .csv file"),
    ],
)
def test_a_mistake_is_said(arguments: list[str], message: str, capsys: Capture) -> None:
    touch("empty/notes.txt")
    Path("latin.csv").write_bytes("a,ö\n".encode("latin-1"))
    Path("twice.csv").write_text("a,a\n")
    assert main(["manifest", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_labels_of_visits_come_from_two_key_columns_or_from_a_table_for_each_patient() -> None:
    for patient in ("01", "02"):
        for session in ("a", "b"):
            touch(f"d/sub-{patient}/ses-{session}/anat/sub-{patient}_ses-{session}_T1w.nii.gz")
        Path(f"d/sub-{patient}/sub-{patient}_sessions.tsv").write_text(
            f"session_id\tgroup\nses-a\tx{patient}\nses-b\ty{patient}\n"
        )
    Path("d/all.tsv").write_text(
        "participant_id\tsession_id\tgroup\n"
        + "".join(f"sub-{p}\t{s}\t{g}{p}\n" for p in ("01", "02") for s, g in (("ses-a", "x"), ("b", "y")))
    )
    pattern = ["--pattern", "mri=sub-{patient}/ses-{session}/anat/*_T1w.nii.gz"]

    one = ["--labels", "all.tsv:participant_id+session_id:group"]
    each = ["--labels", "sub-{patient}/sub-{patient}_sessions.tsv:session_id:group"]
    assert main(["manifest", "d", *pattern, *one, "--out", "one.csv"]) == 0
    assert main(["manifest", "d", *pattern, *each, "--out", "each.csv"]) == 0

    for name in ("one.csv", "each.csv"):
        labels = {row["case"]: row["label"] for row in read_rows(name)}
        assert labels == {"01_a": "x01", "01_b": "y01", "02_a": "x02", "02_b": "y02"}


def test_table_of_visits_with_a_key_of_patients_is_refused_with_advice(capsys: Capture) -> None:
    touch("d/01/a/vw.nii", "d/01/b/vw.nii")
    Path("d/all.tsv").write_text("participant_id\tsession_id\tgroup\n01\ta\tx\n01\tb\ty\n")
    pattern = ["--pattern", "mri={patient}/{session}/vw.nii"]

    assert main(["manifest", "d", *pattern, "--labels", "all.tsv:participant_id:group"]) == 2

    assert "if the rows are visits, use participant_id+session_id as the key" in capsys.readouterr().err


def test_magnitude_and_phase_are_never_one_modality(capsys: Capture) -> None:
    touch("d/dataset_description.json")
    for patient, parts in (("01", ("mag", "phase")), ("02", ("phase",))):
        for part in parts:
            touch(f"d/sub-{patient}/anat/sub-{patient}_part-{part}_GRE.nii.gz")

    assert main(["manifest", "d"]) == 0
    proposed = capsys.readouterr().out
    assert "gre_mag=sub-{patient}/anat/*_part-mag*_GRE.nii.gz" in proposed
    assert "gre_phase=sub-{patient}/anat/*_part-phase*_GRE.nii.gz" in proposed
    assert main(["manifest", "d", "--pattern", "mri=sub-{patient}/anat/*_GRE.nii.gz"]) == 2
    assert "mri: 1 of part-mag, 2 of part-phase: magnitude and phase are two modalities" in capsys.readouterr().err


def test_links_to_files_that_were_not_fetched_are_counted_and_named(capsys: Capture) -> None:
    touch("d/01/vw.nii.gz")
    for patient in ("02", "03"):
        Path(f"d/{patient}").mkdir()
        Path(f"d/{patient}/vw.nii.gz").symlink_to(f"../.git/annex/objects/{patient}")

    assert main(["manifest", "d", "--pattern", "vw_mri={patient}/vw.nii.gz"]) == 0

    assert (
        "links to files that are not there, left out: 2 (02/vw.nii.gz, 03/vw.nii.gz); fetch the data set whole"
        in capsys.readouterr().err
    )


def test_a_proposal_for_magnitudes_without_a_part_leaves_the_phases_out(capsys: Capture) -> None:
    touch("d/dataset_description.json")
    for patient in ("01", "02"):
        touch(f"d/sub-{patient}/anat/sub-{patient}_T2starw.nii.gz")
        touch(f"d/sub-{patient}/anat/sub-{patient}_part-phase_T2starw.nii.gz")

    assert main(["manifest", "d"]) == 0
    patterns = ["t2starw=sub-{patient}/anat/sub-{patient}_T2starw.nii.gz"]
    patterns.append("t2starw_phase=sub-{patient}/anat/*_part-phase*_T2starw.nii.gz")
    proposed = capsys.readouterr().out
    assert all(f"       2  --pattern '{pattern}'" in proposed for pattern in patterns)

    assert main(["manifest", "d", *[word for pattern in patterns for word in ("--pattern", pattern)]]) == 0
