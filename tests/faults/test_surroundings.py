"""What is around a run fails: its folder, disk, streams, memory. Nothing is lost, and the exit code is true."""

import contextlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Trained
from tests.faults.rehearsing import (
    IS_LONG,
    ONE,
    RECIPE,
    Disturbance,
    assert_undisturbed,
    environment,
    in_long_form,
    run_through,
    start,
    wait_for_silence,
)

MOMENTS = range(10 if IS_LONG else 1)


def wait_for_training(run: Path, moment: int, process: subprocess.Popen[str]) -> None:
    """Until the run has made a step, and a random time longer."""
    metrics, end = run / "metrics.jsonl", time.monotonic() + 90
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        assert time.monotonic() < end, "the run does not train"
        time.sleep(0.02)
    time.sleep(random.Random(moment).uniform(0, 1.5))


@contextlib.contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], capture_output=True
    ).returncode:
        pytest.skip("this test mounts a small disk, which needs root and the right to do so")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("moment", MOMENTS)
def test_run_whose_folder_is_removed_fails_and_does_not_make_it_again(
    moment: int, cohort: Path, cache: str, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "x"
    process = start(cohort, tmp_path, cache, "train.epochs=400", launch=ONE)
    wait_for_training(run, moment, process)
    run.rename(tmp_path / "bin")  # at once, as a removal on the same disk is
    text, _ = process.communicate(timeout=60)
    wait_for_silence(tmp_path)
    assert process.returncode == 1, text
    assert text.count("was removed or replaced while the run was training") == 1
    assert "Traceback" not in text
    assert not run.exists()
    shutil.rmtree(tmp_path / "bin")


@in_long_form
@pytest.mark.parametrize("moment", range(10))
def test_run_whose_folder_is_made_unwritable_goes_on_once_it_can_be_written(
    moment: int, reference_of_one: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "x"
    process = start(cohort, tmp_path, cache, launch=ONE, fault="phase=step,step=6,do=stop")
    wait_for_training(run, moment, process)
    folders = [folder for folder in (run, run / "checkpoints") if folder.is_dir()]
    if subprocess.run(["chattr", "+i", *folders], capture_output=True).returncode:
        process.kill()
        pytest.skip("this test makes a folder immutable, which needs root and a disk that can")
    try:
        end = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < end:  # it may stop itself after the first of these
            for pid in subprocess.run(["pgrep", "-f", str(cohort)], capture_output=True, text=True).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGCONT)
            time.sleep(0.3)
        text, _ = process.communicate(timeout=90)
    finally:
        subprocess.run(["chattr", "-i", *folders], check=True)
    wait_for_silence(tmp_path)
    assert process.returncode == 1, text
    assert "could not be written" in text
    assert "Traceback" not in text
    outcome = run_through(cohort, tmp_path, [], cache, launch=ONE)
    assert outcome.codes == [0], outcome.text
    assert_undisturbed(run, reference_of_one)


def test_disk_without_room_for_the_checkpoints_is_refused_before_training(
    cohort: Path, cache: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "runs", 2000) as runs:
        process = start(cohort, tmp_path, cache, launch=ONE)
        text, _ = process.communicate(timeout=90)
        assert process.returncode == 2, text
        assert "and the checkpoints need" in text
        assert "Traceback" not in text
        assert not (runs / "x").exists()


@pytest.mark.parametrize("streams", ["2>&-", pytest.param(">&- 2>&- <&-", marks=in_long_form)])
def test_run_with_closed_streams_ends_like_any_other(
    streams: str, reference_of_one: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "vwmm",
        "train",
        "--launch",
        ONE,
        f"data.csv={cohort}",
        *RECIPE,
        "run.name=x",
        cache,
    ]
    done = subprocess.run(["bash", "-c", f'exec "$@" {streams}', "x", *command], cwd=tmp_path, env=environment())
    assert done.returncode == 0
    assert_undisturbed(tmp_path / "runs" / "x", reference_of_one)


@in_long_form
@pytest.mark.parametrize("moment", range(10))
def test_temporary_folder_that_fills_up_changes_no_exit_code(
    moment: int, cohort: Path, cache: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "temporary", 200) as temporary:
        os.environ["TMPDIR"] = str(temporary)
        try:
            process = start(cohort, tmp_path, cache, "train.epochs=40", launch=ONE)
        finally:
            del os.environ["TMPDIR"]
        time.sleep(random.Random(moment).uniform(0, 6))
        with contextlib.suppress(OSError), (temporary / "filler").open("wb") as stream:
            while True:
                stream.write(bytes(1024))
                stream.flush()
        text, _ = process.communicate(timeout=120)
        state = tmp_path / "runs" / "x" / "status.json"
        is_done = state.exists() and json.loads(state.read_text())["state"] == "done"
    assert process.returncode == (0 if is_done else 1), text
    assert is_done or "the temporary folder" in text


def test_process_killed_before_the_run_folder_opens_is_told(cohort: Path, tmp_path: Path) -> None:
    process = start(cohort, tmp_path, launch=ONE, fault="phase=cache,do=kill")
    text, _ = process.communicate(timeout=90)
    wait_for_silence(tmp_path)
    assert process.returncode == 1, text
    assert "vwmm: the process was killed from outside (out of memory?)" in text


@in_long_form
@pytest.mark.parametrize("moment", range(10))
def test_results_changed_between_two_starts_are_noticed(
    moment: int, reference_of_one: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "x"
    step = random.Random(moment).randrange(5, 12)
    first = start(cohort, tmp_path, cache, launch=ONE, fault=Disturbance(f"phase=step,step={step},do=term").fault)
    first.communicate(timeout=120)
    name = ("metrics.jsonl", "predictions_val.csv")[moment % 2]
    content = (run / name).read_text()
    (run / name).write_text(content.replace("1", "2", 1) if name == "metrics.jsonl" else content.replace("0.3", "0.2"))
    outcome = run_through(cohort, tmp_path, [], cache, launch=ONE)
    assert outcome.codes == [0], outcome.text
    if name == "metrics.jsonl":
        assert "metrics.jsonl was changed after the run wrote it" in outcome.text
        assert "metrics.jsonl was changed after the run wrote it" in (run / "report.html").read_text()
    else:
        assert (run / name).read_text() == (reference_of_one / name).read_text()


@in_long_form
def test_memory_that_cannot_be_written_costs_the_snapshots_only(
    reference_of_one: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "vwmm",
        "train",
        "--launch",
        ONE,
        f"data.csv={cohort}",
        *RECIPE,
        "run.name=x",
        cache,
    ]
    prepare = (
        "mount --bind /dev/shm /dev/shm && mount -o remount,bind,ro /dev/shm && touch /dev/shm/x; test ! -e /dev/shm/x"
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", f'{prepare} || exit 99; exec "$@"', "x", *command, "run.snapshots=true"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("this test makes /dev/shm read-only for one process, which needs root and the right to do so")
    assert done.returncode == 0, done.stderr
    assert "Read-only file system; only checkpoints are written" in done.stderr
    assert_undisturbed(tmp_path / "runs" / "x", reference_of_one)


def test_files_of_a_run_have_the_rights_that_the_umask_gives(trained: Trained) -> None:
    mask = os.umask(0)
    os.umask(mask)
    wrong = {
        str(path.relative_to(trained.folder)): oct(mode)
        for path in trained.folder.rglob("*")
        if "wandb" not in path.parts
        and (mode := stat.S_IMODE(path.lstat().st_mode)) != (0o777 if path.is_dir() else 0o666) & ~mask
    }
    assert wrong == {}
