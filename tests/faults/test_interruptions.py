"""Runs that are stopped or killed anywhere end as if nothing had happened: the same bits, each step once.

VWMM_REHEARSALS=20 makes it twenty kills and twenty signals instead of a few, and sixty exact steps instead of twelve.
"""

from pathlib import Path

import pytest

from tests.conftest import ROOT, run_command
from tests.faults.rehearsing import (
    NUM_REHEARSALS,
    ONE,
    SAVE_EVERY,
    TWO,
    Disturbance,
    assert_undisturbed,
    draw_kill,
    draw_signal,
    run_through,
    start,
)
from vwmm.config.run_folder import RunFolder
from vwmm.config.stopping import SIGNALS
from vwmm.engine.resuming import snapshot_place

EXACT_EPOCHS = 15 if NUM_REHEARSALS >= 20 else 3  # of four steps
SAVING = f"run.save_every_steps={SAVE_EVERY}"


def launch_file(number: int, folder: Path) -> str:
    """A launch file for that many processes."""
    if number == 1:
        return ONE
    file = folder / f"cpu_{number}.yaml"
    text = (ROOT / TWO).read_text().replace("num_processes: 2", f"num_processes: {number}")
    file.write_text(text)
    return str(file)


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


def test_exact_training_has_the_same_bits_on_any_number_of_processes_and_when_it_changes(
    reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    folders = {number: tmp_path / str(number) for number in (1, 2, 3, 4)}
    exact = ["train.exact=true", cache, f"train.epochs={EXACT_EPOCHS}"]
    for number, folder in folders.items():
        folder.mkdir()
        outcome = run_through(cohort, folder, [], *exact, launch=launch_file(number, tmp_path))
        assert outcome.codes == [0], outcome.text
        assert_undisturbed(folder / "runs" / "x", folders[1] / "runs" / "x")

    changing = tmp_path / "changing"
    changing.mkdir()
    stops = [Disturbance(f"rank=0,phase=step,step={step},do=term") for step in (3, 7)]
    files = [launch_file(number, tmp_path) for number in (2, 1, 3)]
    outcome = run_through(cohort, changing, stops, *exact, launch=files)
    assert outcome.codes == [75, 75, 0], outcome.text
    assert_undisturbed(changing / "runs" / "x", folders[1] / "runs" / "x")


def test_more_than_two_processes_go_on_with_their_bits_too(
    reference: Path, cohort: Path, cache: str, tmp_path: Path
) -> None:
    """Where an element lies in its bucket decides in which order three values are added."""
    runs = []
    faults = [Disturbance(f"rank=2,phase=forward,step={step},do=usr1") for step in (1, 3, 6, 9)]
    for name, stops in (("whole", []), ("stopped", faults)):
        (tmp_path / name).mkdir()
        run_through(cohort, tmp_path / name, stops, cache, launch=launch_file(3, tmp_path))
        runs.append(tmp_path / name / "runs" / "x")
    assert_undisturbed(runs[1], runs[0])


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


def test_signals_are_those_that_clusters_send() -> None:
    assert {number.name for number in SIGNALS} == {"SIGTERM", "SIGUSR1", "SIGINT"}


def test_a_run_of_two_processes_is_verified_by_two(reference: Path, tmp_path: Path) -> None:
    done = run_command("verify", reference, "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bits" in done.stdout
    assert "note:" not in done.stdout  # as many processes, the same machine


def test_a_step_that_was_passed_over_is_verified_like_any_other(cohort: Path, cache: str, tmp_path: Path) -> None:
    fault = "step=6,phase=backward,do=nan"
    first = start(cohort, tmp_path, "train.max_skipped_steps=1", cache, launch=ONE, fault=fault)
    text, _ = first.communicate(timeout=120)
    assert first.returncode == 0, text
    done = run_command("verify", tmp_path / "runs" / "x", "--from", "0", cwd=tmp_path, VWMM_FAULT=fault)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bits" in done.stdout
