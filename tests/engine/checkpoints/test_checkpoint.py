"""Checkpoints: complete and unaltered, or not loaded; nothing in them can run code."""

import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch
import xxhash
from torch import nn

from vwmm.engine.checkpoints import checkpoint
from vwmm.engine.checkpoints.checkpoint import (
    DAMAGED,
    find_checkpoint,
    free_name,
    load_checkpoint,
    older_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from vwmm.engine.checkpoints.state import Progress, State, copy_state, optimizer_tensors, restore_optimizer
from vwmm.system.errors import UserError


def network(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.arange(12.0).reshape(4, 3)
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


def state_of(step: int = 0, *, seed: int = 0, parts: torch.Tensor | None = None) -> State:
    model, optimizer = network(seed)
    learn(model, optimizer)
    return copy_state(
        model,
        Progress(epoch=step // 2, step=step),
        {"classes": ["a"]},
        optimizer=optimizer_tensors(model, optimizer),
        parts=parts,
    )


def put_in(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    state = load_checkpoint(folder)
    state.restore_weights(model)
    restore_optimizer(model, optimizer, state.optimizer or {})
    return state.progress


def test_model_optimizer_and_position_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = network(0)
    learn(model, optimizer)
    progress = Progress(epoch=1, step=1, best_value=0.1, loss_sum=0.1 + 0.2, scaler={"scale": 2.0})
    write_checkpoint(tmp_path / "last", copy_state(model, progress, {}, optimizer=optimizer_tensors(model, optimizer)))
    other, other_optimizer = network(1)

    assert put_in(tmp_path / "last", other, other_optimizer) == progress

    learn(model, optimizer)
    learn(other, other_optimizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_copied_state_does_not_follow_the_training(tmp_path: Path) -> None:
    model, optimizer = network(0)
    progress = Progress(step=1)
    state = copy_state(model, progress, {}, optimizer=optimizer_tensors(model, optimizer))
    before = {name: tensor.clone() for name, tensor in state.weights.items()}
    learn(model, optimizer)
    progress.step = 2
    assert state.progress.step == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.weights.items())


def test_the_one_before_is_kept_under_its_step_or_not_at_all(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        write_checkpoint(tmp_path / "last", state_of(step), keep=3)
        write_checkpoint(tmp_path / "best", state_of(step))
    assert [path.name for path in older_checkpoints(tmp_path / "last")] == ["step-00000006", "step-00000004"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "step-00000004", "step-00000006"]
    assert read_checkpoint(tmp_path / "best").progress.step == 8


def test_a_crash_between_the_two_renames_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "last", state_of(2))
    replace = os.replace

    def crash_at_the_new_one(source: Path, target: Path) -> None:
        if Path(target).name == "last":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", crash_at_the_new_one)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "last", state_of(4))
    found = find_checkpoint(tmp_path / "last")
    assert found is not None
    assert found.progress.step == 2


def test_a_disk_that_is_full_costs_the_new_one_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "last", state_of(2))
    monkeypatch.setattr(checkpoint, "save_file", lambda *_: (_ for _ in ()).throw(checkpoint.SafetensorError("full")))
    with pytest.raises(OSError, match="full"):
        write_checkpoint(tmp_path / "last", state_of(4))
    assert read_checkpoint(tmp_path / "last").progress.step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_statistics_in_parts_come_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", state_of(2, parts=torch.arange(6.0).reshape(2, 3)))
    parts = load_checkpoint(tmp_path / "last").parts
    assert parts is not None
    assert parts.tolist() == [[0, 1, 2], [3, 4, 5]]
    write_checkpoint(tmp_path / "whole", state_of(2))
    assert load_checkpoint(tmp_path / "whole").parts is None


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best", state_of())
    with pytest.raises(UserError, match="do not fit"):
        load_checkpoint(tmp_path / "best").restore_weights(nn.Linear(3, 4))


def test_a_checkpoint_is_safetensors_and_json_only(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", state_of(1))
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == [
        "meta.json", "model.safetensors", "optimizer.safetensors",
    ]  # fmt: skip
    assert json.loads((tmp_path / "last" / "meta.json").read_text())["classes"] == ["a"]


def test_a_damaged_one_gets_a_name_of_its_own_each_time(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        write_checkpoint(tmp_path / "last", state_of(1))
        name = free_name(tmp_path / "last", DAMAGED)
        (tmp_path / "last").rename(name)
        names.append(name.name)
    assert names == ["damaged-last", "damaged-last-2", "damaged-last-3"]


# Two hundred accidents: bits that flip, ends that are missing, zeros, files that are gone or have another's content.
@pytest.mark.parametrize("block", range(10))
def test_no_accident_goes_unnoticed(block: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "good", state_of(2, parts=torch.ones(2, 3)))
    write_checkpoint(tmp_path / "other", state_of(4, seed=1, parts=torch.zeros(2, 3)))
    for number in range(20):
        draw = random.Random(100 * block + number)
        broken = tmp_path / f"broken-{number}"
        shutil.copytree(tmp_path / "good", broken)
        file = broken / draw.choice(sorted(path.name for path in broken.iterdir()))
        content = bytearray(file.read_bytes())
        kind = draw.choice(["flip", "cut", "zeros", "gone", "exchanged", "longer"])
        if kind == "flip":
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[draw.randrange(len(content)) :]
        elif kind == "zeros":
            start = draw.randrange(len(content))
            content[start : start + 64] = bytes(len(content[start : start + 64]))
        elif kind == "longer":
            content += b"\0" * 8
        elif kind == "exchanged":
            content = bytearray((tmp_path / "other" / file.name).read_bytes())
        file.write_bytes(content)
        if kind == "gone":
            file.unlink()
        if file.exists() and _says_the_same(file, tmp_path / "good" / file.name):
            continue  # the accident met a zero, or a blank of the JSON
        with pytest.raises(UserError, match=r"damaged|not complete|format"):
            read_checkpoint(broken)


def _says_the_same(file: Path, good: Path) -> bool:
    if file.suffix != ".json":
        return file.read_bytes() == good.read_bytes()
    try:
        return bool(json.loads(file.read_text()) == json.loads(good.read_text()))
    except ValueError:
        return False


def _write_until_killed(folder: str) -> None:
    states = [state_of(step, seed=step) for step in (2, 4)]
    step = 2
    while True:
        write_checkpoint(Path(folder) / "last", states[step // 2 % 2], keep=2)
        step += 2


@pytest.mark.parametrize("block", range(4))
def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_checkpoint(block: int, tmp_path: Path) -> None:
    """Fifty kills at a random moment each, two hundred in all."""
    write_checkpoint(tmp_path / "last", state_of(2, seed=2))
    known = {xxhash.xxh3_128_hexdigest(_bytes_of(state_of(step, seed=step))) for step in (2, 4)}
    context = multiprocessing.get_context("fork")
    for number in range(50):
        writer = context.Process(target=_write_until_killed, args=(str(tmp_path),))
        writer.start()
        writer.join(0.01 + random.Random(1000 * block + number).random() * 0.05)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = find_checkpoint(tmp_path / "last")
        assert found is not None
        model, optimizer = network(9)
        progress = put_in(found.path, model, optimizer)
        again = copy_state(model, progress, {"classes": ["a"]}, optimizer=optimizer_tensors(model, optimizer))
        assert xxhash.xxh3_128_hexdigest(_bytes_of(again)) in known


def _bytes_of(state: State) -> bytes:
    tensors = sorted([*state.weights.items(), *(state.optimizer or {}).items()], key=lambda item: item[0])
    return str(state.progress.step).encode() + b"".join(tensor.numpy().tobytes() for _, tensor in tensors)


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "statistics.safetensors", "meta.json"])
def test_code_in_a_checkpoint_is_not_run(file: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", state_of(2, parts=torch.ones(2, 3)))
    canary = tmp_path / "canary"
    (tmp_path / "last" / file).write_bytes(pickle.dumps(_Canary(canary)))
    model, optimizer = network(0)
    for read in (
        lambda: read_checkpoint(tmp_path / "last"),
        lambda: load_checkpoint(tmp_path / "last"),
        lambda: put_in(tmp_path / "last", model, optimizer),
        lambda: checkpoint.Checkpoint(tmp_path / "last", Progress(), {}).load(),  # not verified before
    ):
        try:
            read()
        except UserError:
            continue
    assert not canary.exists()
    pickle.loads((tmp_path / "last" / file).read_bytes())  # the canary is one
    assert canary.exists()


@pytest.mark.parametrize(
    ("before", "after"), [('"step": 2', '"step": 3'), ('"a"', '"b"'), ('"epoch": 1', '"epoch": 0')]
)
def test_a_word_of_the_description_that_was_changed_is_noticed(before: str, after: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", state_of(2))
    meta = tmp_path / "last" / "meta.json"
    assert before in meta.read_text()
    meta.write_text(meta.read_text().replace(before, after, 1))
    with pytest.raises(UserError, match=r"damaged: meta\.json"):
        read_checkpoint(tmp_path / "last")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to read as another user")
def test_checkpoint_that_another_user_may_not_read_names_the_file_and_the_cure() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        write_checkpoint(folder / "best", copy_state(network(0)[0], Progress(), {}))
        (folder / "best" / "model.safetensors").chmod(0o600)
        reader, writer = multiprocessing.Pipe(duplex=False)

        def read() -> None:
            os.setuid(65534)
            try:
                read_checkpoint(folder / "best")
            except UserError as error:
                writer.send(str(error))

        child = multiprocessing.get_context("fork").Process(target=read)
        child.start()
        assert reader.poll(20)
        assert reader.recv() == (
            f"{folder}/best/model.safetensors: may not be read by this user: ask its owner for the right to read "
            "(chmod -R a+rX)"
        )
        child.join(20)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_files_of_a_checkpoint_have_the_rights_that_the_umask_gives(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_checkpoint(tmp_path / "last", copy_state(network(0)[0], Progress(), {}))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "last").iterdir()} == {0o666 & ~mask}
