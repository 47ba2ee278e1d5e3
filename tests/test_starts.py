"""What each process of a start imports: no library that it does not need yet."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY, Trained

# Together seconds of CPU time, for pages, figures, compilers, trackers and other commands. Of packages that are looked
# for, and hidden, a module within.
NOT_TO_BEGIN_WITH = {
    "pandas.core", "sklearn", "scipy.stats", "scipy.optimize", "scipy.special", "matplotlib.rcsetup", "jinja2",
    "sympy", "torch._dynamo.utils", "torch.distributed.tensor", "monai.data", "monai.transforms",
    "monai.networks.nets.unet", "wandb.sdk", "mlflow", "tensorboard", "deepspeed", "transformers", "optuna",
    "SimpleITK",
}  # fmt: skip
NOT_IN_A_PARENT = NOT_TO_BEGIN_WITH | {"torch", "numba", "accelerate", "scipy.ndimage", "monai"}
NOT_FOR_HELP = NOT_IN_A_PARENT | {"numpy", "pydantic", "nibabel", "pydicom"}
FIRST_STEP = "step=1,phase=step,do=kill"


def imported_by(*words: str | Path, cwd: Path, code: int, **variables: str) -> set[str]:
    """The modules that one process imports, and their packages; not those of processes that it starts."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "VWMM_"))}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300,
        env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    # What `importlib.import_module` is called for is not among them, but what that imports is, and here the packages.
    names = re.findall(r"^import time:[^|]*\|[^|]*\|\s*(\S+)$", done.stderr, re.MULTILINE)
    found = {name[: end.start()] for name in names for end in re.finditer(r"\.|$", name)}
    assert "vwmm.system" in found
    return found


@pytest.fixture
def words(trained: Trained, cohort: Path, tmp_path: Path) -> list[str]:
    """Of a training of the tiny recipe, with the images in the cache."""
    return [
        f"data.csv={cohort}",
        *TINY,
        "run.name=started",
        f"run.dir={tmp_path}",
        f"cache.dir={trained.cwd / 'cache'}",
    ]


def test_help_imports_no_library(tmp_path: Path) -> None:
    assert not imported_by("-m", "vwmm", "--help", cwd=tmp_path, code=0) & NOT_FOR_HELP


def test_what_checks_and_launches_does_not_import_what_trains(words: list[str], tmp_path: Path) -> None:
    found = imported_by("-m", "vwmm", "train", *words, cwd=tmp_path, code=1, VWMM_FAULT=FIRST_STEP)
    assert "vwmm.engine.launch.launcher" in found
    assert sorted(found & NOT_IN_A_PARENT) == []


@pytest.mark.parametrize("is_checked", [False, True])
def test_trainer_imports_only_what_its_first_step_needs(words: list[str], tmp_path: Path, is_checked: bool) -> None:
    variables = {"VWMM_FILES_CHECKED": "1"} if is_checked else {}
    found = imported_by(ROOT / "vwmm" / "train.py", *words, cwd=tmp_path, code=-9, VWMM_FAULT=FIRST_STEP, **variables)
    assert "torch.optim" in found
    assert "monai.networks.layers.factories" in found
    assert sorted(found & NOT_TO_BEGIN_WITH) == []
    assert ("nibabel" in found) is not is_checked, "whether each file's header was looked into"


def test_predict_imports_only_what_it_needs(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    words = ["-m", "vwmm", "predict", str(trained.folder), str(cohort), "--out", str(tmp_path / "predictions.csv")]
    found = imported_by(*words, cwd=trained.cwd, code=0)
    assert "monai.networks.layers.factories" in found
    assert sorted(found & NOT_TO_BEGIN_WITH) == []


@pytest.mark.parametrize(("launch_file", "num_processes"), [("cpu.yaml", 1), ("cpu_two_processes.yaml", 2)])
def test_no_process_of_a_run_reads_the_table_twice(
    words: list[str], cohort: Path, tmp_path: Path, launch_file: str, num_processes: int
) -> None:
    opened, hook = tmp_path / "opened", tmp_path / "hook"
    opened.mkdir()
    hook.mkdir()
    # Python imports sitecustomize first, in each process.
    (hook / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"def note(event, told, table={str(cohort)!r}, folder={str(opened)!r}):\n"
        "    if event == 'open' and isinstance(told[0], str) and os.path.abspath(told[0]) == table:\n"
        "        number = os.open(f'{folder}/{os.getpid()}', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "        os.write(number, b'.')\n"
        "        os.close(number)\n"
        "sys.addaudithook(note)\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "VWMM_"))}
    launched = ["train", "--launch", str(ROOT / "launch" / launch_file)]

    done = subprocess.run(
        [sys.executable, "-m", "vwmm", *launched, *words, "train.epochs=1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=clean | {"PYTHONPATH": os.pathsep.join([str(hook), str(ROOT)]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    # The parent, which checks and launches, and each rank.
    assert [len(file.read_bytes()) for file in opened.iterdir()] == [1] * (1 + num_processes)
