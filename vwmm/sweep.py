"""`vwmm sweep`: searches hyper-parameters with any number of workers.

    vwmm sweep --config my.yaml data.csv=cohort.csv --space space.yaml --trials 40
    vwmm sweep --launch launch/multi_gpu.yaml --config my.yaml --space space.yaml --trials 40 --prune none
    sbatch --array=0-7 slurm/sweep.sh --config my.yaml --space space.yaml --trials 40

Each start is one worker. Start as many as you like, on any machines that share the disk: together they train --trials
trials, each once. A new worker first resumes the trial of a stopped or killed one. The trials are run folders
runs/NAME/trial-0000, ...; runs/NAME has trials.csv, report.html and best.yaml, which `vwmm train --config` repeats.
All trials validate on the same cases, so the best one's score is too good: report another one (docs/sweep.md).
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from vwmm.config.loading import DEMO_CONFIG
from vwmm.config.search_space import SPACE, read_space
from vwmm.data.checks.preflight import read_experiment
from vwmm.engine.launch.launch_file import check_launch_file
from vwmm.engine.launch.launcher import is_launched
from vwmm.engine.sweep.plan import Sweep, plan_sweep
from vwmm.engine.sweep.worker import run_worker
from vwmm.system.command_line import CommandLine, help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.problems import Problem

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated. Without any argument: configs/demo.yaml",
    "KEY=VALUE": "sets one key, of all trials: train.epochs=20 run.name=search",
    "--space FILE": f"what is searched, between what (default: {SPACE})",
    "--trials N": "how many trials there are to be, over all workers (default: 40)",
    "--startup N": "trials that are drawn at random before the others learn from them (default: 10)",
    "--prune median|none": "whether a trial worse than half of those before it is stopped early (default: median)",
    "--launch FILE": "an Accelerate configuration for each trial: launch/multi_gpu.yaml, ...",
}
OWN_OPTIONS = ("--space", "--trials", "--startup", "--prune")
TRAIN = Path(__file__).with_name("train.py").resolve()
PRUNERS = ("median", "none")


def main(arguments: list[str]) -> int:
    """`vwmm sweep`: one worker."""
    line = parse_command_line(arguments, options=[*OWN_OPTIONS, "--launch"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    _refuse_launchers()
    sweep = replace(check_sweep(line), arguments=tuple(arguments))
    print(run_worker(sweep, TRAIN, line.options.get("--launch")), flush=True)
    return EXIT_DONE


def check_sweep(line: CommandLine) -> Sweep:
    """The sweep of a command line. Raises UserError with every problem of options, space, configuration and cohort."""
    problems, space, config = list[str | Problem](), None, None
    files = line.files or ([] if line.overrides else [DEMO_CONFIG])
    num_trials = _count(line.options.get("--trials", "40"), "--trials", problems)
    startup = _count(line.options.get("--startup", "10"), "--startup", problems)
    if (pruner := line.options.get("--prune", "median")) not in PRUNERS:
        problems.append(f"argument --prune {pruner}: expected {' or '.join(PRUNERS)}")
    try:
        check_launch_file(line.options.get("--launch"))
    except UserError as error:
        problems += error.problems
    try:
        space = read_space(line.options.get("--space", SPACE), files, line.overrides)
    except UserError as error:
        problems += error.problems
    try:
        config = read_experiment(files, line.overrides)
    except UserError as error:
        problems += error.problems
    if problems or space is None or config is None:
        raise UserError(problems)
    return plan_sweep(
        config, space, files, line.overrides, num_trials=num_trials, startup=startup, is_pruned=pruner == "median"
    )


def _refuse_launchers() -> None:
    if "LOCAL_RANK" in os.environ or os.environ.get("VWMM_NUM_MACHINES", "1") != "1":
        raise UserError(
            "a worker of a sweep is one process on one machine, which launches its trials itself: `vwmm sweep --launch "
            "launch/FILE.yaml`; for more of them start more workers"
        )


def _count(text: str, option: str, problems: list[str | Problem]) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    problems.append(f"argument {option} {text}: expected a whole number from 1")
    return 1


def _main_as_module(arguments: list[str]) -> int:
    """`python -m vwmm.sweep`, and not what `accelerate launch` starts."""
    if is_launched():
        raise UserError("`accelerate launch` starts no sweep: `vwmm sweep --launch launch/FILE.yaml`")
    return main(arguments)


if __name__ == "__main__":
    leave(run_guarded(_main_as_module, sys.argv[1:]))
