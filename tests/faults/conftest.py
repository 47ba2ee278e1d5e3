"""Runs that nothing happens to, for all tests to compare with."""

from pathlib import Path

import pytest

from tests.conftest import made_once
from tests.faults.rehearsing import ONE, TWO, run_through


@pytest.fixture(scope="session")
def reference(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On two processes; its cache serves all."""

    def make(cwd: Path) -> Path:
        outcome = run_through(cohort, cwd, [], launch=TWO)
        assert outcome.codes == [0], outcome.text
        assert "2 processes on cpu, gloo" in outcome.text
        return cwd / "runs" / "x"

    return made_once(tmp_path_factory, "undisturbed", make)


@pytest.fixture(scope="session")
def cache(reference: Path) -> str:
    """The argument with which a start finds every image transformed."""
    return f"cache.dir={reference.parents[1] / 'cache'}"


@pytest.fixture(scope="session")
def reference_of_one(cohort: Path, cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On one process."""

    def make(cwd: Path) -> Path:
        outcome = run_through(cohort, cwd, [], cache, launch=ONE)
        assert outcome.codes == [0], outcome.text
        return cwd / "runs" / "x"

    return made_once(tmp_path_factory, "alone", make)
