"""Findings: their order and their words."""

from vwmm.system.problems import KINDS, Problem, count_severities, in_order


def test_a_finding_says_where_it_is_as_far_as_that_is_known() -> None:
    image = Problem("every voxel is 0", "constant", 12, "c7", "ct", "ct/7.dcm")

    assert image.place == "line 12: case c7: ct ct/7.dcm"
    assert Problem("no cases", "table").place == ""
    assert Problem("4 of 9", "identifiers", modality="ct").place == "ct"
    assert image.as_json() == {
        "severity": "error", "kind": "constant", "found": "every voxel is 0", "line": 12, "case": "c7",
        "modality": "ct", "file": "ct/7.dcm", "action": KINDS["constant"].action,
    }  # fmt: skip


def test_a_problem_is_printed_with_its_file_line_and_key() -> None:
    assert Problem("is empty", line=12, case="c7", where="cohort.csv").text == "cohort.csv line 12: case c7: is empty"
    assert Problem("is no number", where="argument train.lr=x", key="train.lr").text == (
        "argument train.lr=x: train.lr: is no number"
    )
    assert Problem("folder not found", key="data.root").text == "data.root: folder not found"
    assert Problem("is empty", line=3, where="split.csv").within("split.file").text == (
        "split.file: split.csv line 3: is empty"
    )
    assert Problem("is no number", key="train.lr").within("fold 1").text == "fold 1: train.lr: is no number"


def test_what_names_hold_cannot_move_a_terminals_cursor() -> None:
    problem = Problem("a\nb", case="\x1b[2J", file="\x1b", where="c\n.csv")

    assert (problem.found, problem.file) == (r"a\nb", r"\x1b")
    assert problem.text.isprintable()
    assert problem.place.isprintable()


def test_errors_come_first_and_each_finding_once() -> None:
    note, warning = Problem("3 of 4 files", "dated_names"), Problem("by the site", "shortcut")
    late, early = Problem("no bytes", "empty", 9, "c8"), Problem("no bytes", "empty", 10, "c9")

    assert in_order([note, warning, early, late, late]) == [late, early, warning, note]
    assert count_severities([note, warning, early, late]) == {"error": 2, "warning": 1, "note": 1}


def test_key_that_names_the_file_stands_before_it_and_behind_a_further_place() -> None:
    problem = Problem("'split' must be train", "table", 3, where="split.csv", named_by="split.file")

    assert problem.text == "split.file: split.csv line 3: 'split' must be train"
    assert problem.within("fold 2").text == "fold 2: split.file: split.csv line 3: 'split' must be train"
