"""Who was learned from, found by name and by image."""

from dataclasses import replace
from pathlib import Path

from tests.conftest import texts
from tests.data.making import make_case, make_cohort
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.leakage import (
    cases_hash,
    image_problems,
    label_problems,
    num_gone,
    num_learned_from,
    num_test_cases,
    patient_problems,
    set_aside_problems,
    unlabelled_problems,
)
from vwmm.data.cohort.split_file import SplitRow

ROWS = {
    "v1": SplitRow(2, "train", "p1", "a", hashes={"ct": "aaa", "mri": "bbb"}),
    "v2": SplitRow(3, "val", "p2", "b", hashes={"ct": "ccc"}),
    "v3": SplitRow(4, "test", "p3", "b", hashes={"ct": "ddd"}),
}


def cohort_of(*cases: tuple[str, str, str | None]) -> Cohort:
    """(name, patient, label) of each."""
    return make_cohort(
        [
            make_case(name, label, patient=patient, line=line, images={"ct": Path("x")})
            for line, (name, patient, label) in enumerate(cases, 2)
        ]
    )


def test_nothing_is_said_of_what_was_set_aside() -> None:
    cohort, hashes = cohort_of(("v3", "p3", "b")), {"v3": {"ct": "ddd"}}

    assert (
        set_aside_problems(cohort, ROWS, has_parts=True) + label_problems(cohort, ROWS) + patient_problems(cohort, ROWS)
        == []
    )
    assert image_problems(cohort, hashes, ROWS, is_own=True) == []


def test_a_patient_who_was_seen_is_named_with_both_lines() -> None:
    assert texts(patient_problems(cohort_of(("w1", "p1", "a"), ("w2", "p9", "a"), ("w3", "p2", "a")), ROWS)) == [
        "cohort.csv line 2: case w1: patient p1 was trained on (case v1, split.csv line 2)",
        "cohort.csv line 4: case w3: patient p2 was validated on, which chose the checkpoint (case v2, split.csv "
        "line 3)",
    ]


def test_a_patient_who_was_seen_in_another_spelling_is_named_with_both() -> None:
    (problem,) = texts(patient_problems(cohort_of(("w1", "P 1", "a"), ("w2", "p9", "a")), ROWS))

    assert problem == (
        "cohort.csv line 2: case w1: patient P 1 is written almost like p1, who was trained on (case v1, split.csv "
        "line 2)"
    )


def test_a_patient_who_was_seen_with_other_leading_zeros_is_named() -> None:
    (problem,) = texts(patient_problems(cohort_of(("w1", "p007", "a"), ("w2", "p01", "a")), ROWS))

    assert "patient p01 is written almost like p1, who was trained on" in problem


def test_an_image_that_was_seen_is_found_under_any_name_and_modality() -> None:
    cohort = cohort_of(("w1", "q1", "a"), ("w2", "q2", "a"))

    assert texts(image_problems(cohort, {"w1": {"ct": "eee"}, "w2": {"ct": "bbb"}}, ROWS, is_own=False)) == [
        "cohort.csv line 3: case w2: ct: is, to the byte, an image of case v1, which was trained on (split.csv line 2)"
    ]


def test_an_image_that_is_not_the_one_set_aside_is_found() -> None:
    cohort = cohort_of(("v3", "p3", "b"))

    for hashes, names in (({"ct": "new"}, "ct"), ({}, "ct"), ({"ct": "ddd", "mri": "more"}, "mri")):
        (problem,) = texts(image_problems(cohort, {"v3": hashes}, ROWS, is_own=True))
        assert problem.startswith(f"cohort.csv line 2: case v3: {names}: not the test image of the run")


def test_a_test_case_that_is_gone_or_of_somebody_else_is_found() -> None:
    assert texts(set_aside_problems(cohort_of(("v1", "p1", "a")), ROWS, has_parts=False)) == [
        "split.csv line 4: case v3: a test case of the run, but not in cohort.csv"
    ]
    assert texts(set_aside_problems(cohort_of(("v3", "p4", "b")), ROWS, has_parts=False)) == [
        "cohort.csv line 2: case v3: is of patient p4, but was of p3 as a test case"
    ]


def test_whom_the_run_has_learned_from_must_be_the_same_people_too() -> None:
    assert texts(set_aside_problems(cohort_of(("v1", "p3", "a"), ("v3", "p3", "b")), ROWS, has_parts=False)) == [
        "cohort.csv line 2: case v1: is of patient p3, but was of p1 when it was trained on"
    ]
    cohort = cohort_of(("v1", "p1", "a"), ("v3", "p3", "b"))
    moved = replace(cohort, cases=tuple(replace(case, split="test") for case in cohort.cases))
    assert set_aside_problems(moved, ROWS, has_parts=False) == []
    assert texts(set_aside_problems(moved, ROWS, has_parts=True)) == [
        "cohort.csv line 2: case v1: is in 'test', but was in 'train' in the run"
    ]
    assert num_gone(cohort, ROWS) == 1


def test_a_label_that_is_missing_or_another_is_found() -> None:
    cohort = cohort_of(("v1", "p1", "b"), ("v2", "p2", None), ("v3", "p3", "a"))

    assert texts(label_problems(cohort, ROWS, hint="; do this")) == [
        "cohort.csv line 2: case v1: has label 'b', but had 'a' in the run; do this",
        "cohort.csv line 4: case v3: has label 'a', but had 'b' in the run",
    ]
    assert texts(unlabelled_problems(cohort, cohort.cases)) == [
        "cohort.csv line 3: case v2: has no label, without which it cannot be evaluated"
    ]


def test_test_cases_are_counted_by_their_images() -> None:
    hashes = {"w1": {"ct": "ddd"}, "w2": {"ct": "aaa"}, "w3": {}, "w4": {"ct": "ccc"}}

    assert (num_test_cases(hashes, ROWS), num_learned_from(hashes, ROWS)) == (1, 2)


def test_cases_have_the_same_hash_as_long_as_nothing_of_them_changes() -> None:
    (case,) = cohort_of(("v3", "p3", "b")).cases
    hashes = {"v3": {"ct": "ddd", "mri": "eee"}}
    same = cases_hash([case], hashes)

    assert cases_hash([replace(case, line=9)], {"v3": {"mri": "eee", "ct": "ddd"}}) == same
    others = [([replace(case, label="a")], hashes), ([case], {"v3": {"ct": "ddd"}}), ([], hashes)]
    assert same not in [cases_hash(cases, found) for cases, found in others]
