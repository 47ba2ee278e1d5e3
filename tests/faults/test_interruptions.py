"""Runs that are stopped or killed anywhere end as if nothing had happened: the same bits, each step once.

VWMM_REHEARSALS=20 makes it twenty kills and twenty signals instead of a few.
"""

import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.conftest import run_command
from tests.faults.rehearsing import (
    NUM_REHEARSALS,
    ONE,
    SAVE_EVERY,
    TWO,
    Disturbance,
    assert_undisturbed,
    children_of,
    draw_kill,
    draw_signal,
    in_long_form,
    processes_in,
    run_through,
    start,
    start_torchrun,
    wait_for_silence,
)
from vwmm.config.run_folder import RunFolder
from vwmm.engine.checkpoints.resume import snapshot_place
from vwmm.engine.tracking.metrics_file import last_step

SAVING = f"run.save_every_steps={SAVE_EVERY}"


@pytest.mark.parametrize("number", range(NUM_REHEARSALS))
def test_killed_runs_end_with_the_same_bits(
    number: int, reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    disturbances = draw_kill(number)
    outcome = run_through(cohort, tmp_path, disturbances, SAVING, cache, launch=TWO)
    print(f"kill {number}: {'; '.join(map(str, disturbances))}: codes {outcome.codes}, twice {outcome.twice}")
    assert_undisturbed(tmp_path / "runs" / "x", reference)
    # A checkpoint that is being written when the next one is due is waited for, so less than two intervals are lost.
    assert all(0 <= twice < 2 * SAVE_EVERY for twice in outcome.twice)


@pytest.mark.parametrize("number", range(NUM_REHEARSALS))
def test_stopped_runs_end_with_the_same_bits_and_no_step_is_done_twice(
    number: int, reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    disturbances = draw_signal(number)
    own_cache = "cache" in disturbances[0].fault or number % 4 == 1  # filled anew
    arguments = [] if own_cache else [cache]
    outcome = run_through(cohort, tmp_path, disturbances, *arguments, launch=TWO)
    print(f"signal {number}: {'; '.join(map(str, disturbances))}: codes {outcome.codes}, twice {outcome.twice}")
    assert_undisturbed(tmp_path / "runs" / "x", reference)
    assert set(outcome.codes[:-1]) <= {75}, outcome.text
    assert all(twice == 0 for twice in outcome.twice)


@pytest.mark.parametrize("number", range(max(1, NUM_REHEARSALS // 3)))
def test_with_snapshots_a_kill_costs_no_step(
    number: int, reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    # First between a step and its snapshot, two steps after a checkpoint; then drawn ones.
    certain = [Disturbance("rank=0,phase=copy,step=8,do=kill_all")]
    disturbances = draw_kill(100 + number) if number else certain
    outcome = run_through(cohort, tmp_path, disturbances, "run.snapshots=true", cache, launch=TWO)
    print(f"snapshot {number}: {'; '.join(map(str, disturbances))}: codes {outcome.codes}, twice {outcome.twice}")
    assert_undisturbed(tmp_path / "runs" / "x", reference)
    assert all(twice == 0 for twice in outcome.twice)
    assert not snapshot_place(RunFolder(tmp_path / "runs" / "x")).parent.exists()


@in_long_form
def test_time_that_is_up_is_a_stop_like_any_other(reference: Path, cohort: Path, cache: str, tmp_path: Path) -> None:
    first = start(cohort, tmp_path, "train.max_minutes=0.005", cache, launch=TWO)
    text, _ = first.communicate(timeout=120)
    assert first.returncode == 75
    assert "stopped by train.max_minutes=0.005" in text
    run_through(cohort, tmp_path, [], cache, launch=TWO)  # with another limit: none
    assert_undisturbed(tmp_path / "runs" / "x", reference)


def test_a_run_that_makes_no_progress_uses_up_its_starts(cohort: Path, cache: str, tmp_path: Path) -> None:
    faults = ["phase=step,step=1,do=term", *["phase=resume,do=term"] * 2, ""]
    codes, text = [], ""
    for fault in faults:
        process = start(cohort, tmp_path, "run.max_stops_without_progress=2", cache, launch=ONE, fault=fault)
        text, _ = process.communicate(timeout=120)
        codes.append(process.returncode)
    assert codes == [75, 75, 75, 2], text
    assert "was stopped 2 times in a row before it had made one step after step " in text


@pytest.mark.parametrize("number", [pytest.param(signal.SIGHUP, marks=in_long_form), signal.SIGKILL])
def test_no_rank_trains_on_where_its_launcher_dies_as_it_starts(
    number: signal.Signals, cohort: Path, cache: str, tmp_path: Path
) -> None:
    """SIGKILL reaches nobody but `vwmm train`: a rank that starts a moment later has another parent."""
    for rehearsal in range(NUM_REHEARSALS):
        folder = tmp_path / str(rehearsal)
        folder.mkdir()
        process = start(cohort, folder, "train.epochs=1000", cache, launch=TWO)
        end = time.monotonic() + 60
        while len(processes_in(folder)) < 4:  # vwmm train, the launcher, two ranks
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.5 * rehearsal / NUM_REHEARSALS)
        process.send_signal(number)
        process.communicate(timeout=120)
        wait_for_silence(folder)


@pytest.mark.parametrize("number", range(max(1, NUM_REHEARSALS // 2)))
def test_an_elastic_restart_ends_with_the_same_bits(
    number: int, reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    """The first kill comes in the middle of the run, the others at any moment."""
    draw = random.Random(f"restart {number}")
    options = ["--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    process = start_torchrun(cohort, tmp_path, options, cache)
    end = time.monotonic() + 60
    while (number == 0 and last_step(tmp_path / "runs" / "x" / "metrics.jsonl") < 6) or not children_of(process.pid):
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(draw.uniform(0, 14) if number else 0)
    ranks = children_of(process.pid) if process.poll() is None else []
    if ranks:
        os.kill(draw.choice(ranks), signal.SIGKILL)
    print(f"restart {number}: killed {len(ranks) > 0}, at step {last_step(tmp_path / 'runs' / 'x' / 'metrics.jsonl')}")
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 0, text
    assert ("resuming after epoch 1, step 4" in text) or number, text
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["x"], text
    assert RunFolder(tmp_path / "runs" / "x").state() == "done"
    assert_undisturbed(tmp_path / "runs" / "x", reference)


@in_long_form
def test_launchers_that_have_counted_different_restarts_go_on_together(
    reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    """As on two machines: each launcher counts the failures of its own process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", "--nproc_per_node=1", "--max-restarts=3", "--rdzv-backend=c10d", endpoint]
    launchers = [start_torchrun(cohort, tmp_path, options, cache) for _ in range(2)]
    for step in (3, 6):
        end = time.monotonic() + 120
        while last_step(tmp_path / "runs" / "x" / "metrics.jsonl") < step:
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(children_of(launchers[1].pid)[0], signal.SIGKILL)
        time.sleep(5)
    texts = [launcher.communicate(timeout=240)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], texts
    assert_undisturbed(tmp_path / "runs" / "x", reference)


@pytest.mark.parametrize("number", [signal.SIGHUP, pytest.param(signal.SIGXCPU, marks=in_long_form)])
def test_a_hangup_and_a_limit_of_processor_time_are_requests_to_stop(
    number: signal.Signals, cohort: Path, cache: str, tmp_path: Path
) -> None:
    process = start(cohort, tmp_path, "train.epochs=1000", cache, launch=ONE)
    end = time.monotonic() + 60
    while last_step(tmp_path / "runs" / "x" / "metrics.jsonl") < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 75, text
    assert RunFolder(tmp_path / "runs" / "x").state() == "preempted"
    wait_for_silence(tmp_path)


@in_long_form
def test_many_interrupts_are_not_called_a_lack_of_memory(cohort: Path, cache: str, tmp_path: Path) -> None:
    process = start(cohort, tmp_path, "train.epochs=1000", cache, launch=TWO)
    end = time.monotonic() + 60
    while last_step(tmp_path / "runs" / "x" / "metrics.jsonl") < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    text, _ = process.communicate(timeout=120)
    assert process.returncode in (1, 75), text  # at once, or with the checkpoint that the first of them asked for
    assert "out of memory" not in text
    assert process.returncode == 75 or "interrupted twice: stopped at once" in text
    wait_for_silence(tmp_path)


@in_long_form
def test_a_run_of_two_processes_is_verified_by_two(reference: Path, tmp_path: Path) -> None:
    done = run_command("verify", reference, "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bits" in done.stdout
    assert "note:" not in done.stdout  # as many processes, the same machine


@in_long_form
def test_a_step_that_was_passed_over_is_verified_like_any_other(cohort: Path, cache: str, tmp_path: Path) -> None:
    fault = "step=6,phase=backward,do=nan"
    first = start(cohort, tmp_path, "train.max_skipped_steps=1", cache, launch=ONE, fault=fault)
    text, _ = first.communicate(timeout=120)
    assert first.returncode == 0, text
    done = run_command("verify", tmp_path / "runs" / "x", "--from", "0", cwd=tmp_path, VWMM_FAULT=fault)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bits" in done.stdout
