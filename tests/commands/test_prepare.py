"""`vwmm prepare`: alone, in several processes at once, in shares; and what is removed again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT, TINY, run_command
from vwmm.prepare import shard_of
from vwmm.system.errors import UserError

NUM_IMAGES = re.compile(r"cache: (\d+) of (\d+) images found, (\d+) transformed now")


def counts(stderr: str) -> tuple[int, int, int]:
    """Found, all, transformed, as the run says."""
    match = NUM_IMAGES.search(stderr)
    assert match, stderr
    return int(match[1]), int(match[2]), int(match[3])


def entries(cache: Path) -> set[str]:
    return {path.stem for path in cache.glob("??/*.npy")}


@pytest.fixture
def tiny(cohort: Path) -> list[str]:
    return [f"data.csv={cohort}", *TINY]


def test_what_is_prepared_is_found_by_training(tiny: list[str], tmp_path: Path) -> None:
    first = run_command("prepare", *tiny, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    found, total, built = counts(first.stderr)
    assert (found, built) == (0, total)
    assert re.search(r"0 of \d+ images are there; disk: .* free; memory: .* available", first.stderr)

    trained = run_command("train", "--launch", "launch/cpu.yaml", *tiny, "train.epochs=1", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert counts(trained.stderr) == (total, total, 0)


def test_two_processes_share_the_work_and_each_image_is_built_once(tiny: list[str], tmp_path: Path) -> None:
    done = run_command(
        "-m", "vwmm.prepare", *tiny,
        launcher=["--config_file", str(ROOT / "launch" / "cpu_two_processes.yaml")], cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, total, built = counts(done.stderr)
    assert (found, built) == (0, total)
    assert len(NUM_IMAGES.findall(done.stderr)) == 1
    assert len(entries(tmp_path / "cache")) == total
    assert counts(run_command("prepare", *tiny, cwd=tmp_path).stderr) == (total, total, 0)


def test_shares_of_a_slurm_array_make_up_the_whole(tiny: list[str], tmp_path: Path) -> None:
    built = []
    for task in (4, 6):
        array = {"ID": task, "MIN": 4, "MAX": 6, "COUNT": 2}
        variables: dict[str, Any] = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in array.items()}
        done = run_command("prepare", *tiny, cwd=tmp_path, **variables)
        assert done.returncode == 0, done.stderr
        built.append(counts(done.stderr)[2])
    found, total, more = counts(run_command("prepare", *tiny, cwd=tmp_path).stderr)
    assert (found, more, sum(built)) == (total, 0, total)
    assert abs(built[0] - built[1]) <= 1


@pytest.mark.parametrize(
    ("ids", "shard"),
    [((0, 0, 3, 4), (0, 4)), ((9, 1, 9, 3), (2, 3)), ((5, 5, 5, 1), (0, 1)), ((7, 1, 31, 6), (1, 6))],
)
def test_a_task_of_an_array_knows_its_share(ids: tuple[int, ...], shard: tuple[int, int]) -> None:
    names = ("ID", "MIN", "MAX", "COUNT")
    environment = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in zip(names, ids, strict=True)}
    assert shard_of(None, environment) == shard
    assert shard_of("2/5", environment) == (1, 5)


def test_uneven_arrays_and_wrong_shares_are_refused() -> None:
    array = {"ID": "5", "MIN": "1", "MAX": "9", "COUNT": "4"}
    with pytest.raises(UserError, match="not evenly spaced; give --shard"):
        shard_of(None, {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()})
    with pytest.raises(UserError, match=r"not all of .* are numbers; give --shard"):
        shard_of(None, {"SLURM_ARRAY_TASK_ID": "3"})
    for wrong in ("0/3", "4/3", "1", "a/b", "1/3/4", "-1/3"):
        with pytest.raises(UserError, match="expected I/N"):
            shard_of(wrong, {})


def test_prune_removes_what_no_run_needs(tiny: list[str], tmp_path: Path) -> None:
    trained = run_command("train", "--launch", "launch/cpu.yaml", *tiny, "train.epochs=1", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    cache, other = tmp_path / "cache", "modalities.vw_mri.intensity=z_score"
    needed = entries(cache)
    run_command("prepare", *tiny, other, cwd=tmp_path)
    others = entries(cache) - needed
    assert others

    kept = run_command("prepare", "--prune", *tiny, other, cwd=tmp_path)
    assert "0 files removed" in kept.stderr
    assert entries(cache) == needed | others

    pruned = run_command("prepare", "--prune", cwd=tmp_path)
    assert pruned.returncode == 0, pruned.stderr
    assert f"{len(others)} files removed" in pruned.stderr
    assert entries(cache) == needed

    config = next((tmp_path / "runs").iterdir()) / "config.yaml"
    good = config.read_text()
    config.write_text("nonsense: 1\n")
    refused = run_command("prepare", "--prune", cwd=tmp_path)
    assert refused.returncode == 2
    assert "uses this cache, and what it needs cannot be read" in refused.stderr
    assert entries(cache) == needed
    config.write_text(good)

    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    unseen = run_command("prepare", "--prune", cwd=tmp_path)
    assert unseen.returncode == 2
    assert "cannot be seen from here" in unseen.stderr
    (tmp_path / "elsewhere").rename(tmp_path / "runs")

    shutil.rmtree(next((tmp_path / "runs").iterdir()))
    nothing_known = run_command("prepare", "--prune", cwd=tmp_path)
    assert nothing_known.returncode == 2
    assert "everything would be removed" in nothing_known.stderr
    assert entries(cache) == needed
    pruned = run_command("prepare", "--prune", *tiny, other, cwd=tmp_path)
    assert "files removed" in pruned.stderr
    assert entries(cache) < needed  # the volumes of the removed run are gone, the slices are still needed


def test_a_case_is_shown_before_and_after(tiny: list[str], tmp_path: Path) -> None:
    done = run_command("prepare", "--show", "case_0002", "--out", "sheet.png", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "sheet.png"
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 1000

    missing = run_command("prepare", "--show", "kase_0002", *tiny, cwd=tmp_path)
    assert missing.returncode == 2
    assert "--show kase_0002: there is no such case in cohort.csv; did you mean case_0002?" in missing.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--show", "a", "--prune"], "only one of them at a time"),
        (["--out", "a.png"], "expected --show CASE beside it"),
        (["--shard", "3"], "--shard 3: expected I/N"),
        (["--show", "case_0002", "--out", "nowhere/a.png"], "expected the name of a .png file in a folder that exists"),
        (["--show", "case_0002", "--out", "cohort.csv"], "expected the name of a .png file"),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], message: str, tiny: list[str], tmp_path: Path) -> None:
    done = run_command("prepare", *words, *tiny, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_killed_preparation_is_gone_on_with(cohort: Path, tmp_path: Path) -> None:
    """The images are larger here, so that there is a middle to be killed in."""
    command = [sys.executable, "-m", "vwmm", "prepare", f"data.csv={cohort}", "modalities.vw_mri.size=[160,160,128]"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(entries(tmp_path / "cache")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = len(entries(tmp_path / "cache"))

    done = run_command(*command[3:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, total, built = counts(done.stderr)
    assert 3 <= left < total
    assert (found, built) == (left, total - left)
    assert not list((tmp_path / "cache").glob("??/.*"))


def test_stopped_preparation_finishes_begun_images_and_can_be_resumed(cohort: Path, tmp_path: Path) -> None:
    words = ["prepare", f"data.csv={cohort}", "cache.workers=2"]
    stopped = run_command(*words, cwd=tmp_path, VWMM_FAULT="phase=cache,do=usr1")
    assert stopped.returncode == 75, stopped.stderr
    assert "stopped by SIGUSR1; the same command resumes from here" in stopped.stderr
    left = len(entries(tmp_path / "cache"))
    done = run_command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, total, built = counts(done.stderr)
    assert 1 <= left < total
    assert (found, built) == (left, total - left)
