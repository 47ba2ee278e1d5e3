"""What is kept of a DICOM header."""

from pathlib import Path

import pydicom
import pytest

from tests.data.making import numbers, write_dicom, write_nifti, write_series
from vwmm.data.checks.dicom_identifiers import has_date, read_header
from vwmm.data.checks.person_names import is_persons_own, shared_words


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


@pytest.mark.parametrize(
    ("patient", "name"),
    [("Mueller", "Mueller^Anna"), ("anna_mueller", "MUELLER^Anna"), ("Mueller", "Mueller"),
     ("M\u00fcller", "Mueller^Anna"),
     ("mueller_2", "Mueller^Anna"), ("Li", "Li^Wei"), ("Mueller", "Mueller, Anna"), ("Garc\u00eda", "GARCIA^JOSE^^Dr"),
     ("Mueller", "Mueller^Anna 1950"), ("mueller_2", "Mueller^Anna 1950"), ("Mueller", "Mueller 1950"),
     ("Mueller", "Mueller1950"),
     ("muller", "M\u00fcller^Anna"), ("M\u00fcller", "Muller^Anna"), ("lodz", "\u0141\u00f3d\u017a^Anna")],
)  # fmt: skip
@pytest.mark.parametrize("number", ["", "mueller"])
def test_a_name_of_the_csv_that_is_the_persons_own_excuses_nothing(
    patient: str, name: str, number: str, tmp_path: Path
) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(6, 5).clip(0))
    rewrite(path, SpecificCharacterSet="ISO_IR 192", PatientName=name, PatientID=number)

    found = read_header(path, known_as=("c1", patient)).identifiers

    assert {"PatientName", "name in the CSV"} <= set(found)
    assert ("PatientID" in found) == (number != "")


@pytest.mark.parametrize(
    ("patient", "name"),
    [("case_7", "Study^CASE-7"), ("p0012", "P0012"), ("study_007", "Study^007"), ("a", "A"),
     ("synthetic-1", "Synthetic^1"),
     ("ab", "AB"), ("sub-01", "sub-01^^^^")],
)  # fmt: skip
def test_a_pseudonym_with_a_number_stays_one(patient: str, name: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName=name, PatientID=patient)

    assert read_header(path, known_as=("c1", patient)).identifiers == ()


@pytest.mark.parametrize("name", ["li_wei_ct.dcm", "Kim-1.dcm", "ct.mueller.dcm", "M\u00fcller.dcm", "muller.dcm"])
def test_a_file_that_is_named_after_a_person_of_a_short_name_is_found(name: str, tmp_path: Path) -> None:
    person = {"l": "Li^Wei", "K": "Kim^Jo", "c": "Mueller^Anna", "M": "Mueller^Anna", "m": "M\u00fcller^Anna"}[name[0]]
    path = write_dicom(tmp_path / name, numbers(6, 5).clip(0))
    rewrite(path, SpecificCharacterSet="ISO_IR 192", PatientName=person, PatientID="")

    assert read_header(path, known_as=("c1", "p1")).identifiers == ("PatientName", "file name")


def test_a_short_name_within_another_word_is_no_persons_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "clinic" / "kimono.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName="Kim^Li", PatientID="")

    assert read_header(path, known_as=("c1", "p1")).identifiers == ("PatientName",)


def test_a_slice_that_still_has_a_name_speaks_for_its_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbers(6, 5, 5).clip(0))
    for path in folder.iterdir():
        rewrite(path, PatientName="", PatientID="")
    rewrite(max(folder.iterdir()), PatientName="Doe^Jane")

    assert read_header(folder, known_as=("c1", "p1")).identifiers == ("PatientName",)


def test_a_slice_that_is_named_after_a_person_is_found(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbers(6, 5, 3).clip(0))
    for number, path in enumerate(sorted(folder.iterdir())):
        rewrite(path, PatientName="Doe^Jane", PatientID="")
        path.rename(folder / f"jane_{number}.dcm")

    assert read_header(folder, known_as=("c1", "p1")).identifiers == ("PatientName", "file name")


@pytest.mark.parametrize(
    ("patient", "person", "expected"),
    [("stroke_3", "STROKE^STUDY", ("PatientName",)), ("stroke_3", "Stroke", ()), ("p3", "Doe^Jane", ("PatientName",))],
)
def test_a_word_of_most_patients_names_is_no_persons_name(
    patient: str, person: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    path = write_dicom(tmp_path / "stroke_3.dcm", numbers(6, 5).clip(0))
    rewrite(path, PatientName=person, PatientID="")
    shared = shared_words({f"p{n}": [f"stroke_{n}", "doe" if n == 3 else "x"] for n in range(5)})

    assert shared == {"stroke"}
    assert read_header(path, known_as=(patient,), shared=shared).identifiers == expected


def test_what_few_patients_share_may_be_their_family() -> None:
    assert shared_words({f"p{n}": ["kim"] for n in range(4)}) == set()
    assert shared_words({f"p{n}": ["kim" if n % 2 else "lee"] for n in range(10)}) == set()
    assert shared_words({f"p{n}": ["M\u00fcller_7"] for n in range(5)}) == {"muller", "mueller"}


def test_a_word_with_another_number_is_no_name() -> None:
    assert not is_persons_own("patient_1", "Patient^2")
    assert is_persons_own("mueller_1", "Mueller^Anna 1950")
