"""Under DeepSpeed's ZeRO and torch's FSDP2 a stopped run goes on with its bits, and what cannot be done is said."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY, read_metrics, run_command
from tests.faults.rehearsing import IS_LONG, bits, records
from tests.launch.training import ENGINES, train

EVERY_PAIR = [(engine, optimizer) for engine in ENGINES for optimizer in ("adam", "sgd")]
SOME_PAIRS = [("fsdp2", "adam")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One cache for all of them."""
    return f"cache.dir={tmp_path_factory.mktemp('cache')}"


@pytest.mark.parametrize(("engine", "optimizer"), EVERY_PAIR if IS_LONG else SOME_PAIRS)
def test_a_stopped_run_goes_on_with_its_bits(
    engine: str, optimizer: str, cache: str, cohort: Path, tmp_path: Path
) -> None:
    """With batch norm and dropout, from the middle of an epoch."""
    recipe = [*TINY, "train.epochs=1", f"train.optimizer={optimizer}", "train.max_grad_norm=1", "train.log_every=1"]
    for name, fault in (("whole", ""), ("stopped", "rank=1,step=2,phase=forward,do=usr1"), ("stopped", "")):
        (tmp_path / name).mkdir(exist_ok=True)
        code, text = train(cohort, tmp_path / name, engine, *recipe, cache, fault=fault)
        assert code == (75 if fault else 0), text
    assert "resuming after epoch 0, step 2" in text
    stopped, whole = (tmp_path / name / "runs" / "x" for name in ("stopped", "whole"))
    assert records(stopped) == records(whole)
    assert bits(stopped) == bits(whole)
    if not IS_LONG:
        return
    verified = run_command("verify", stopped, "--from", "0", cwd=tmp_path)
    assert (verified.returncode, "the same bits" in verified.stdout) == (0, True), verified.stdout + verified.stderr


@pytest.mark.parametrize("engine", ["deepspeed_zero3", "fsdp2"] if IS_LONG else ["fsdp2"])
def test_a_loss_that_is_no_number_changes_nothing(engine: str, cache: str, cohort: Path, tmp_path: Path) -> None:
    recipe = [*TINY, "train.log_every=1", "train.epochs=1", cache]
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
