"""Findings: their order and their words."""

from vwmm.system.problems import KINDS, Finding, count_gravities, in_order


def test_a_finding_says_where_it_is_as_far_as_that_is_known() -> None:
    image = Finding("constant", "every voxel is 0", 12, "c7", "ct", "ct/7.dcm")

    assert image.place == "line 12: case c7: ct ct/7.dcm"
    assert Finding("table", "no cases").place == ""
    assert Finding("identifiers", "4 of 9", modality="ct").place == "ct"
    assert image.as_json() == {
        "gravity": "error", "kind": "constant", "found": "every voxel is 0", "line": 12, "case": "c7", "modality": "ct",
        "file": "ct/7.dcm", "todo": KINDS["constant"].todo,
    }  # fmt: skip


def test_errors_come_first_and_each_finding_once() -> None:
    note, warning = Finding("dated_names", "3 of 4 files"), Finding("shortcut", "by the site")
    late, early = Finding("empty", "no bytes", 9, "c8"), Finding("empty", "no bytes", 10, "c9")

    assert in_order([note, warning, early, late, late]) == [late, early, warning, note]
    assert count_gravities([note, warning, early, late]) == {"error": 2, "warning": 1, "note": 1}
