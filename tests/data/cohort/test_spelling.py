"""Words for a missing value, and one value in several spellings."""

import unicodedata

import pytest

from vwmm.data.cohort.spelling import is_missing, name_key, names_alike, spelling_key, without_blanks


@pytest.mark.parametrize(
    "word",
    ["nan", "NaN", "NA", "N/A", "n.a.", "None", "NULL", "null", "?", "-", "\u2013", "--", "<NA>", "#N/A", "#NULL!",
     "Missing", ".", "not available", "\uff2e\uff21", "n/a\u200b", "1.#IND", "\\N", "#NV",
     "-nan(ind)", "nan(ind)", "''", '""'],
)  # fmt: skip
def test_words_of_pandas_r_and_excel_mean_a_missing_value(word: str) -> None:
    assert is_missing(word)


@pytest.mark.parametrize(
    "word", ["", "0", "no", "normal", "nano", "na\u00efve", "no_plaque", "non", "-1", "+", "false", "b?"]
)
def test_other_words_are_values(word: str) -> None:
    assert not is_missing(word, is_label=True)


def test_unknown_is_no_label_but_may_be_a_site() -> None:
    assert is_missing("Unknown", is_label=True)
    assert not is_missing("Unknown")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0", "0.0"), ("1", "01"), ("1", "1."), ("1", "1,0"), ("1", "+1"), ("100000", "1E+05"), ("0.5", "5e-1"),
        ("0", "-0.0"),
        ("TRUE", "True"), ("Stable", "stable"), ("no plaque", "no\u00a0plaque"), ("no plaque", "no  plaque"),
        ("no_plaque", "No-Plaque"), ("\uff33table", "Stable"), ("grade 2", "grade2"), ("P-7", "p7"),
        (unicodedata.normalize("NFC", "l\u00e9ger"), unicodedata.normalize("NFD", "l\u00e9ger")),
        ("a'", "a\u2019"), ("\u00bd", "1/2"), ("1\u00bd", "1 1/2"), ("II a", "IIa"), ("iv-b", "IV B"),
        ("stable", "stable."),
        ("sta\u200bble", "stable"), ("1\u20132", "1-2"), ("stra\u00dfe", "STRASSE"),
    ],
)  # fmt: skip
def test_one_value_in_two_spellings_has_one_key(one: str, other: str) -> None:
    assert spelling_key(one) == spelling_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "-1"), ("1", "10"), ("0.1", "0.01"), ("1.5", "15"), ("A", "A-"), ("A+", "A-"),
     ("1-11", "11-1"), ("1-11", "111"),
     ("Muller", "M\u00fcller"), ("p1", "p01"),
     ("1e5", "1e6"), ("00e0", "00e7"), ("12E3", "12000"), ("1.10", "1.01"), ("true", "1"),
     ("1\u00bd", "11/2"), ("II a", "III a"), ("a", "a'"), ("di a", "dia"), ("9" * 40, "9" * 39 + "8")],
)  # fmt: skip
def test_other_values_have_other_keys(one: str, other: str) -> None:
    assert spelling_key(one) != spelling_key(other)


def test_a_name_with_a_point_is_no_fraction() -> None:
    assert name_key("1.10") != name_key("1.1")  # the tenth patient of site 1, and the first
    assert name_key("7.0") == name_key("7,0") == name_key("007") == name_key("7")
    assert name_key("P-7") == name_key("p 7")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("P7", "p-007", True), ("007", "7.0", True), ("P7", "P70", False), ("P0", "P00", True),
     ("1.01", "1.1", False), ("00a1", "0a01", False), ("P7", "Q7", False)],
)  # fmt: skip
def test_names_that_differ_in_leading_zeros_are_alike_unless_they_have_one_length(
    one: str, other: str, expected: bool
) -> None:
    assert names_alike(one, other) == names_alike(other, one) == expected


def test_invisible_characters_at_the_ends_of_a_cell_are_removed() -> None:
    assert without_blanks(" \u00a0\ufeffa b\u200b\t") == "a b"
    assert without_blanks("\u200b ") == ""
