"""What a column of labels must not be: words for a missing value, spellings, measurements, several labels in a cell."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import texts
from vwmm.config.schema import Data, Modality
from vwmm.data.cohort.read_cases import survey_cohort

ONE = {"ct": Modality(dims=2, size=[32, 32])}


def problems_of(folder: Path, labels: Sequence[str], *, named: Sequence[str] | None = None) -> list[str]:
    """Of a cohort with a patient for each label, from line 2 on."""
    (folder / "1.png").write_bytes(b"x")
    rows = [f'p{number},"{label}",1.png' for number, label in enumerate(labels)]
    (folder / "cohort.csv").write_text("\n".join(["patient,label,ct", *rows, ""]), encoding="utf-8")
    data = Data.model_validate({"csv": str(folder / "cohort.csv"), "labels": named})
    return texts(survey_cohort(data, ONE)[1])


@pytest.mark.parametrize(
    "word",
    [
        "nan",
        "NA",
        "\\N",
        "#NV",
        "-nan(ind)",
        "''",
        "N/A",
        "None",
        "null",
        "?",
        "-",
        "<NA>",
        "#N/A",
        "missing",
        "unknown",
    ],
)
def test_a_word_for_a_missing_value_is_no_class(word: str, tmp_path: Path) -> None:
    found = problems_of(tmp_path, ["a", "b", word, "a", "b", word])

    what = f"label is missing ({word}); fill it in, remove the row, or, if it is a class, name it in data.labels"
    assert found == [f"cohort.csv line {line}: case p{line - 2}: {what}" for line in (4, 7)]


def test_a_class_of_such_a_name_can_be_meant(tmp_path: Path) -> None:
    assert problems_of(tmp_path, ["none", "mild", "none", "mild"], named=["none", "mild"]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("0", "0.0"), ("1", "01"), ("TRUE", "True"), ("Stable", "stable"), ("no plaque", "no\u00a0plaque"),
     ("no_plaque", "no plaque"), ("\uff53table", "stable"), ("a", "\u0430"), ("T1", "\u03a41"), ("II a", "IIa"),
     ("stable", "stable."),
     (unicodedata.normalize("NFC", "l\u00e9ger"), unicodedata.normalize("NFD", "l\u00e9ger"))],
)  # fmt: skip
def test_one_class_in_two_spellings_is_named_once_with_both_and_their_counts(
    one: str, other: str, tmp_path: Path
) -> None:
    found = problems_of(tmp_path, [one, "x", other, "x", one, other, other])

    assert found == [
        f"cohort.csv: column 'label' has one class in 2 spellings: {one!a} (2 cases: lines 2, 6) and {other!a} "
        "(3 cases: lines 4, 7, 8); write it one way, or name each in data.labels if they are different classes"
    ]
    assert problems_of(tmp_path, [one, "x", other, "x", one, other], named=[one, other, "x"]) == []


@pytest.mark.parametrize(
    "labels", [["TRUE", "1", "FALSE", "0"], ["yes", "1", "no", "0"], ["T", "true", "F", "false"], ["1", "TRUE", "0"]]
)
def test_yes_and_no_of_several_programs_are_spellings_of_one_class(labels: list[str], tmp_path: Path) -> None:
    found = problems_of(tmp_path, labels * 2)

    assert [text.split(": ")[1] for text in found] == ["column 'label' has one class in 2 spellings"] * (
        len(labels) - 2
    )


@pytest.mark.parametrize(
    "labels", [["0", "1", "2", "true"], ["t", "f", "n", "m"], ["no", "yes"], ["no", "1"], ["\u0430", "\u0431"]]
)
def test_other_words_are_classes(labels: list[str], tmp_path: Path) -> None:
    assert problems_of(tmp_path, labels * 2) == []


@pytest.mark.parametrize(("one", "other"), [("a'", "a\u2019"), ("\u00bd", "1/2")])
def test_spellings_whose_difference_can_be_seen_are_shown_as_they_are(one: str, other: str, tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, [one, "x", other] * 2)

    assert f"has one class in 2 spellings: {one!r} (2 cases: lines 2, 5) and {other!r} (2 cases" in found


def test_a_decimal_comma_is_a_spelling_and_no_list(tmp_path: Path) -> None:
    found = problems_of(tmp_path, ["1", "0", "1,0", "0", "1", "1,0"])

    assert [text.split(" (")[0] for text in found] == ["cohort.csv: column 'label' has one class in 2 spellings: '1'"]


def test_each_class_with_several_spellings_is_reported_once(tmp_path: Path) -> None:
    found = problems_of(tmp_path, ["1", "0", "1.0", "0", "1", "0.0", "1"])

    assert [text.split(" (")[0] for text in found] == [
        "cohort.csv: column 'label' has one class in 2 spellings: '1'",
        "cohort.csv: column 'label' has one class in 2 spellings: '0'",
    ]


def test_a_label_that_is_a_named_one_in_another_spelling_is_refused_with_that(tmp_path: Path) -> None:
    found = problems_of(tmp_path, ["a", "b", "A", "b", "a"], named=["a", "b"])

    assert found == ["cohort.csv line 4: case p2: label 'A' is none of a, b; is it 'a'?"]


@pytest.mark.parametrize(
    "labels",
    [
        [str(30 + 7 * n % 41) for n in range(40)],
        [f"{(n * 37 % 100) / 100:.2f}" for n in range(30)],
        ["0.844", "0.31", "0.5", "0.125", "0.844", "0.31", "0.5", "0.125"],
        [f"{n * 3 % 17} %" for n in range(20)],
        [f"{n % 12 / 2}".replace(".", ",") for n in range(60)],
        ["0.844", "0.1", "0.35"] * 3,
    ],
    ids=["ages", "shares", "few shares", "percent", "halves with a comma", "three decimals"],
)
def test_numbers_that_are_measured_are_told_once(labels: list[str], tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, labels)

    assert found.startswith(f"cohort.csv: column 'label' has {len(set(labels))} different numbers ")
    assert "vwmm learns classes and does not predict numbers (regression)" in found
    assert problems_of(tmp_path, labels, named=sorted(set(labels)))[:1] != [found]


@pytest.mark.parametrize(
    "labels",
    [list("0123456789") * 2, ["0", "0.5", "1", "2", "3"] * 2, ["1.5", "3"] * 3,
     ["0.50", "1.50", "2.50"] * 2, ["2019", "2020", "2021"] * 2,
     ["T1a", "T1b", "T2", "T3", "T4", "TX"] * 2, ["0.25", "0.5", "0.75"] * 2],
)  # fmt: skip
def test_grades_are_classes(labels: list[str], tmp_path: Path) -> None:
    assert problems_of(tmp_path, labels) == []


@pytest.mark.parametrize("labels", [list("012345"), list("abcdef")])
def test_a_few_patients_may_have_lesions_of_many_classes(labels: list[str], tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    rows = [f"p{patient}_{label},p{patient},{label},1.png" for patient in range(6) for label in labels]
    (tmp_path / "cohort.csv").write_text("\n".join(["case,patient,label,ct", *rows, ""]))

    assert survey_cohort(Data.model_validate({"csv": str(tmp_path / "cohort.csv")}), ONE)[1] == []


@pytest.mark.parametrize(
    ("labels", "is_noted"),
    [([str(60 + n % 9) for n in range(24)], True), ([str(n % 10) for n in range(24)], False),
     ([str(1 + n % 9) for n in range(24)], False), ([str(60 + n % 9) for n in range(90)], False),
     ([str(2019 + n % 3) for n in range(12)], False)],
)  # fmt: skip
def test_whole_numbers_that_look_like_measurements_are_noted(labels: list[str], is_noted: bool, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    rows = [f"p{number},{label},1.png" for number, label in enumerate(labels)]
    (tmp_path / "cohort.csv").write_text("\n".join(["patient,label,ct", *rows, ""]))

    def notes(**more: object) -> list[str]:
        cohort, problems = survey_cohort(Data.model_validate({"csv": str(tmp_path / "cohort.csv"), **more}), ONE)
        assert cohort is not None
        assert problems == []
        return [note.found for note in cohort.notes]

    text = (
        "column 'label': 9 different whole numbers from 60 to 68, most of them of fewer than 5 patients: they look "
        "like measurements, such as ages, and each is a class of its own; if they are grades, name them in data.labels"
    )
    assert notes() == [text] * is_noted
    assert notes(labels=sorted(set(labels))) == []


def test_a_column_of_names_is_told_once(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, [f"finding {chr(97 + n)}" for n in range(20)])

    assert found == (
        "cohort.csv: column 'label' has 20 different values for 20 patients (such as 'finding a', 'finding b', "
        "'finding c'): these are no classes, of which each needs two patients; is data.columns.label another column?"
    )


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["a", "b", "a;b", "a", "b", "a;b"], "'a;b'"), (["a;b", "b;c", "a;b", "b;c", "c"], "'a;b'"),
        (["a", "b", "a|b", "a", "b"], "'a|b'"), (["a", "b", "a, b", "b", "a", "a, b"], "'a, b'"),
        (["a", "b", "a+b", "b", "a"], "'a+b'"), (["['a']", "['a', 'b']", "['a']", "['b']"], "\"['a', 'b']\""),
        (["a;b", "c", "a;b", "c"], "'a;b'"), (["edema, bleed", "bleed, tumor"] * 2, "'edema, bleed'"),
        (["a+b", "c", "b+d"] * 2, "'a+b'"), (["1", "0", "1,0", "0,1"] * 2, "'0,1'"),
    ],
)  # fmt: skip
def test_several_labels_in_a_cell_are_told_once(labels: list[str], shown: str, tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, labels)

    assert f"holds several labels in one cell ({shown}" in found
    assert "vwmm gives each case one class (no multi-label training)" in found
    assert problems_of(tmp_path, labels, named=sorted(set(labels)))[:1] != [found]


def test_a_comma_or_a_slash_within_a_name_is_none_of_these(tmp_path: Path) -> None:
    labels = ["plaque, soft", "plaque, calcified", "stenosis 50/70 %", "grade +", "1/2", "2/3"]
    assert problems_of(tmp_path, labels * 2) == []
