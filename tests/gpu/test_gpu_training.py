"""Training and prediction on a real GPU. Run by `make gpu`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY, read_metrics, run_command

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def train(cohort: Path, cwd: Path, launch_file: str, *arguments: str) -> Path:
    done = run_command(
        "train", "--launch", f"launch/{launch_file}.yaml", f"data.csv={cohort}", *TINY, "run.name=gpu", *arguments,
        cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "gpu"


def test_the_first_steps_on_a_gpu_are_those_on_the_cpu(cohort: Path, tmp_path: Path) -> None:
    losses = {}
    for launch_file in ("cpu", "one_gpu"):
        (tmp_path / launch_file).mkdir()
        run = train(cohort, tmp_path / launch_file, launch_file, "train.mixed_precision=no", "train.epochs=1")
        losses[launch_file] = [record["loss"] for record in read_metrics(run, "train")]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["devices"][0].startswith("cuda")
    np.testing.assert_allclose(losses["one_gpu"], losses["cpu"], atol=5e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_mixed_precision_trains_and_predicts_the_same_table_again(precision: str, cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path, "one_gpu", f"train.mixed_precision={precision}")
    assert all(math.isfinite(record["loss"]) for record in read_metrics(run, "train"))
    expected = {"auto": "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["mixed_precision"] == expected.get(precision, precision)

    done = run_command("predict", run, cohort, "--out", "all.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    everyone = dict(line.split(",", 1) for line in (tmp_path / "all.csv").read_text().splitlines())
    for line in (run / "predictions_val.csv").read_text().splitlines():
        case, rest = line.split(",", 1)
        assert everyone[case] == rest
