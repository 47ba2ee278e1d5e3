"""A run folder that is changed under a run."""

import os
import shutil
from pathlib import Path

import pytest

from vwmm.config.run_folder import FILES, FOLDERS, RunFolder
from vwmm.engine.checkpoints.run_watch import RunWatch
from vwmm.engine.tracking.metrics_file import MetricsFile
from vwmm.system.errors import RunError, UserError


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "x")


@pytest.fixture
def watch(run: RunFolder) -> RunWatch:
    watch = RunWatch(run, run.lock())
    run.config.write_text("a: 1\n")
    watch.keep({run.config: "a: 1\n"})
    return watch


def test_untouched_folder_is_fine(watch: RunWatch) -> None:
    watch.check()
    watch.check_best(None)


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_folder_that_has_gone_ends_the_run_and_is_not_made_again(how: str, run: RunFolder, watch: RunWatch) -> None:
    if how == "removed":
        shutil.rmtree(run.path)
    else:
        run.path.rename(run.path.with_name("y"))
    if how == "replaced":
        run.path.mkdir()
    assert not watch.is_ours()
    with pytest.raises(RunError, match="was removed or replaced while the run was training"):
        watch.check()
    assert run.path.exists() == (how == "replaced")


def test_files_that_have_gone_are_written_again(run: RunFolder, watch: RunWatch) -> None:
    metrics = MetricsFile(run.metrics)
    metrics.write([{"event": "train", "epoch": 1, "step": 1}])
    watch.follow(run.metrics, metrics.fileno())
    for path in (run.config, run.metrics, run.path / ".lock"):
        path.unlink()
    watch.check()
    metrics.write([{"event": "train", "epoch": 1, "step": 2}])
    assert run.config.read_text() == "a: 1\n"
    assert [line[-2:-1] for line in run.metrics.read_text().splitlines()] == ["1", "2"]
    assert run.is_in_use()
    watch.check()


def test_metrics_that_an_editor_replaced_are_those_of_the_run_again(run: RunFolder, watch: RunWatch) -> None:
    metrics = MetricsFile(run.metrics)
    metrics.write([{"event": "train", "epoch": 1, "step": 1}])
    watch.follow(run.metrics, metrics.fileno())
    written = run.metrics.read_text()
    other = run.path / "edited"
    other.write_text(written.replace("1", "7"))
    os.replace(other, run.metrics)
    watch.check()
    assert run.metrics.read_text() == written


def test_folder_that_another_run_has_taken_ends_the_run(run: RunFolder, watch: RunWatch) -> None:
    (run.path / ".lock").unlink()
    taken = run.lock()
    with pytest.raises(RunError, match="is in use by process"):
        watch.check()
    taken.close()


def test_best_checkpoint_that_has_gone_ends_the_run(run: RunFolder, watch: RunWatch) -> None:
    with pytest.raises(RunError, match=r"best, of epoch 3, was removed"):
        watch.check_best(3)


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_links_in_a_run_folder_are_refused_before_anything_is_written(
    name: str, run: RunFolder, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if name in FILES:
        elsewhere.write_text("of another\n")
    else:
        elsewhere.mkdir()
    (run.path / name).parent.mkdir(parents=True)
    (run.path / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link, which is not followed"):
        run.lock()
    assert elsewhere.is_dir() or elsewhere.read_text() == "of another\n"
    assert not (run.path / ".lock").exists() or name == ".lock"


@pytest.mark.parametrize(
    ("name", "make"), [("train.log", Path.mkdir), ("metrics.jsonl", os.mkfifo), ("checkpoints", Path.touch)]
)
def test_files_and_folders_of_another_kind_are_refused(name: str, make: object, run: RunFolder) -> None:
    run.path.mkdir(parents=True)
    make(run.path / name)  # type: ignore[operator]
    with pytest.raises(UserError, match=f"{name}: is not a "):
        run.lock()
