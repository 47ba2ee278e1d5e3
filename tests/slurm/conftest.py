"""One real Slurm cluster for the tests of the templates."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing_programs, running_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes; skipped where Slurm is not installed (.ci/run installs it)."""
    if missing := missing_programs():
        pytest.skip(f"a Slurm cluster needs {', '.join(missing)}")
    folder: Path = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # munge trusts no socket in a folder that others could change
    with running_cluster(folder) as found:
        yield found
