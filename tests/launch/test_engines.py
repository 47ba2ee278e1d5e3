"""DeepSpeed's ZeRO and torch's FSDP2 on two CPU processes: what they learn, keep and go on from is data-parallel's.

VWMM_REHEARSALS=20 compares 52 steps instead of 12.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TINY, read_metrics, run_command
from tests.faults.rehearsing import IS_LONG
from tests.launch.training import ENGINES, train

EPOCHS = 13 if IS_LONG else 3  # of four steps
# Normalising what is left of 32 voxels turns rounding into sense: at ten times this rate two runs part,
# whoever adds their gradients, and say nothing of an engine.
SMOOTH = [*TINY, "model.norm=group", "train.lr=0.00001", f"train.epochs={EPOCHS}", "train.log_every=1"]


@pytest.fixture(scope="module")
def data_parallel(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the engines are compared with."""
    cwd = tmp_path_factory.mktemp("data_parallel")
    code, text = train(cohort, cwd, "multi_gpu", *SMOOTH, f"cache.dir={cwd}/cache")
    assert code == 0, text
    assert "  processes  2 processes on cpu, gloo; data parallel; precision float32" in text
    return cwd


@pytest.mark.parametrize("engine", ENGINES if IS_LONG else ["deepspeed_zero3"])
def test_all_steps_have_the_losses_of_data_parallel_training(
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
        assert len(found) == (4 * EPOCHS if event == "train" else EPOCHS)
        np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=f"{event} {key}")

    # The checkpoint predicts in a plain process what the run itself predicted.
    predicted = run_command("predict", run, cohort, "--out", tmp_path / "again.csv", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    again = pd.read_csv(tmp_path / "again.csv").set_index("case")
    before = pd.read_csv(run / "predictions_val.csv").set_index("case")
    columns = [name for name in before if name.startswith("p_")]
    np.testing.assert_array_equal(again.loc[before.index, columns], before[columns])
