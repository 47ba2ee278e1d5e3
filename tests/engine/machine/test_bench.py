"""What is measured, with which cases."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.conftest import TINY
from vwmm.config.loading import load_config
from vwmm.engine.machine import bench
from vwmm.engine.machine.bench import run_bench
from vwmm.engine.machine.step_parts import Stepper
from vwmm.system.errors import UserError


@pytest.mark.parametrize(
    ("count", "batch_size", "cases", "passes"),
    [(32, 16, 16, 2), (17, 16, 17, 2), (9, 16, 9, 1), (40, 16, 16, 2), (64, 64, 64, 8)],
)
def test_largest_steps_of_the_cases_are_measured(count: int, batch_size: int, cases: int, passes: int) -> None:
    config = load_config([], [f"train.batch_size={batch_size}", "train.micro_batch_size=2"])
    plans = list[list[list[list[int]]]]()
    fake = SimpleNamespace(config=config, dataset=range(count), measure=lambda plan, **_: plans.append(plan))
    _, num_passes = bench._steps(cast(Stepper, fake), cast(Any, SimpleNamespace(at_once=4)), 10)
    (plan,) = plans
    assert {sum(map(len, step)) for step in plan} == {cases}
    assert num_passes == passes


@pytest.mark.parametrize(
    "words",
    [
        ["train.exact=true"],
        ["train.batch_size=1", "train.micro_batch_size=1", "model.norm=group"],
        ["cache.dtype=uint8", "cache.on_device=true", "train.num_workers=0"],
        ["modalities.mri.slice=5", "modalities.mri.column=t1", "model.modality_dropout=0.3"],
        ["modalities.vw_mri.spacing_mm=[2,2,2]", "modalities.ct=null", "model.checkpointing=true"],
    ],
)
def test_any_configuration_is_measured(words: list[str], tmp_path: Path) -> None:
    measured = run_bench(load_config([], [*TINY, *words, f"cache.dir={tmp_path / 'cache'}"]), seconds=2)
    assert measured.step.seconds > 0
    assert measured.input.cold > 0
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_named() -> None:
    config = load_config([], [*TINY, "cache.dir=/proc/cache"])
    with pytest.raises(UserError, match=r"cache\.dir: /proc cannot be written"):
        run_bench(config, seconds=2)
