"""slurm/cross_validate.sh, slurm/compare.sh and slurm/prepare.sh on a real cluster of two nodes."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TINY, run_command
from tests.faults.rehearsing import IS_LONG, in_long_form
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import disturb, log_of, reach, steps_seen, submit

FOLDS = 5 if IS_LONG else 2
RECIPE = [*TINY, "train.epochs=3", "train.log_every=1", f"split.folds={FOLDS}", "run.name=cv"]
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED")
POOLED = ("predictions.csv", "cross_validation.json")


@pytest.fixture(scope="module")
def local(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folds without Slurm, one after another."""
    cwd = tmp_path_factory.mktemp("local")
    done = run_command(
        "cross_validate", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *RECIPE, f"cache.dir={cwd}/cache",
        cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return cwd


def test_folds_train_in_tasks_of_their_own_and_are_pooled_like_those_of_one_machine(
    cluster: Cluster, cohort: Path, local: Path, tmp_path: Path
) -> None:
    """Two tasks are stopped. The last has the array's own number as its job's: put back alone all the same."""
    folder, disturbed = tmp_path / "runs" / "cv", {FOLDS - 2: "requeue", FOLDS - 1: "USR1"}
    job = submit(
        cluster, "cross_validate", tmp_path, f"data.csv={cohort}", *RECIPE, f"cache.dir={local}/cache",
        options=(f"--array=0-{FOLDS - 1}",),
    )  # fmt: skip
    tasks = {fold: f"{job}_{fold}" for fold in range(FOLDS)}
    for fold, what in disturbed.items():
        with steps_seen(folder / f"fold-{fold}") as seen:
            reach(cluster, tasks[fold], seen, 2)
            disturb(cluster, tasks[fold], what)
    ended = {fold: cluster.wait(task, *ENDED, timeout_s=400) for fold, task in tasks.items()}
    texts = {fold: log_of(tmp_path, task) for fold, task in tasks.items()}
    assert {row["JobState"] for row in ended.values()} == {"COMPLETED"}, texts
    assert {fold for fold, row in ended.items() if row["Restarts"] != "0"} == set(disturbed), texts
    assert "resuming after" in texts[FOLDS - 1]
    for name in POOLED:
        assert (folder / name).read_bytes() == (local / "runs" / "cv" / name).read_bytes(), name
    assert len(pd.read_csv(folder / "predictions.csv")) == len(pd.read_csv(cohort))
    assert sum("folds    " in text for text in texts.values()) >= 1, "the last one pools"
    assert not list(tmp_path.glob(".vwmm-job-*"))


def test_shares_of_the_cohort_are_prepared_side_by_side(cluster: Cluster, cohort: Path, tmp_path: Path) -> None:
    job = submit(
        cluster, "prepare", tmp_path, f"data.csv={cohort}", *TINY, options=("--array=1-3", "--cpus-per-task=1")
    )
    for task in (1, 2, 3):
        ended = cluster.wait(f"{job}_{task}", *ENDED, timeout_s=120)
        assert ended["JobState"] == "COMPLETED", log_of(tmp_path, f"{job}_{task}")
        assert f"share {task} of 3 of the cohort's images" in log_of(tmp_path, f"{job}_{task}")
    again = run_command("prepare", f"data.csv={cohort}", *TINY, cwd=tmp_path)
    assert "0 transformed now" in again.stderr, again.stderr


def test_a_number_without_a_fold_is_refused(cluster: Cluster, cohort: Path, tmp_path: Path) -> None:
    job = submit(cluster, "cross_validate", tmp_path, f"data.csv={cohort}", *RECIPE, options=("--array=7",))
    ended = cluster.wait(f"{job}_7", *ENDED, timeout_s=60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert f"fold counts from 0: with folds={FOLDS} it is 0 to {FOLDS - 1}" in log_of(tmp_path, f"{job}_7")
    assert [path.name for path in tmp_path.iterdir()] == [f"vwmm-cv-{job}_7.log"]


@in_long_form
def test_workers_of_a_sweep_share_its_trials(cluster: Cluster, cohort: Path, local: Path, tmp_path: Path) -> None:
    """One of the two is stopped; each trial is there once all the same."""
    words = [f"data.csv={cohort}", *TINY, "train.epochs=3", "train.log_every=1", "run.name=search", "--trials", "3"]
    job = submit(
        cluster, "sweep", tmp_path, *words, f"cache.dir={local}/cache", options=("--array=0-1",)
    )  # fmt: skip
    trials = [tmp_path / "runs" / "search" / f"trial-{number:04d}" for number in range(3)]
    with steps_seen(trials[0]) as seen:
        reach(cluster, f"{job}_0", seen, 2)
        disturb(cluster, f"{job}_0", "USR1")
    for task in (0, 1):
        ended = cluster.wait(f"{job}_{task}", *ENDED, timeout_s=400)
        assert ended["JobState"] == "COMPLETED", log_of(tmp_path, f"{job}_{task}")
    table = pd.read_csv(tmp_path / "runs" / "search" / "trials.csv")
    assert list(table.number) == [0, 1, 2]
    assert set(table.state) <= {"complete", "pruned"}
    assert [trial.is_dir() for trial in trials] == [True, True, True]


@in_long_form
def test_a_comparison_of_tasks_is_that_of_one_machine(
    cluster: Cluster, cohort: Path, local: Path, tmp_path: Path
) -> None:
    """One task is stopped and put back; the last one compares."""
    words = [f"data.csv={cohort}", *TINY, "modalities.vw_mri=null", "train.log_every=1", "split.folds=2",
             "run.name=fusion", f"cache.dir={local}/cache"]  # fmt: skip
    alone = run_command("compare", "--launch", "launch/cpu.yaml", *words, cwd=local)
    assert alone.returncode == 0, alone.stderr

    job = submit(cluster, "compare", tmp_path, *words, options=("--array=0-1",))

    with steps_seen(tmp_path / "runs" / "fusion" / "all" / "fold-0") as seen:
        reach(cluster, f"{job}_0", seen, 2)
        disturb(cluster, f"{job}_0", "USR1")
    for task in (0, 1):
        ended = cluster.wait(f"{job}_{task}", *ENDED, timeout_s=400)
        assert ended["JobState"] == "COMPLETED", log_of(tmp_path, f"{job}_{task}")
    for name in ("comparison.json", "predictions.csv", "folds.csv"):
        expected = (local / "runs" / "fusion" / name).read_bytes()
        assert (tmp_path / "runs" / "fusion" / name).read_bytes() == expected, name
