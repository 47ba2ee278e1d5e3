"""Where the seconds of a step are counted."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.training.one_step import CLASSES, config_of, make_dataset
from vwmm.data.loading.dataset import Batch
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.machine.step_parts import PARTS, StepClock, Stepper, TimedDataset
from vwmm.engine.strategies.data_parallel import DataParallel
from vwmm.engine.training import trainer
from vwmm.engine.training.learner import build_learner
from vwmm.models.fusion import build_model

SLEEP_S = 0.2
PLAN = [[[0, 1], [2, 3]]] * 3


@pytest.fixture
def stepper(tmp_path: Path) -> Stepper:
    config = config_of()
    runtime = start_runtime(config.train)
    runtime = replace(runtime, watchdog=StepClock(runtime.device))
    dataset = make_dataset(tmp_path, missing=False)
    dataset.__class__ = TimedDataset
    assert isinstance(dataset, TimedDataset)
    model = build_model(config.model, config.modalities, CLASSES, seed=0)
    learner = build_learner(runtime, model, config.train, config.modalities, dataset, CLASSES)
    return Stepper(runtime, config, learner, dataset)


def sleeping(function: Callable[..., Any]) -> Callable[..., Any]:
    def later(*arguments: Any, **more: Any) -> Any:
        time.sleep(SLEEP_S)
        return function(*arguments, **more)

    return later


@pytest.mark.parametrize(
    ("owner", "name", "part"),
    [
        (Batch, "to", "copy"),
        (DataParallel, "forward", "forward"),
        (DataParallel, "backward", "backward"),
        (DataParallel, "clip_grad_norm", "reduce"),
        (DataParallel, "update", "optimizer"),
        (DataParallel, "set_lr", "other"),
    ],
)
def test_seconds_are_counted_in_their_part(
    owner: type, name: str, part: str, stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, sleeping(getattr(owner, name)))
    parts = stepper.measure(PLAN, seconds=60).parts
    assert set(parts) == set(PARTS)
    assert parts[part] >= SLEEP_S
    assert max(parts, key=lambda one: parts[one]) == part


def test_first_step_is_left_out_and_time_ends_the_others(stepper: Stepper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one compiles, and fills buffers."""
    calls, real = list[int](), trainer.augmentation

    def slow_at_first(*arguments: Any, **more: Any) -> Callable[[Batch], Any]:
        augment = real(*arguments, **more)

        def apply(batch: Batch) -> Any:
            time.sleep(20 * SLEEP_S if not calls else 0)
            calls.append(1)
            return augment(batch)

        return apply

    monkeypatch.setattr(trainer, "augmentation", slow_at_first)
    times = stepper.measure(PLAN * 100, seconds=20 * SLEEP_S + 1)
    assert times.parts["augmentation"] < 10 * SLEEP_S
    assert 1 <= times.num_steps < 299
    assert times.cases == 4


def test_single_step_counts_although_it_is_the_first(stepper: Stepper) -> None:
    assert stepper.measure(PLAN[:1], seconds=0).num_steps == 1
