"""What is kept of a DICOM header."""

from pathlib import Path

import pydicom
import pytest

from tests.data.making import numbers, write_dicom, write_nifti, write_series
from vwmm.data.headers import has_date, read_header


def rewrite(path: Path, **values: str) -> Path:
    header = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    header.save_as(path)
    return path


def test_the_scanner_is_kept_and_a_pseudonym_is_none_of_our_business(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(6, 5).clip(0))
    rewrite(path, Manufacturer="Maker", ManufacturerModelName="One", PatientName="Study^CASE-7", PatientID="p7")

    header = read_header(path, known_as=("case_7", "p7"))

    assert (header.modality, header.scanner, header.identifiers) == ("CT", "Maker One", ())


def test_identifiers_are_counted_by_their_keyword_and_their_values_are_nowhere(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "doe_jane.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName="Doe^Jane", PatientID="123456", PatientBirthDate="19540312", AccessionNumber="")

    header = read_header(path, known_as=("c1", "p1"))

    assert header.identifiers == ("PatientName", "PatientID", "PatientBirthDate", "file name")
    assert not any(secret in repr(header).lower() for secret in ("doe", "jane", "123456", "1954"))


def test_a_name_that_says_nothing_is_no_identifier(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName="Anonymous", PatientID="")

    assert read_header(path, known_as=("c1",)).identifiers == ()


def test_of_a_series_the_first_image_counts(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbers(6, 5, 3).clip(0))
    (folder / "00000.txt").write_text("notes")

    assert read_header(folder, known_as=("nobody", "0")).modality == "CT"


def test_other_files_have_no_header(tmp_path: Path) -> None:
    (tmp_path / "damaged.dcm").write_bytes(b"nothing")

    for path in (write_nifti(tmp_path / "a.nii", numbers(4, 4, 4)), tmp_path / "damaged.dcm", tmp_path / "a.xyz"):
        assert read_header(path, known_as=()).modality == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("doe_19540312.nii", True), ("2001-12-31.png", True), ("case_0012.nii", False), ("1234567890123.dcm", False),
     ("19541399.nii", False)],
)  # fmt: skip
def test_dates_in_names(name: str, expected: bool) -> None:
    assert has_date(name) == expected


def test_of_several_series_in_a_folder_the_one_that_is_asked_for_counts(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    for name, maker in (("one", "First"), ("two", "Second")):
        path = write_dicom(folder / f"{name}.dcm", numbers(6, 5).clip(0), series=name)
        rewrite(path, Manufacturer=maker, SeriesDescription=name)

    assert read_header(folder, known_as=("nobody", "0")).scanner == "First"
    assert read_header(folder, known_as=("nobody", "0"), series="two").scanner == "Second"


@pytest.mark.parametrize("patient", ["1", "9", "d"])
def test_a_patients_short_name_excuses_nothing_that_it_is_in_by_chance(patient: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName="Doe^Jane1", PatientID="123459", PatientBirthDate="19540312")
    rewrite(path, ReferringPhysicianName="Dodd1^9")

    found = read_header(path, known_as=(patient,)).identifiers

    assert found == ("PatientName", "PatientID", "PatientBirthDate", "ReferringPhysicianName")
    rewrite(path, PatientID=patient)
    assert "PatientID" not in read_header(path, known_as=(patient,)).identifiers


def test_no_name_excuses_a_date_of_birth(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName="Anonymous", PatientBirthDate="19540312")

    assert read_header(path, known_as=("1954", "0312", "0")).identifiers == ("PatientBirthDate",)


def test_a_folder_that_is_named_after_a_person_counts_as_a_name(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "DOE_JANE" / "series" / "0001.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName="Doe^Jane")

    assert read_header(path, known_as=("c1", "0")).identifiers == ("PatientName", "file name")
    assert read_header(path.parent, known_as=("c1", "0")).identifiers == ("PatientName", "file name")


def test_a_report_or_a_hidden_file_among_the_slices_does_not_speak_for_the_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbers(6, 5, 3).clip(0))
    report = pydicom.dcmread(min(folder.iterdir()))
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    report.Modality = "SR"
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
    report.save_as(folder / "!report.dcm")
    rewrite(write_dicom(folder / ".hidden.dcm", numbers(6, 5).clip(0)), Modality="US")

    assert read_header(folder, known_as=("nobody",)).modality == "CT"
