"""Every launch file is loaded by Accelerate, and says nothing that could change a result."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from tests.conftest import ROOT

FILES = sorted((ROOT / "launch").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_accelerate_reads_the_file_and_it_leaves_the_precision_to_the_recipe(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "no"
    assert set(yaml.safe_load(path.read_text())) <= set(config.__dataclass_fields__)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_header_says_when_to_use_it_and_how(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert len(header) >= 2
    assert any(f"--launch launch/{path.name}" in line for line in header)
