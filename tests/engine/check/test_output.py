"""What `vwmm check` says in the terminal."""

from vwmm.engine.check.output import lines_of
from vwmm.system.problems import Problem


def test_a_terminal_shows_the_first_of_each_kind_and_how_many_there_are() -> None:
    many = [Problem("damaged", "unreadable", number, f"c{number}") for number in range(2, 30)]
    others = [Problem("has the voxels of line 2", "same_image", number, f"c{number}") for number in (40, 41)]

    lines = lines_of([*many, *others])

    assert lines[:3] == ["", "error: An image that cannot be read: 28", "  - line 2: case c2: damaged"]
    assert lines[7:9] == ["  ... and 23 more, in the report", "  to do: export the image again, or empty the cell"]
    assert "error: The same image under two patients: 2" in lines
    assert lines.count("  - line 41: case c41: has the voxels of line 2") == 1


def test_each_kind_is_shown_however_many_there_are() -> None:
    kinds = ("table", "unreadable", "empty", "constant", "not_finite", "dimension", "swapped", "shortcut")
    lines = lines_of([Problem("found", kind, number, "c") for kind in kinds for number in range(1, 9)])

    assert sum(line.startswith(("error: ", "warning: ")) for line in lines) == len(kinds)
    assert sum(line.startswith("  - ") for line in lines) <= 20 + len(kinds)


def test_nothing_found_is_no_line() -> None:
    assert lines_of([]) == []
