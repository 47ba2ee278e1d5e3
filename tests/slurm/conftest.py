"""One real Slurm cluster for the tests of the templates."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing_programs, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes; skipped where Slurm is not installed (.ci/run installs it)."""
    if missing := missing_programs():
        pytest.skip(f"a Slurm cluster needs {', '.join(missing)}")
    # not pytest's own folder: munge asks that every parent of its socket may be entered by all
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder)) as found:
        yield found
