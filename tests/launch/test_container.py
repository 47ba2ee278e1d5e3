"""The container recipe names what exists; building it takes a machine with Docker."""

import re

from tests.conftest import ROOT

RECIPE = (ROOT / "Dockerfile").read_text()


def test_it_copies_files_that_are_there() -> None:
    copied = [word for line in re.findall(r"^COPY (.*)", RECIPE, re.MULTILINE) for word in line.split()[:-1]]
    assert {"constraints.txt", "setup.cfg", "pyproject.toml", "vwmm", "launch", "configs", "slurm"} <= set(copied)
    assert [word for word in copied if not (ROOT / word).exists()] == []


def test_it_has_the_python_that_the_constraints_were_tested_with() -> None:
    base = re.search(r"^FROM python:(\d+\.\d+)-", RECIPE, re.MULTILINE)
    assert base
    assert f"on Python {base[1]} and Linux" in (ROOT / "constraints.txt").read_text().splitlines()[0]


def test_torch_comes_first_and_everything_is_pinned() -> None:
    installs = re.findall(r"pip install ([^&\n]*)", RECIPE)
    assert installs[0].split() == ["-c", "constraints.txt", "torch"]
    assert all("-c constraints.txt" in words for words in installs)
