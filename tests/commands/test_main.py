"""`vwmm` itself."""

import re
from pathlib import Path

import pytest

from tests.conftest import run_command
from vwmm.__main__ import COMMANDS, main


def test_vwmm_alone_lists_the_commands_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        assert sum(line.startswith(f"  vwmm {name} ") for line in lines) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"vwmm {name}" in capsys.readouterr().out


def test_an_unknown_command_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean `vwmm train`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("list", "status.json"),
        ("export", "model.safetensors"),
        ("cv", "`vwmm cross_validate`"),
        ("tune", "`vwmm sweep`"),
    ],
)
def test_names_that_other_programs_use_get_a_hint(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_at_once_what_it_begins_with(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.import_module", lambda _: pytest.fail(capsys.readouterr().err))
    with pytest.raises(pytest.fail.Exception, match=f"^vwmm {name}: [a-z]+ing "):
        main([name, "x"])


def test_shipped_configuration_is_found_by_its_name_without_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "demo.yaml"]) == 2
    assert "did you mean --config configs/demo.yaml?" in capsys.readouterr().err


def test_check_says_what_there_is_and_what_is_missing(cohort: Path, tmp_path: Path) -> None:
    done = run_command("check", f"data.csv={cohort}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"36 cases of 36 patients, \d+ images read: no problem found", done.stdout)
    assert "missing" in done.stdout
    assert sorted(path.name for path in (tmp_path / "checks" / "cohort").iterdir()) == ["check.json", "report.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["checks"]
