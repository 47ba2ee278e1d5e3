"""A process that has imported what a training needs can still fork: it has no thread, and a fork imports little."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import TINY, Trained
from tests.faults.rehearsing import environment

PROGRAM = """
import os, sys
from vwmm.engine.runs.preload import import_training
import_training()
import torch
assert len(os.listdir("/proc/self/task")) == 1
assert not torch.cuda.is_initialized()
before = {name.split(".")[0] for name in sys.modules}
from vwmm.train import run
run(sys.argv[1:])
print(*sorted({name.split(".")[0] for name in sys.modules} - before))
"""
LARGE = {"torch", "accelerate", "monai", "pandas", "sklearn", "scipy", "numba", "matplotlib", "nibabel", "pydicom"}


def test_training_after_it_imports_no_large_library(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    words = [f"data.csv={cohort}", *TINY, "train.epochs=1", f"run.dir={tmp_path}", f"cache.dir={trained.cwd}/cache"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=environment(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(LARGE & set(done.stdout.splitlines()[-1].split())) == []
