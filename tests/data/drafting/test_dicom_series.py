"""Series below a folder, from their headers."""

from pathlib import Path

from tests.data.making import numbers, write_series
from vwmm.data.drafting.dicom_series import scan_series
from vwmm.data.drafting.tree import walk_tree


def test_each_file_that_was_looked_into_is_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_series(tmp_path / name, numbers(6, 5, 3).clip(0))
    (tmp_path / "one" / "notes.txt").write_text("no DICOM")
    told: list[int] = []

    found = scan_series(walk_tree(tmp_path), each=told.append)

    assert [series.path for series in found] == ["one", "two"]
    assert told == [1] * 7
