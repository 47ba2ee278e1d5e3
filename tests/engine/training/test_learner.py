"""What is trained, and with what."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.training.one_step import CLASSES, config_of, make_dataset
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.training import learner as learner_module
from vwmm.engine.training.learner import build_learner
from vwmm.models.fusion import build_model


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    """Runtime, model, configuration and seven cases: three of class 0, two each of the others."""
    config = config_of("train.class_weights=balanced", "train.pattern_weights=balanced")
    model = build_model(config.model, config.modalities, CLASSES, seed=0)
    return start_runtime(config.train), model, config, make_dataset(tmp_path)


def test_balanced_weights_are_those_of_the_training_cases(parts: Any) -> None:
    runtime, model, config, dataset = parts

    learner = build_learner(runtime, model, config.train, config.modalities, dataset, CLASSES)

    num_cases = torch.tensor([3.0, 2.0, 2.0])
    found = learner.loss.class_weights
    assert found is not None
    torch.testing.assert_close(torch.as_tensor(found).float(), 7 / (3 * num_cases))


def test_arranging_the_buckets_leaves_no_trace_in_statistics_and_gradients(parts: Any) -> None:
    runtime, model, config, _ = parts
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))

    learner_module._settle_buckets(runtime, model, model, {name: one.size for name, one in config.modalities.items()})

    hook.remove()
    assert calls == [1]
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
