"""The words behind a command."""

from pathlib import Path

import pytest

from tests.conftest import texts
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import UserError


def problems_of(*arguments: str, **known: list[str]) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse_command_line(arguments, **known)
    return texts(caught.value.problems)


def test_files_assignments_options_and_words_are_told_apart() -> None:
    line = parse_command_line(
        ["runs/a", "--config", "a.yaml", "train.epochs=3", "--out=b=c.csv", "--quick", "--config=d.yaml", "x/y=z.csv"],
        options=["--out"],
        flags=["--quick"],
        words=["RUN", "COHORT"],
    )

    assert line.files == ["a.yaml", "d.yaml"]
    assert line.overrides == ["train.epochs=3"]
    assert line.options == {"--out": "b=c.csv", "--quick": ""}
    assert line.words == ["runs/a", "x/y=z.csv"]


def test_nothing_is_nothing() -> None:
    line = parse_command_line([])

    assert (line.files, line.overrides, line.options, line.words) == ([], [], {}, [])


def test_a_value_may_contain_a_slash_or_an_equals_sign() -> None:
    assert parse_command_line(["data.csv=a/b=c.csv"]).overrides == ["data.csv=a/b=c.csv"]


@pytest.mark.parametrize("arguments", [["--config"], ["--config="], ["--config", ""], ["--config", "--quick"]])
def test_an_option_without_its_value_is_refused(arguments: list[str]) -> None:
    assert problems_of(*arguments, flags=["--quick"]) == ["argument --config: expected a value after it"]


def test_an_option_that_is_given_twice_is_refused() -> None:
    assert problems_of("--out", "a", "--out=b", options=["--out"]) == ["argument --out: given twice"]


@pytest.mark.parametrize("argument", ["--lunch", "--lunch=x", "-x", "--", "-", "--quick=yes"])
def test_an_unknown_option_lists_those_that_exist(argument: str) -> None:
    assert problems_of(argument, options=["--launch"], flags=["--quick"]) == [
        f"argument {argument}: no such option; known are --config, --launch, --quick, --help"
    ]


def test_words_that_are_missing_or_too_many_are_named() -> None:
    assert problems_of("a", words=["RUN", "COHORT", "MORE"]) == ["missing: COHORT MORE"]
    assert problems_of("a", "b", "c", words=["RUN"]) == [
        "argument b: expected KEY=VALUE",
        "argument c: expected KEY=VALUE",
    ]


def test_everything_wrong_is_said_at_once() -> None:
    assert len(problems_of("--lunch", "word", "--out", options=["--out"])) == 3


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_needs_nothing_else_to_be_right(flag: str) -> None:
    assert "--help" in parse_command_line(["--lunch", "a", "b", flag], words=["RUN"]).options
    assert "--help" in parse_command_line(["--out", flag], options=["--out"]).options or flag == "-h"


def test_the_help_is_the_docstring_and_the_options_in_columns() -> None:
    assert help_text("\nDoes it.\n", {"--out FILE": "where", "KEY=VALUE": "sets a key"}) == (
        "Does it.\n\n  --out FILE  where\n  KEY=VALUE   sets a key"
    )
    assert help_text(None, {"-x": "y"}) == "\n\n  -x  y"


def test_an_option_may_be_given_several_times_and_a_word_may_be_absent() -> None:
    known = {"repeated": ["--pattern"], "words": ["RUN"], "optional": ["COHORT"]}

    assert parse_command_line(["a", "--pattern", "ct=x", "--pattern=mri=y"], **known).lists == {
        "--pattern": ["ct=x", "mri=y"]
    }
    assert [parse_command_line(words, **known).words for words in (["a"], ["a", "b"])] == [["a"], ["a", "b"]]
    assert problems_of("a", "b", "c", **known) == ["argument c: expected KEY=VALUE"]
    assert problems_of(**known) == ["missing: RUN"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("my/cohort.csv", "for a table: data.csv=my/cohort.csv"),
        ("my.yaml", "for a configuration: --config my.yaml"),
        ("launch/cpu.yaml", "for a launch file: --launch launch/cpu.yaml"),
    ],
)
def test_word_without_what_goes_before_it_gets_help(word: str, meant: str) -> None:
    assert problems_of(word, options=["--launch"]) == [f"argument {word}: expected KEY=VALUE; {meant}"]


def test_run_and_folder_of_data_get_help(tmp_path: Path) -> None:
    assert problems_of(str(tmp_path)) == [
        f"argument {tmp_path}: expected KEY=VALUE; for a data set: data.root={tmp_path}"
    ]
    (tmp_path / "config.yaml").touch()
    meant = f"to repeat a run: --config {tmp_path}/config.yaml"
    assert problems_of(str(tmp_path)) == [f"argument {tmp_path}: expected KEY=VALUE; {meant}"]
