"""DeepSpeed's ZeRO and torch's FSDP2 on two CPU processes: what they learn, keep and go on from is data-parallel's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TINY, read_metrics, run_command
from tests.faults.rehearsing import NUM_REHEARSALS, bits, records

ENGINES = {
    "deepspeed_zero1": "DeepSpeed ZeRO-1",
    "deepspeed_zero2": "DeepSpeed ZeRO-2",
    "deepspeed_zero3": "DeepSpeed ZeRO-3",
    "fsdp2": "FSDP2",
}
# 52 steps. Normalising what is left of 32 voxels turns rounding into sense: at ten times this rate two runs part,
# whoever adds their gradients, and say nothing of an engine.
EVERY_PAIR = [(engine, optimizer) for engine in ENGINES for optimizer in ("adam", "sgd")]
SOME_PAIRS = [("deepspeed_zero2", "adam"), ("deepspeed_zero3", "sgd"), ("fsdp2", "adam")]
SMOOTH = [*TINY, "model.norm=group", "train.lr=0.00001", "train.epochs=13", "train.log_every=1"]


def train(cohort: Path, cwd: Path, launch: str, *arguments: str, fault: str = "") -> tuple[int, str]:
    variables: dict[str, Any] = {"VWMM_FAULT": fault} if fault else {}
    done = run_command(
        "train", "--launch", f"launch/{launch}.yaml", f"data.csv={cohort}", *arguments, "run.name=x", cwd=cwd,
        ACCELERATE_USE_CPU="true", **variables,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def data_parallel(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the engines are compared with."""
    cwd = tmp_path_factory.mktemp("data_parallel")
    code, text = train(cohort, cwd, "multi_gpu", *SMOOTH, f"cache.dir={cwd}/cache")
    assert code == 0, text
    assert "  processes  2 processes on cpu, gloo; data parallel; precision float32" in text
    return cwd


@pytest.mark.parametrize("engine", ENGINES)
def test_fifty_steps_have_the_losses_of_data_parallel_training(
    engine: str, data_parallel: Path, cohort: Path, tmp_path: Path
) -> None:
    code, text = train(cohort, tmp_path, engine, *SMOOTH, f"cache.dir={data_parallel}/cache")
    assert code == 0, text
    assert f"2 processes on cpu, gloo; {ENGINES[engine]};" in text
    assert "warning" not in text.lower(), text
    run, other = tmp_path / "runs" / "x", data_parallel / "runs" / "x"
    assert json.loads((run / "environment.json").read_text())["engine"] == ENGINES[engine]
    for event, key, tolerance in (("train", "loss", 1e-4), ("train", "grad_norm", 1e-2), ("validation", "loss", 1e-4)):
        found, expected = ([record[key] for record in read_metrics(path, event)] for path in (run, other))
        assert len(found) == (52 if event == "train" else 13)
        np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=f"{event} {key}")

    # The checkpoint predicts in a plain process what the run itself predicted.
    predicted = run_command("predict", run, cohort, "--out", tmp_path / "again.csv", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    again = pd.read_csv(tmp_path / "again.csv").set_index("case")
    before = pd.read_csv(run / "predictions_val.csv").set_index("case")
    columns = [name for name in before if name.startswith("p_")]
    np.testing.assert_array_equal(again.loc[before.index, columns], before[columns])


@pytest.mark.parametrize(("engine", "optimizer"), EVERY_PAIR if NUM_REHEARSALS > 2 else SOME_PAIRS)
def test_a_stopped_run_goes_on_with_its_bits(
    engine: str, optimizer: str, data_parallel: Path, cohort: Path, tmp_path: Path
) -> None:
    """With batch norm and dropout, from the middle of an epoch."""
    recipe = [*TINY, "train.epochs=1", f"train.optimizer={optimizer}", "train.max_grad_norm=1", "train.log_every=1"]
    for name, fault in (("whole", ""), ("stopped", "rank=1,step=2,phase=backward,do=usr1"), ("stopped", "")):
        (tmp_path / name).mkdir(exist_ok=True)
        code, text = train(cohort, tmp_path / name, engine, *recipe, f"cache.dir={data_parallel}/cache", fault=fault)
        assert code == (75 if fault else 0), text
    assert "resuming after epoch 0, step 2" in text
    stopped, whole = (tmp_path / name / "runs" / "x" for name in ("stopped", "whole"))
    assert records(stopped) == records(whole)
    assert bits(stopped) == bits(whole)


@pytest.mark.parametrize("engine", ["deepspeed_zero3", "fsdp2"])
def test_a_loss_that_is_no_number_changes_nothing(
    engine: str, data_parallel: Path, cohort: Path, tmp_path: Path
) -> None:
    recipe = [*TINY, "train.log_every=1", "train.epochs=1", f"cache.dir={data_parallel}/cache"]
    fault = "rank=1,step=2,phase=forward,do=nan"
    code, text = train(cohort, tmp_path, engine, *recipe, "train.max_skipped_steps=1", fault=fault)
    assert code == 0, text
    steps = read_metrics(tmp_path / "runs" / "x", "train")
    assert [record["loss"] is None for record in steps] == [False, True, False, False]
    assert all(np.isfinite(record["grad_norm"]) for record in steps if record["loss"] is not None)


def test_what_an_engine_cannot_do_is_said_before_anything_runs(cohort: Path, tmp_path: Path) -> None:
    code, text = train(cohort, tmp_path, "fsdp2", *TINY, "train.exact=true")
    assert code == 2, text
    assert "train.exact=true: FSDP2 sums gradients in an order of its own" in text
    assert not (tmp_path / "runs").exists()
