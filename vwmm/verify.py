"""`vwmm verify`: recomputes steps of a run and compares the bits.

    vwmm verify runs/demo
    vwmm verify runs/demo --from 0 --steps 20

Compares loss and gradient norm of each step with metrics.jsonl, and the weights with their hash after each epoch and
with the checkpoints on the way. Writes nothing. Exit code 0: all bits are the same; 1: they differ; 2: they are
the same, but a checkpoint is damaged. Starts as many processes as the run had, with the same strategy; with
`train.exact` one is enough.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.launch.launcher import launch, listen
from vwmm.engine.launch.outcome import report_outcome
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, is_main_process, leave, run_guarded

OWN_OPTIONS = ("--from", "--steps", "--launch")
OPTIONS = {
    "RUN": "a run folder, such as runs/demo",
    "--from STEP": "the step after which it begins: that of a checkpoint of the run, or 0; without it: the newest that "
    "has steps after it",
    "--steps K": "how many steps; without it: 10",
    "--launch FILE": "the launch file of the run, if it was not one of vwmm's own; without it: the one of its strategy",
}
# The strategy's name in environment.json (its key `engine`), and the launch file that selects it.
LAUNCH_FILES = {
    "data parallel": "launch/multi_gpu.yaml",
    "DeepSpeed ZeRO-1": "launch/deepspeed_zero1.yaml",
    "DeepSpeed ZeRO-2": "launch/deepspeed_zero2.yaml",
    "DeepSpeed ZeRO-3": "launch/deepspeed_zero3.yaml",
    "FSDP2": "launch/fsdp2.yaml",
}


def main(arguments: list[str]) -> int:
    """`vwmm verify RUN`: in this process, or in as many as the run had."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    run, config, _, _ = _read(arguments)
    environment = _environment(run)
    num_processes = 1 if config.train.exact else environment["num_processes"]
    if num_processes == 1:
        return compute(arguments)
    launch_file = parse_command_line(arguments, options=OWN_OPTIONS, words=["RUN"]).options.get("--launch")
    strategy = str(environment.get("engine", "data parallel"))
    if launch_file is None and strategy not in LAUNCH_FILES:
        raise UserError(f"{run.path} was trained with {strategy}: give its launch file: --launch FILE")
    if str(environment.get("devices", ["cpu"])[0]) == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    return launch(
        Path(__file__).resolve(), arguments, launch_file or LAUNCH_FILES[strategy], num_processes=num_processes
    )


def execute(arguments: list[str]) -> int:
    """What each process that was launched does; returns its exit code."""
    listen()  # nothing is written, so a signal ends it at once
    return compute(arguments)


def compute(arguments: list[str]) -> int:
    """Computes and compares; returns the exit code."""
    run, config, first, count = _read(arguments)
    from vwmm.data.checks.preflight import check_config
    from vwmm.engine.console import start_log
    from vwmm.engine.distributed.precision import uses_volumes
    from vwmm.engine.distributed.runtime import start_runtime

    cohort, assigned = check_config(config, open_files=False)
    start_log(is_main_process=is_main_process())
    runtime = start_runtime(config.train, has_volumes=uses_volumes(config.modalities))

    from vwmm.engine.distributed.failures import failing_once
    from vwmm.engine.runs.verify import verify_run

    with failing_once(runtime, report_outcome):
        report = verify_run(runtime, config, run, cohort, assigned, first=first, count=count)
        if runtime.is_main_process:
            print("\n".join(report.lines))
        runtime.wait()
    return report.exit_code


def _read(arguments: list[str]) -> tuple[RunFolder, Config, int | None, int]:
    line = parse_command_line(arguments, options=OWN_OPTIONS, words=["RUN"])
    if line.files or line.overrides:
        raise UserError("a run is verified with its own configuration: only --from, --steps and --launch can be added")
    run = RunFolder(Path(line.words[0]))
    if not run.config.is_file():
        raise UserError(f"{run.path}: this is no run folder (it has no config.yaml)")
    first = _number("--from", line.options.get("--from"), least=0)
    count = _number("--steps", line.options.get("--steps", "10"), least=1)
    assert count is not None
    return run, load_config([run.config]), first, count


def _number(option: str, text: str | None, *, least: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise UserError(f"argument {option}: expected a whole number of at least {least}, found {text}")
    return int(text)


def _environment(run: RunFolder) -> dict[str, Any]:
    try:
        environment = dict(json.loads(run.environment.read_text(encoding="utf-8")))
        return environment | {"num_processes": int(environment["num_processes"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{run.environment}: cannot be read: {error}") from error


if __name__ == "__main__":
    leave(report_outcome(run_guarded(execute, sys.argv[1:])))
