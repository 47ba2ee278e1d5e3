"""The templates are sound shell."""

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted([*(ROOT / "slurm").glob("*.sh"), ROOT / "slurm" / "job.bash", ROOT / "slurm" / "site.env.example"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script: object) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (.ci/run installs it)")
@pytest.mark.parametrize("script", SCRIPTS[:-1], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: object) -> None:
    done = subprocess.run(
        ["shellcheck", "-x", "-s", "bash", str(script)], capture_output=True, text=True, cwd=ROOT / "slurm"
    )
    assert done.returncode == 0, done.stdout
