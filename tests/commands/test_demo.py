"""`vwmm demo`: what it prints, what it refuses."""

import sys
from pathlib import Path

import pytest

from tests.conftest import texts
from vwmm import demo
from vwmm.data.synthetic import phantom, phantom_truth
from vwmm.system.errors import UserError


def problems_of(*arguments: str) -> list[str]:
    """The problems that the command reports."""
    with pytest.raises(UserError) as caught:
        demo.main(list(arguments))
    return texts(caught.value.problems)


def test_command_makes_the_cohort_and_prints_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"

    assert demo.main(["--out", str(out), "--cases=12", "--sites", "2", "--missing", "0.2", "--seed", "3"]) == 0

    printed = capsys.readouterr()
    assert "SYNTHETIC cohort of 12 cases" in printed.out
    assert all(f"  {label:<18}      4\n" in printed.out for label in phantom_truth.LABELS)
    assert phantom_truth.ceilings_table() in printed.out
    assert f"vwmm train --config configs/demo.yaml data.csv={out / 'cohort.csv'}" in printed.out
    assert printed.err.splitlines()[-1] == "drawing: 12 of 12 cases"
    assert "\r" not in printed.err
    options = phantom.Options(cases=12, sites=2, missing=0.2, seed=3)
    assert phantom.existing_cohort(out, options)


def test_a_second_call_says_that_the_cohort_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path / "cohort"), "--cases", "10"]
    demo.main(arguments)
    capsys.readouterr()

    assert demo.main(arguments) == 0

    printed = capsys.readouterr()
    assert "nothing was written" in printed.out
    assert printed.err == ""


def test_a_terminal_sees_a_bar_with_rate_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    demo.main(["--out", str(tmp_path / "cohort"), "--cases", "10"])

    bar = capsys.readouterr().err
    assert "10/10" in bar
    assert "case/s" in bar or "s/case" in bar
    assert "drawing: 10 of 10" not in bar


def test_the_defaults_are_those_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: list[tuple[Path, phantom.Options]] = []
    monkeypatch.setattr(demo, "make_showing_progress", lambda out, options: made.append((out, options)))
    monkeypatch.setattr(demo, "_summary", lambda path: "")

    demo.main([])

    assert made == [(Path("data/demo"), phantom.Options(300, 0.0, 1, "small", 0))]


def test_help_shows_two_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: vwmm demo [--out DIR] [--cases N]")
    assert "\n    vwmm demo\n    vwmm demo --out data/hospitals --cases 600 --missing 0.1 --sites 3\n" in printed


def test_all_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    problems = problems_of(
        *("--out", str(tmp_path), "--cases", "5", "--sites", "two", "--missing", "0.95", "--size", "big"),
        *("--seed", "-1", "--sede=4"),
    )
    assert [problem.split()[0].rstrip(":") for problem in problems] == [
        *("--sede", "--sites", "--cases", "--missing", "--size", "--seed", "--out"),
    ]
    assert "did you mean --seed?" in problems[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cohort"], "'cohort': unexpected; a folder is given as --out DIR"),
        (["--out"], "vwmm demo: argument --out: expected one argument; `vwmm demo --help` shows the options"),
        (["--out", ""], "--out: expected a folder"),
        (["--case", "20"], "--case: no such option; did you mean --cases?"),
    ],
)
def test_wrong_usage_is_the_users_mistake(arguments: list[str], message: str) -> None:
    assert problems_of(*arguments) == [message]
