"""When the state of a run is saved, and that it is restored whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.training.one_step import CLASSES, config_of, make_dataset
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.config.run_digests import PREDICTIONS_KEY, text_digest
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.checkpoints.checkpoint import OPTIMIZER, find_checkpoint, read_checkpoint
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.tracking.metrics_file import MetricsFile
from vwmm.engine.training.checkpointing import Checkpointing
from vwmm.engine.training.learner import Learner, build_learner
from vwmm.engine.training.step_reduction import StepResult
from vwmm.models.fusion import build_model
from vwmm.system.errors import StoppedEarly


class Recorder:
    """Counts how often the lines of the steps were written out."""

    def __init__(self) -> None:
        self.num_flushes = 0

    def flush(self) -> None:
        self.num_flushes += 1

    def flush_if_due(self) -> None:
        pass


def start(folder: Path, *overrides: str, seed: int = 0) -> tuple[Config, Learner, Checkpointing]:
    config = config_of("run.snapshots=false", "train.optimizer=adam", *overrides)
    runtime = start_runtime(config.train)
    model = build_model(config.model, config.modalities, CLASSES, seed=seed)
    learner = build_learner(runtime, model, config.train, config.modalities, make_dataset(folder / "cache"), CLASSES)
    run = RunFolder(folder / "run")
    run.path.mkdir(exist_ok=True)
    return config, learner, Checkpointing(runtime, config, run, learner, ("a", "b", "c"))


def update(learner: Learner) -> None:
    """One step of the optimizer, with gradients of one."""
    learner.strategy.set_lr(0.01)
    for parameter in learner.strategy.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.strategy.update(is_finite=True)


def result_of(step: int, *, should_stop: bool = False, should_save: bool = False) -> StepResult:
    return StepResult(step, [[0, 1]], 0.1, [0.5], 1.0, True, should_stop, should_save)


def test_resumed_run_has_the_weights_optimizer_and_lines_of_its_checkpoint(tmp_path: Path) -> None:
    _, learner, before = start(tmp_path)
    before.resume(None)
    update(learner)
    before.progress.step, before.progress.epoch = 2, 1
    before.save_and_wait()
    MetricsFile(tmp_path / "run" / "metrics.jsonl").write(
        [{"event": "train", "epoch": 1 + step // 3, "step": step} for step in (1, 2, 3, 4)]
    )
    weights = {name: tensor.clone() for name, tensor in learner.strategy.model.state_dict().items()}
    moments = {name: tensor.clone() for name, tensor in learner.strategy.state().items()}

    _, other, after = start(tmp_path, seed=1)
    after.resume(find_checkpoint(tmp_path / "run" / "checkpoints" / "last"))

    assert (after.progress.step, after.progress.epoch) == (2, 1)
    torch.testing.assert_close(dict(other.strategy.model.state_dict()), weights, rtol=0, atol=0)
    torch.testing.assert_close(dict(other.strategy.state()), moments, rtol=0, atol=0)
    kept = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert kept == [1, 2]


@pytest.mark.parametrize(("every", "asked", "saved"), [(2, set(), [2, 4]), (None, set(), []), (None, {3}, [3])])
def test_step_is_saved_when_it_is_due_or_asked_for(
    every: int | None, asked: set[int], saved: list[int], tmp_path: Path
) -> None:
    _, _, checkpointing = start(tmp_path, f"run.save_every_steps={'null' if every is None else every}")
    checkpointing.resume(None)
    recorder: Any = Recorder()
    last = tmp_path / "run" / "checkpoints" / "last"

    found = list[int]()
    for step in (1, 2, 3, 4):
        checkpointing.progress.step = step
        flushes = recorder.num_flushes
        checkpointing.after_step(recorder, result_of(step, should_save=step in asked))
        checkpointing.check_folder()  # waits until nothing is being written
        if last.exists() and read_checkpoint(last).progress.step == step:
            found.append(step)
            assert recorder.num_flushes > flushes  # a checkpoint without its lines would leave a gap

    assert found == saved


def test_stop_saves_the_step_first_and_says_which(tmp_path: Path) -> None:
    _, _, checkpointing = start(tmp_path)
    checkpointing.resume(None)
    checkpointing.progress.step = 5

    with pytest.raises(StoppedEarly, match="after step 5; the same command resumes from there"):
        checkpointing.after_step(Recorder(), result_of(5, should_stop=True))  # type: ignore[arg-type]

    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last").progress.step == 5
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == 5


def test_best_checkpoint_names_its_predictions_and_has_no_optimizer(tmp_path: Path) -> None:
    _, _, checkpointing = start(tmp_path)
    checkpointing.resume(None)
    names, labels = ["1", "2"], np.array([0, 1])
    logits, present = np.eye(2, 3, dtype=np.float32), np.ones((2, 1), bool)
    predictions = Predictions(names, names, labels, logits, present, ["a", "b", "c"], ["ct"])

    checkpointing.after_epoch({"event": "validation", "epoch": 1, "loss": 0.5}, predictions, is_best=True)
    checkpointing.check_folder()
    checkpointing.after_epoch({"event": "validation", "epoch": 2, "loss": 0.7}, predictions, is_best=False)
    checkpointing.check_folder()

    best, last = (read_checkpoint(tmp_path / "run" / "checkpoints" / name) for name in ("best", "last"))
    table = (tmp_path / "run" / "predictions_val.csv").read_text()
    assert best.description[PREDICTIONS_KEY] == text_digest(table)
    assert (best.description["validation"]["epoch"], last.description["validation"]["epoch"]) == (1, 2)
    assert not (best.path / OPTIMIZER).exists()
    assert (last.path / OPTIMIZER).exists()
