"""What is said, and what is left, when something in a run fails."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, Trained, run_command
from tests.faults.rehearsing import (
    ONE,
    SAVE_EVERY,
    TWO,
    Disturbance,
    assert_undisturbed,
    in_long_form,
    run_through,
    start,
    wait_for_silence,
)
from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder, choose_run_folder
from vwmm.engine.checkpoints.checkpoint import read_checkpoint
from vwmm.system.errors import UserError


def train(
    cohort: Path, cwd: Path, fault: str, *arguments: str, launch: str = TWO
) -> tuple[int, str, dict[str, object]]:
    """Exit code, what was said, and status.json of one start that nothing may outlive."""
    process = start(cohort, cwd, *arguments, launch=launch, fault=fault)
    text, _ = process.communicate(timeout=120)
    wait_for_silence(cwd)
    status = cwd / "runs" / "x" / "status.json"
    assert status.exists(), text
    return process.returncode, text, json.loads(status.read_text())


def test_a_process_that_raises_is_named_with_its_own_error_once_and_first(cohort: Path, tmp_path: Path) -> None:
    code, text, status = train(cohort, tmp_path, "rank=1,phase=update,step=6,do=raise")
    assert code == 1
    message = "process 1 failed in update, step 6: RuntimeError: a rehearsed fault in update, step 6"
    assert text.count(message) == 1
    assert text.count("Traceback") == 1
    assert "Connection closed" not in text
    assert (status["state"], status["reason"]) == ("failed", message)
    assert message in (tmp_path / "runs" / "x" / "train.log").read_text()


def test_a_process_that_is_killed_is_named(cohort: Path, tmp_path: Path) -> None:
    code, text, status = train(cohort, tmp_path, "rank=1,phase=backward,step=6,do=kill")
    assert code == 1
    assert "vwmm: process 1 has ended, last seen in " in text
    assert "killed from outside" in str(status["reason"])


@pytest.mark.parametrize("do", [pytest.param("stop", marks=in_long_form), "hang"])
def test_a_process_that_hangs_is_named_and_both_are_gone_in_time(do: str, cohort: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    code, text, status = train(
        cohort, tmp_path, f"rank=1,phase=forward,step=6,do={do}", "run.hang_timeout_s=15", "train.log_every=1"
    )
    assert code == 1
    assert "vwmm: process 1 (pid" in text
    assert ("hangs in forward, step 6: no progress" if do == "hang" else "stopped in forward, step 6") in text
    assert status["state"] == "failed"
    assert "process 1" in str(status["reason"])
    assert time.monotonic() - started < 100  # the default would be ten minutes


def test_a_loss_that_is_no_number_names_the_cases_and_leaves_the_state_before_it(
    reference: Path, cohort: Path, tmp_path: Path
) -> None:
    code, text, status = train(cohort, tmp_path, "rank=1,phase=forward,step=6,do=nan")
    run = RunFolder(tmp_path / "runs" / "x")
    assert code == 1
    assert text.count("the loss is nan in step 6, on cases case_") == 1
    assert (status["state"], status["step"]) == ("failed", 5)
    progress = read_checkpoint(run.last).progress
    assert (progress.step, progress.skipped) == (5, 0)
    # It goes on where it stopped, and ends like one that had no such step.
    outcome = run_through(cohort, tmp_path, [], launch=TWO)
    assert outcome.codes == [0]
    assert "resuming after epoch 1, step 5" in outcome.text
    assert_undisturbed(run.path, reference)


@pytest.mark.parametrize("launch", [pytest.param(TWO, marks=in_long_form), ONE])
def test_a_gradient_that_is_no_number_is_passed_over_if_that_is_asked_for(
    launch: str, cohort: Path, tmp_path: Path
) -> None:
    code, text, _ = train(
        cohort, tmp_path, "rank=0,phase=backward,step=6,do=nan", "train.max_skipped_steps=1", launch=launch
    )
    assert code == 0, text
    assert "the gradient is not finite in step 6" in text
    assert "skipped (1 of at most 1)" in text
    lines = [json.loads(line) for line in (tmp_path / "runs" / "x" / "metrics.jsonl").read_text().splitlines()]
    skipped = [line for line in lines if line["event"] == "train" and line.get("skipped")]
    assert [(line["step"], line["loss"], line["grad_norm"]) for line in skipped] == [(6, None, None)]
    assert all(line["loss"] is not None for line in lines if line not in skipped)


def test_a_thread_that_cannot_read_names_the_case(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    case = next(
        line.split(",")[0] for line in (trained.folder / "split.csv").read_text().splitlines() if ",train," in line
    )
    code, text, status = train(cohort, tmp_path, f"phase=read,case={case},do=raise")
    assert code == 1
    assert f"case {case}: vw_mri" in text
    assert "cannot be read: RuntimeError" in text
    assert f"case {case}" in str(status["reason"])


def test_a_checkpoint_that_cannot_be_written_costs_nothing_but_itself(
    reference_of_one: Path, cohort: Path, tmp_path: Path
) -> None:
    saving = f"run.save_every_steps={SAVE_EVERY}"
    code, text, _ = train(cohort, tmp_path, "phase=save,step=6,do=full", saving, launch=ONE)
    assert code == 0, text
    assert "the checkpoint of step 6 could not be written (No space left on device); that of step 4 is kept" in text
    assert_undisturbed(tmp_path / "runs" / "x", reference_of_one)


def test_a_last_checkpoint_that_cannot_be_written_is_a_failure_that_can_be_gone_on_from(
    cohort: Path, tmp_path: Path
) -> None:
    code, _, status = train(cohort, tmp_path, "phase=save,step=12,do=full", launch=ONE)
    assert code == 1
    assert "the checkpoint of step 12 could not be written" in str(status["reason"])
    assert "the last one is of step 8" in str(status["reason"])
    outcome = run_through(cohort, tmp_path, [], launch=ONE)
    assert outcome.codes == [0]
    assert "resuming after epoch 2, step 8" in outcome.text


@in_long_form
def test_a_disk_that_is_really_full_keeps_the_run_and_its_last_checkpoint(
    reference: Path, cohort: Path, tmp_path: Path
) -> None:
    """A tmpfs for the run folder, which the second process never writes to."""
    small = tmp_path / "runs"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this test mounts a small disk, which needs root and the right to do so")
    try:
        filler = small / "filler"
        process = start(cohort, tmp_path, launch=TWO, fault="rank=1,phase=step,step=5,do=usr1")
        assert process.communicate(timeout=120)[0] is not None
        assert process.returncode == 75
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        filler.write_bytes(bytes(max(0, free - 300_000)))
        full = start(cohort, tmp_path, launch=TWO)
        text, _ = full.communicate(timeout=120)
        assert full.returncode == 1, text
        assert "could not be written" in text
        filler.unlink()
        outcome = run_through(cohort, tmp_path, [], launch=TWO)
        assert outcome.codes == [0], outcome.text
        kept = tmp_path / "kept"
        shutil.copytree(small / "x", kept)
    finally:
        subprocess.run(["umount", small], check=True)
    assert_undisturbed(kept, reference)


def test_a_second_job_is_refused_and_told_who_has_the_run(cohort: Path, tmp_path: Path) -> None:
    first = start(cohort, tmp_path, launch=ONE, fault="phase=step,step=3,do=hang")
    status = tmp_path / "runs" / "x" / "status.json"
    end = time.monotonic() + 60
    while not status.exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    second = run_command(
        "train", "--launch", ONE, f"data.csv={cohort}", *TINY, "train.epochs=3", "run.name=x",
        cwd=tmp_path,
    )  # fmt: skip
    first.send_signal(2)
    time.sleep(0.7)
    first.send_signal(2)  # twice: at once
    assert first.wait(30) == 1
    wait_for_silence(tmp_path)
    assert second.returncode == 2, second.stderr
    assert "is in use by process" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_mistake_in_a_rehearsal_is_said_before_anything_runs(cohort: Path, tmp_path: Path) -> None:
    done = run_command("train", "--launch", ONE, f"data.csv={cohort}", *TINY, cwd=tmp_path, VWMM_FAULT="do=explode")
    assert done.returncode == 2, done.stderr
    assert "VWMM_FAULT: do=explode: expected do=kill|" in done.stderr
    assert "Traceback" not in done.stderr


@in_long_form
def test_a_process_alone_that_is_stopped_is_named_and_ended_by_the_command(cohort: Path, tmp_path: Path) -> None:
    code, text, status = train(cohort, tmp_path, "step=6,phase=backward,do=stop", "run.hang_timeout_s=15", launch=ONE)
    assert code == 1
    assert "hangs: no sign of life, stopped in backward, step 6" in text
    assert status["state"] == "failed"
    assert "stopped in backward, step 6" in str(status["reason"])


@in_long_form
def test_predictions_that_are_lost_are_computed_again(
    reference_of_one: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    stop = Disturbance("phase=step,step=10,do=term")
    first = start(cohort, tmp_path, cache, launch=ONE, fault=stop.fault)
    first.communicate(timeout=120)
    (tmp_path / "runs" / "x" / "predictions_val.csv").unlink()
    outcome = run_through(cohort, tmp_path, [], cache, launch=ONE)
    assert outcome.codes == [0], outcome.text
    assert_undisturbed(tmp_path / "runs" / "x", reference_of_one)


def test_a_run_without_its_configuration_is_not_begun_anew_without_a_word(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    shutil.copytree(trained.folder, run)
    (run / "config.yaml").unlink()
    (run / "status.json").write_text('{"state": "failed", "reason": "x"}')
    done = run_command(
        "train", "--launch", ONE, f"data.csv={trained.cwd}/none.csv", *TINY, "run.name=tiny", cwd=tmp_path
    )
    assert done.returncode == 2
    with pytest.raises(UserError, match=r"has checkpoints, but no config\.yaml"):
        choose_run_folder(load_config([], [f"run.dir={tmp_path / 'runs'}", "run.name=tiny"]))
    assert not (tmp_path / "runs" / "tiny-2").exists()
