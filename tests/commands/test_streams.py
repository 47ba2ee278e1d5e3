"""Commands whose output streams are closed, full or have no reader: the true exit code, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

HELP, CONFIG = ["--help"], ["train", "data.csv=none.csv", "--print-config"]
MISTAKE = ["train", "x.y=1"]


def run(arguments: list[str], redirection: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `vwmm` with streams redirected by a shell; what is left of them is captured."""
    return subprocess.run(
        ["bash", "-c", f'exec "$0" -m vwmm "$@" {redirection}', sys.executable, *arguments], cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [HELP, CONFIG])
def test_output_that_cannot_be_written_is_a_failure_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = run(arguments, ">/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "vwmm: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code_and_messages_stay_off_stdout(redirection: str, tmp_path: Path) -> None:
    for arguments, code in ((HELP, 0), (MISTAKE, 2)):
        done = run(arguments, redirection, tmp_path)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "x.y" not in done.stdout  # a message is not output


def test_message_that_cannot_be_written_keeps_the_exit_code(tmp_path: Path) -> None:
    assert run(MISTAKE, "2>/dev/full", tmp_path).returncode == 2


def test_output_without_a_reader_is_no_traceback(tmp_path: Path) -> None:
    done = run(HELP, "| true", tmp_path)
    assert done.stderr == ""
