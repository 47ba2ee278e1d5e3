"""`vwmm sync`: sends a run to trackers, or completes its log there.

    vwmm sync runs/first
    vwmm sync runs/first tracking.trackers=[wandb] tracking.mode=online
    vwmm sync runs/first tracking.trackers=[tensorboard]

For a run that was killed and will not be resumed, that had no network, or that was not tracked at all. The source is
metrics.jsonl: W&B and MLflow receive the steps they lack; for the others, and W&B without a network, the log is written
again. A resumed run does this itself when it starts.
"""

import sys
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.problems import Problem

OPTIONS = {
    "RUN": "a run folder, such as runs/demo",
    "KEY=VALUE": "a key of `tracking`, instead of the run's own: tracking.trackers=[wandb] tracking.mode=offline",
}


def main(arguments: list[str]) -> int:
    """`vwmm sync RUN`."""
    line = parse_command_line(arguments, words=["RUN"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    run = RunFolder(Path(line.words[0]).absolute())
    problems = list[Problem]()
    if not run.config.is_file():
        problems.append(Problem("this is no run folder (it has no config.yaml)", where=str(run.path)))
    problems += [Problem("leave it out: the run has its own", where=f"--config {file}") for file in line.files]
    problems += [
        Problem("only keys of `tracking` can be set here", where=f"argument {word}")
        for word in line.overrides
        if not word.startswith("tracking.")
    ]
    if problems:
        raise UserError(problems)
    config = load_config([run.config], line.overrides)
    if not config.tracking.trackers:
        raise UserError(f"{run.path} has no tracker; name one: vwmm sync {line.words[0]} tracking.trackers=[wandb]")
    from vwmm.engine.runs.sync import sync

    print("\n".join(sync(config, run)))
    return EXIT_DONE


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
