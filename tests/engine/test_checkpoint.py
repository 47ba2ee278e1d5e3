"""Checkpoints: complete or not there, and nothing in them can run code."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vwmm.config.errors import UserError
from vwmm.engine import checkpoint
from vwmm.engine.checkpoint import Progress, find_checkpoint, load_progress, load_weights, read_meta, save_checkpoint


def network(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.arange(12.0).reshape(4, 3)
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


def test_model_optimizer_and_position_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = network(0)
    step(model, optimizer)
    save_checkpoint(tmp_path / "last", model, Progress(epoch=1, step=1, best_value=0.1), {}, optimizer=optimizer)
    other, other_optimizer = network(1)

    progress = load_progress(tmp_path / "last", other, other_optimizer)

    assert (progress.epoch, progress.step, progress.best_value) == (1, 1, 0.1)
    step(model, optimizer)
    step(other, other_optimizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_new_checkpoint_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    model, _ = network(0)
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "best", model, Progress(epoch=epoch), {})
    assert read_meta(tmp_path / "best")["progress"]["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_crash_between_the_two_renames_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = network(0)
    save_checkpoint(tmp_path / "last", model, Progress(epoch=1), {})
    replace, calls = checkpoint.os.replace, []

    def crash_at_the_second(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", crash_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "last", model, Progress(epoch=2), {})
    found = find_checkpoint(tmp_path / "last")
    assert found is not None
    assert read_meta(found)["progress"]["epoch"] == 1


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    model, _ = network(0)
    save_checkpoint(tmp_path / "best", model, Progress(), {})
    weights = tmp_path / "best" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: model\.safetensors"):
        read_meta(tmp_path / "best")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    model, _ = network(0)
    save_checkpoint(tmp_path / "best", model, Progress(), {})
    with pytest.raises(UserError, match="do not fit"):
        load_weights(tmp_path / "best", nn.Linear(3, 4))


def test_a_checkpoint_is_safetensors_and_json_only(tmp_path: Path) -> None:
    model, optimizer = network(0)
    step(model, optimizer)
    save_checkpoint(tmp_path / "last", model, Progress(), {"classes": ["a", "b"]}, optimizer=optimizer)
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == [
        "meta.json", "model.safetensors", "optimizer.safetensors",
    ]  # fmt: skip
    assert json.loads((tmp_path / "last" / "meta.json").read_text())["classes"] == ["a", "b"]
