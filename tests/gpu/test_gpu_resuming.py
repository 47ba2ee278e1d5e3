"""On a real GPU: a run that was stopped or killed has the bits of one that was not. Run by `make gpu`."""

from pathlib import Path

import pytest
import torch

from tests.faults.rehearsing import Disturbance, assert_undisturbed, run_through

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = "launch/one_gpu.yaml"


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("exact", ["false", "true"])
def test_stops_and_kills_change_no_bit(precision: str, exact: str, cohort: Path, tmp_path: Path) -> None:
    arguments = [f"train.mixed_precision={precision}", f"train.exact={exact}", "run.save_every_steps=3"]
    runs = []
    for name, disturbances in (
        ("whole", []),
        ("disturbed", [Disturbance("phase=step,step=6,do=term"), Disturbance("phase=backward,step=10,do=kill")]),
    ):
        (tmp_path / name).mkdir()
        outcome = run_through(cohort, tmp_path / name, disturbances, *arguments, launch=GPU)
        assert outcome.codes[-1] == 0, outcome.text
        runs.append(tmp_path / name / "runs" / "x")
    assert_undisturbed(runs[1], runs[0])


def test_a_gradient_that_is_no_number_is_passed_over(cohort: Path, tmp_path: Path) -> None:
    for precision in ("no", "fp16"):
        (tmp_path / precision).mkdir()
        fault = Disturbance("phase=forward,step=6,do=nan")
        arguments = [f"train.mixed_precision={precision}", "train.max_skipped_steps=1"]
        outcome = run_through(cohort, tmp_path / precision, [fault], *arguments, launch=GPU)
        assert outcome.codes == [0], outcome.text
        assert "the step is skipped (1 of at most 1)" in outcome.text
