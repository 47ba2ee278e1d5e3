"""Starts a training under a launch file, on two CPU processes."""

from pathlib import Path
from typing import Any

from tests.conftest import run_command

ENGINES = {
    "deepspeed_zero1": "DeepSpeed ZeRO-1",
    "deepspeed_zero2": "DeepSpeed ZeRO-2",
    "deepspeed_zero3": "DeepSpeed ZeRO-3",
    "fsdp2": "FSDP2",
}


def train(cohort: Path, cwd: Path, launch: str, *arguments: str, fault: str = "") -> tuple[int, str]:
    variables: dict[str, Any] = {"VWMM_FAULT": fault} if fault else {}
    done = run_command(
        "train", "--launch", f"launch/{launch}.yaml", f"data.csv={cohort}", *arguments, "run.name=x", cwd=cwd,
        ACCELERATE_USE_CPU="true", **variables,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
