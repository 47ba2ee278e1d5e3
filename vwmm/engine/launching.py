"""Starts `accelerate launch` and learns what really came of it.

`accelerate launch` turns every failure of a script into exit code 1. The script therefore leaves its own code in a file
that this process names in the environment.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from vwmm.config.errors import EXIT_FAILED, UserError, is_speaker
from vwmm.config.loading import find_shipped

OUTCOME_VARIABLE = "VWMM_OUTCOME_FILE"


def launch(script: Path, arguments: Sequence[str], launch_file: str | None) -> int:
    """Runs a script under `accelerate launch` and returns the script's own exit code."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *_launch_options(launch_file),
        str(script),
        *arguments,
    ]
    with tempfile.TemporaryDirectory(prefix="vwmm-") as folder:
        outcome = Path(folder) / "exit_code"
        environment = {**os.environ, **_cpu_variable(launch_file), OUTCOME_VARIABLE: str(outcome)}
        # A group of its own, so that a signal reaches the launcher and everything that it started.
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        _wait_through_signals(process)
        try:
            return int(outcome.read_text())
        except (OSError, ValueError):
            return process.returncode if process.returncode > 0 else EXIT_FAILED


def report_outcome(code: int) -> int:
    """Called by the script: leaves its exit code for `launch`; returns the code to exit with.

    To the launcher a wrong input is no crash: it would add a traceback of its own to our message.
    """
    file = os.environ.get(OUTCOME_VARIABLE)
    if file is None:
        return code
    if is_speaker():
        Path(file).write_text(str(code))
    return EXIT_FAILED if code == EXIT_FAILED else 0


def _launch_options(launch_file: str | None) -> list[str]:
    if launch_file is not None:
        found = find_shipped(launch_file)
        if found is None:
            raise UserError(f"--launch {launch_file}: file not found (looked in {Path.cwd()} and among vwmm's own)")
        return ["--config_file", str(found)]
    import torch

    num_gpus = torch.cuda.device_count()
    name = "cpu" if num_gpus == 0 else "one_gpu" if num_gpus == 1 else "multi_gpu"
    file = find_shipped(f"launch/{name}.yaml")
    assert file is not None, "launch files are part of vwmm"
    return ["--config_file", str(file), *(["--num_processes", str(num_gpus)] if num_gpus > 1 else [])]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _cpu_variable(launch_file: str | None) -> dict[str, str]:
    """Accelerate forgets a launch file's `use_cpu` where it starts several processes; here it is said once more."""
    found = find_shipped(launch_file) if launch_file else None
    try:
        content = yaml.safe_load(found.read_text(encoding="utf-8")) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--launch {launch_file}: cannot be read as YAML: {error}") from error
    uses_cpu = isinstance(content, dict) and content.get("use_cpu") is True
    if found and not uses_cpu and "ACCELERATE_USE_CPU" not in os.environ and not _has_gpu():
        raise UserError(f"--launch {launch_file}: asks for a GPU, but none is visible; launch/cpu.yaml needs none")
    # train.cpu_threads decides; without the second one Accelerate warns that it chose a number itself.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": threads} if uses_cpu else {}


def _wait_through_signals(process: subprocess.Popen[bytes]) -> None:
    """Waits; SIGTERM and Ctrl-C stop the launcher and every process that it started."""

    def pass_on(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
