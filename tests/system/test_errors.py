"""How mistakes are printed, and the exit codes."""

import subprocess
import sys

import pytest

from tests.conftest import texts
from vwmm.system.errors import RunError, UserError, format_problems, is_main_process, run_guarded
from vwmm.system.problems import KINDS, Problem


def test_one_problem_is_singular_and_more_are_plural() -> None:
    assert format_problems([Problem("a")]) == "vwmm: 1 error to fix before this can run:\n  - a"
    assert format_problems([Problem("a"), Problem("b")]).splitlines()[0] == "vwmm: 2 errors to fix before this can run:"


def test_a_problem_is_one_line_whatever_stands_in_it() -> None:
    assert format_problems([Problem("a\nb \x1b[2J \u202e ä")]).splitlines()[1:] == [r"  - a\nb \x1b[2J \u202e ä"]


def test_a_long_list_is_cut_and_says_how_to_see_the_rest() -> None:
    problems = [Problem(f"problem of kind {chr(97 + number)}") for number in range(25)]

    lines = format_problems(problems).splitlines()

    assert lines[0].startswith("vwmm: 25 errors")
    assert lines[20] == "  - problem of kind t"
    assert lines[21:] == ["  ... and 5 more; `vwmm check` with the same arguments lists all"]
    assert format_problems(problems, limit=None).splitlines()[1:] == [f"  - {text}" for text in texts(problems)]
    assert "more" not in format_problems(problems[:20])


def test_same_problem_in_very_many_lines_is_shown_for_the_first_with_the_lines_of_the_others() -> None:
    numbers = [2, 3, 4, 5, 9, 11, *range(20, 40)]
    missing = [Problem(f"ct file not found: ct/{n}.nii (relative to /data)", line=n, where="a.csv") for n in numbers]
    empty = [Problem(f"case c{n}: the label is empty; fill it in", line=n, where="a.csv") for n in (3, 4)]
    assert format_problems([missing[0], empty[0], *missing[1:], empty[1]]).splitlines() == [
        "vwmm: 28 errors to fix before this can run:",
        *(f"  - {text}" for text in texts(missing[:5])),
        "    and 21 more like these: lines 11, 20-39",
        f"  - {empty[0].text}",
        f"  - {empty[1].text}",
    ]


def test_action_is_told_once_behind_the_problems_that_share_it() -> None:
    damaged = [Problem("is damaged", "unreadable", n, f"c{n}", "ct", f"{n}.nii", where="a.csv") for n in range(2, 27)]
    apart = Problem("patient p is in val", "two_splits", 3, "c3", where="a.csv")

    lines = format_problems(
        [Problem("expected a number", key="train.lr"), damaged[0], apart, *damaged[1:]]
    ).splitlines()

    assert lines[1:] == [
        "  - train.lr: expected a number",
        *(f"  - a.csv line {n}: case c{n}: ct {n}.nii: is damaged" for n in range(2, 7)),
        "    and 20 more like these: lines 7-26",
        f"    to do for these 25: {KINDS['unreadable'].action}",
        "  - a.csv line 3: case c3: patient p is in val",
        f"    to do: {KINDS['two_splits'].action}",
    ]


def test_problems_without_a_line_are_all_shown() -> None:
    problems = [Problem(f"case c{n} is not in split.csv", key="split.file") for n in range(30)]
    assert format_problems(problems, limit=None).splitlines()[1:] == [f"  - {text}" for text in texts(problems)]


def test_problems_of_one_template_are_grouped_for_any_values() -> None:
    template = "column 'site' has a line break: {text!r}"
    problems = [
        Problem(template.format(text=chr(97 + n) * 3), line=n + 2, where="a.csv", template=template) for n in range(25)
    ]

    assert len(format_problems(problems).splitlines()) == 1 + 5 + 1
    assert format_problems(problems).splitlines()[-1] == "    and 20 more like these: lines 7-26"


def test_problems_of_two_files_or_two_modalities_are_not_one_kind() -> None:
    for other in ({"where": "b.csv"}, {"where": "a.csv", "modality": "ct"}):
        problems = [Problem("is empty", line=n, where="a.csv") for n in range(2, 15)]
        problems += [Problem("is empty", line=n, **other) for n in range(2, 15)]
        assert len(format_problems(problems, limit=None).splitlines()) == 1 + 26


def test_only_a_command_whose_mistakes_another_one_lists_cuts_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: list[str]) -> int:
        raise UserError(f"problem of kind {chr(97 + number)}" for number in range(25))

    for name, count in (("train", 22), ("evaluate", 26)):
        assert run_guarded(fail, [name]) == 2
        assert len(capsys.readouterr().err.splitlines()) == count


def test_a_user_error_keeps_its_problems() -> None:
    record = Problem("expected a number", line=3, where="my.yaml", key="train.lr")
    assert UserError("one").problems == [Problem("one")]
    assert UserError(record).problems == [record]
    assert str(UserError(problem for problem in ("one", record))) == "one\nmy.yaml line 3: train.lr: expected a number"
    with pytest.raises(AssertionError):
        UserError([])


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (None, 0, ""),
        (UserError(["a", "b"]), 2, "vwmm: 2 errors to fix before this can run:\n  - a\n  - b\n"),
        (RunError("the loss is nan"), 1, "vwmm: the loss is nan\n"),
        (KeyboardInterrupt(), 1, "vwmm: interrupted\n"),
    ],
)
@pytest.mark.parametrize("rank", [None, "0", "1"])
def test_exit_codes_and_messages_once_for_all_processes(
    error: BaseException | None,
    code: int,
    stderr: str,
    rank: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)

    def command(arguments: list[str]) -> int:
        assert arguments == ["x"]
        if error is not None:
            raise error
        return 0

    assert run_guarded(command, ["x"]) == code
    assert is_main_process() is (rank != "1")
    assert capsys.readouterr().err == (stderr if rank != "1" else "")


def test_a_reader_that_has_gone_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    def command(arguments: list[str]) -> int:
        raise BrokenPipeError

    stderr = Closed()
    monkeypatch.setattr(sys, "stderr", stderr)

    assert run_guarded(command, []) == 1
    assert stderr.is_closed


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    def command(arguments: list[str]) -> int:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run_guarded(command, [])


def test_leaving_says_everything_and_waits_for_nobody() -> None:
    program = (
        "import atexit, threading, time\n"
        "from vwmm.system.errors import leave\n"
        "atexit.register(print, 'last words')\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "print('words')\n"
        "leave(75)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (75, "words\nlast words\n")
