"""Code planted in every kind of file that vwmm reads: none of it is run."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from tests.conftest import TINY, Trained, run_command


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.makedirs, (str(self.path), 0o777, True)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Canary(path)))
    assert path.exists()  # it would be seen
    path.rmdir()
    return path


def plant(file: Path, canary: Path) -> None:
    file.write_bytes(pickle.dumps(Canary(canary)))


def yaml_canary(canary: Path) -> str:
    return f"!!python/object/apply:os.makedirs ['{canary}']\n"


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """An unfinished run."""
    shutil.copytree(trained.folder, tmp_path / "runs" / "tiny")
    (tmp_path / "runs" / "tiny" / "status.json").write_text('{"state": "failed", "reason": "x"}')
    return tmp_path / "runs" / "tiny"


def go_on(cohort: Path, cwd: Path, *arguments: str) -> tuple[int, str]:
    done = run_command(
        "train", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *TINY, "run.name=tiny", *arguments, cwd=cwd
    )
    return done.returncode, done.stderr


def test_in_yaml(canary: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"train: {yaml_canary(canary)}")
    done = run_command("train", "--config", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert not canary.exists()
    done = run_command("train", f"train.epochs={yaml_canary(canary).strip()}", cwd=tmp_path)
    assert done.returncode == 2
    assert not canary.exists()


def test_in_a_launch_file(canary: Path, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "launch.yaml").write_text(yaml_canary(canary))
    done = run_command("train", "--launch", "launch.yaml", f"data.csv={cohort}", *TINY, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert not canary.exists()


def test_in_a_search_space_and_in_the_journal_of_a_sweep(canary: Path, cohort: Path, tmp_path: Path) -> None:
    arguments = ["sweep", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *TINY, "run.name=s"]
    (tmp_path / "space.yaml").write_text(f"parameters: {yaml_canary(canary)}")
    assert run_command(*arguments, "--space", "space.yaml", cwd=tmp_path).returncode == 2
    journal = tmp_path / "runs" / "s" / "sweep.journal"
    journal.parent.mkdir(parents=True)
    plant(journal, canary)
    journal.write_bytes(journal.read_bytes() + b"\n")
    done = run_command(*arguments, cwd=tmp_path)
    assert (done.returncode, "sweep.journal line 1: is damaged" in done.stderr) == (2, True), done.stderr
    assert not canary.exists()


def test_in_a_table_and_in_an_image(canary: Path, tmp_path: Path) -> None:
    plant(tmp_path / "a.npy", canary)
    plant(tmp_path / "b.nii.gz", canary)
    (tmp_path / "cohort.csv").write_text(f"case,label,mri,ct\nc1,{yaml_canary(canary).strip()!r},a.npy,b.nii.gz\n")
    assert run_command("check", f"data.csv={tmp_path}/cohort.csv", cwd=tmp_path).returncode == 2
    plant(tmp_path / "cohort.csv", canary)
    assert run_command("check", f"data.csv={tmp_path}/cohort.csv", cwd=tmp_path).returncode == 2
    assert not canary.exists()


@pytest.mark.parametrize("file", ["config.yaml", "split.csv"])
def test_in_the_files_that_a_run_that_goes_on_is_compared_with(
    file: str, canary: Path, run: Path, cohort: Path, tmp_path: Path
) -> None:
    if file == "config.yaml":
        (run / file).write_text(yaml_canary(canary))
    else:
        plant(run / file, canary)
    code, text = go_on(cohort, tmp_path)
    assert code == (2 if file == "config.yaml" else 0), text
    assert file == "config.yaml" or "split.csv is not what this run wrote, but its cohort is the same" in text
    assert not canary.exists()


def test_in_checkpoints_and_in_all_that_a_run_that_goes_on_reads(
    canary: Path, run: Path, cohort: Path, tmp_path: Path
) -> None:
    for file in ["metrics.jsonl", "status.json", "environment.json", "tracker.json", ".starts.json", ".identity"]:
        plant(run / file, canary)
    for checkpoint in (run / "checkpoints").iterdir():
        for part in list(checkpoint.iterdir()):
            plant(part, canary)
    code, text = go_on(cohort, tmp_path)
    assert code == 0, text  # it begins again
    assert text.count("set aside as damaged-") == 3
    assert not canary.exists()


def test_in_a_checkpoint_that_predicts_or_verifies(canary: Path, run: Path, cohort: Path, tmp_path: Path) -> None:
    plant(run / "checkpoints" / "best" / "model.safetensors", canary)
    plant(run / "environment.json", canary)
    commands: list[list[str | Path]] = [["predict", run, cohort], ["verify", run]]
    for command in commands:
        done = run_command(*command, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
    assert not canary.exists()


def test_in_the_cache(canary: Path, cohort: Path, tmp_path: Path) -> None:
    assert go_on(cohort, tmp_path, "train.epochs=1")[0] == 0
    planted = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert len(planted) > 20
    for file in planted:
        plant(file, canary)
    code, text = go_on(cohort, tmp_path, "train.epochs=1")
    assert code == 0, text
    assert not canary.exists()
