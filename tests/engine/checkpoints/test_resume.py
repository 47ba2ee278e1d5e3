"""From where a run goes on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.checkpoints.test_checkpoint import state_of
from vwmm.config.run_folder import RunFolder
from vwmm.engine.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from vwmm.engine.checkpoints.resume import Found, find_state, make_snapshot_folder, snapshot_place
from vwmm.engine.checkpoints.state import State
from vwmm.engine.tracking.metrics_file import MetricsFile
from vwmm.system.errors import UserError


def at(step: int, *, best: int | None = None) -> State:
    state = state_of(step)
    return replace(state, progress=replace(state.progress, best_epoch=best, epoch=step // 2))


def find(run: RunFolder, snapshot: Path | None) -> Found:
    """As a run does it: finds, then settles."""
    found = find_state(run, snapshot)
    found.settle()
    return found


def path_of(found: Found) -> Path | None:
    return None if found.checkpoint is None else found.checkpoint.path


def damage(folder: Path, file: str = "model.safetensors") -> None:
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Six steps are done, with checkpoints after 2, 4 and 6."""
    run = RunFolder(tmp_path / "runs" / "x")
    run.path.mkdir(parents=True)
    MetricsFile(run.metrics).write([{"event": "train", "epoch": 1, "step": step} for step in range(1, 7)])
    for step in (2, 4, 6):
        write_checkpoint(run.last, at(step, best=1), keep=3)
    write_checkpoint(run.best, at(2, best=1))
    return run


def test_the_newest_state_is_gone_on_from_and_nothing_is_said(run: RunFolder) -> None:
    found = find(run, None)
    assert path_of(found) == run.last
    assert found.messages == []


def test_a_run_without_a_checkpoint_begins_at_its_start(tmp_path: Path) -> None:
    found = find(RunFolder(tmp_path), None)
    assert (path_of(found), found.messages) == (None, [])


def test_damaged_ones_are_set_aside_and_the_cost_is_said(run: RunFolder) -> None:
    damage(run.last)
    damage(run.last.with_name("step-00000004"), "meta.json")
    found = find(run, None)
    assert path_of(found) == run.last.with_name("step-00000002")
    assert "model.safetensors is not what was written; set aside as damaged-last" in found.messages[0]
    assert "damaged-step-00000004" in found.messages[1]
    assert found.messages[2] == "resuming from step 2: 4 steps are done again"
    assert not run.last.exists()
    assert find(run, None).messages == []  # said once


def test_finding_a_state_changes_nothing_on_the_disk(run: RunFolder) -> None:
    damage(run.last)
    damage(run.best)
    place = snapshot_place(run)
    make_snapshot_folder(place)
    try:
        write_checkpoint(place, at(7, best=3), is_durable=False)
        folders = [run.path, place.parent]
        before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
        found = find_state(run, place)
        assert found.renames
        assert found.outdated == place
        assert {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")} == before
    finally:
        shutil.rmtree(place.parent)


def test_without_an_intact_state_the_run_begins_again(run: RunFolder) -> None:
    for folder in run.last.parent.iterdir():
        damage(folder)
    found = find(run, None)
    assert path_of(found) is None
    assert found.messages[-1] == "resuming from step 0: 6 steps are done again"


def test_a_damaged_best_checkpoint_is_learned_again(run: RunFolder) -> None:
    write_checkpoint(run.last.with_name("step-00000001"), at(1))
    damage(run.best)
    found = find(run, None)
    assert path_of(found) == run.last.with_name("step-00000001")
    # What came after the lost best must not be taken for the newest state when there is a best again.
    write_checkpoint(run.best, at(2, best=1))
    assert path_of(find(run, None)) == run.last.with_name("step-00000001")
    assert sorted(path.name for path in run.last.parent.glob("unused-*")) == [
        "unused-last", "unused-step-00000002", "unused-step-00000004",
    ]  # fmt: skip


def test_a_crash_between_two_renames_of_the_best_loses_nothing(run: RunFolder) -> None:
    run.best.rename(run.best.with_name("best-step-00000002"))
    assert path_of(find(run, None)) == run.last
    assert read_checkpoint(run.best).progress.step == 2


def test_a_snapshot_that_is_newer_is_taken_and_one_of_an_unwritten_best_is_not(run: RunFolder) -> None:
    place = snapshot_place(run)
    make_snapshot_folder(place)
    try:
        write_checkpoint(place, at(7, best=1), is_durable=False)
        assert path_of(find(run, place)) == place
        write_checkpoint(place, at(7, best=3), is_durable=False)
        assert path_of(find(run, place)) == run.last
        assert not place.exists()
        write_checkpoint(place, at(7, best=1), is_durable=False)
        damage(place)
        assert path_of(find(run, place)) == run.last
        # Of the same step: the checkpoint that knows the epoch's validation, not the snapshot before it.
        state = at(6, best=1)
        write_checkpoint(place, replace(state, progress=replace(state.progress, epoch=2)), is_durable=False)
        assert path_of(find(run, place)) == run.last
    finally:
        shutil.rmtree(place.parent)


def test_a_snapshot_belongs_to_one_run_and_to_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    places = {snapshot_place(one), snapshot_place(other)}
    assert len(places) == 2
    assert snapshot_place(one) in places
    shutil.rmtree(one.path)
    assert snapshot_place(one) not in places  # the same folder, but another run
    monkeypatch.setattr("vwmm.engine.checkpoints.resume._MEMORY", tmp_path)
    place = snapshot_place(other)
    place.parent.symlink_to(tmp_path / "b")
    with pytest.raises(UserError, match="belongs to somebody else"):
        make_snapshot_folder(place)
