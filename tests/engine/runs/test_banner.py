"""The summary at the start of a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.engine.training.one_step import config_of
from vwmm.config.run_folder import RunFolder
from vwmm.config.split_record import PartCount, SplitRecord
from vwmm.engine.runs.banner import describe_run


class Part:
    """Cases of which some lack an image."""

    modalities = ("vw_mri", "mri", "ct")

    def __init__(self, present: list[list[int]]) -> None:
        self._present = np.array(present, dtype=bool)

    def __len__(self) -> int:
        return len(self._present)

    def present(self) -> np.ndarray:
        return self._present


def test_banner_counts_missing_images_of_both_parts_and_names_what_really_runs() -> None:
    facts = {"backend": "gloo", "devices": ["cpu", "cpu"]}
    runtime: Any = SimpleNamespace(
        describe=lambda: facts,
        num_processes=2,
        strategy="data parallel",
        mixed_precision="bf16",
        device=torch.device("cpu"),
    )
    datasets: Any = SimpleNamespace(
        train=Part([[1, 1, 0], [1, 0, 0]]), val=Part([[1, 0, 1]]), classes=("stable", "vulnerable")
    )
    split = SplitRecord("draw", "", "", "", parts={"train": PartCount(2, 2), "val": PartCount(1, 1)})

    lines = describe_run(
        runtime, config_of(), datasets, split, torch.nn.Linear(999, 1000), RunFolder(Path("runs/x"))
    ).splitlines()

    assert lines[:2] == ["run runs/x", "  processes  2 processes on cpu, gloo; data parallel; precision bf16"]
    assert lines[2].endswith("classes stable, vulnerable")
    assert lines[4] == "  images     vw_mri 32x32x32, mri 32x32, ct 32x32; missing: mri 2, ct 2"
    assert lines[5] == "  model      densenet_thin per modality, 1.00 M parameters"
