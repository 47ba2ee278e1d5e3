"""`vwmm COMMAND`: the table of commands. A command is imported only when it is called."""

import difflib
import importlib
import os
import signal
import sys
from typing import NoReturn

from vwmm import __version__
from vwmm.config.errors import EXIT_INVALID, EXIT_STOPPED, leave, run_guarded, say
from vwmm.config.stopping import stop_signals

# command: (module, function, what it does)
COMMANDS = {
    "train": ("vwmm.train", "main", "checks a configuration and its cohort, trains, and returns the true exit code"),
    "cross_validate": ("vwmm.cross_validate", "main", "trains each of k folds, and pools what they predict"),
    "sweep": ("vwmm.sweep", "main", "searches for good hyper-parameters, with any number of workers"),
    "evaluate": ("vwmm.evaluate", "main", "judges a finished run on its test cases or on another hospital's"),
    "predict": ("vwmm.predict", "main", "applies a run's best checkpoint to new cases"),
    "check": ("vwmm.check", "main", "finds what would ruin a study: in the configuration, the table and every image"),
    "manifest": (
        "vwmm.manifest",
        "main",
        "drafts the cohort's CSV from a folder tree, a BIDS data set or DICOM series",
    ),
    "split": ("vwmm.split", "main", "divides patients into parts or folds, by site if asked, and writes who is where"),
    "prepare": ("vwmm.prepare", "main", "fills the cache ahead of time, shows a case, removes what no run needs"),
    "slurm": ("vwmm.slurm", "main", "says what a Slurm template would submit, checks it, and submits it if asked"),
    "verify": ("vwmm.verify", "main", "computes steps of a run again and compares the bits"),
    "sync": ("vwmm.sync", "main", "sends a run to W&B and other trackers, or completes what they have of it"),
    "report": ("vwmm.report", "main", "writes a run's report.html again"),
    "demo": ("vwmm.demo", "main", "makes the synthetic demonstration cohort"),
}
# Those that a cluster may stop while they are still starting.
LONG = ("train", "cross_validate", "sweep", "prepare", "verify")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the words name; returns the exit code."""
    return run_guarded(_run, sys.argv[1:] if arguments is None else arguments)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"vwmm {__version__}")
        return 0
    if words[0] not in COMMANDS:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"; did you mean `vwmm {close[0]}`?" if close else f"; the commands are {', '.join(COMMANDS)}"
        say(f"vwmm: no such command: {words[0]}{hint}")
        return EXIT_INVALID
    if words[0] in LONG:
        for number in stop_signals():  # nothing has begun yet
            signal.signal(number, lambda *_: os._exit(EXIT_STOPPED))
    module, function, _ = COMMANDS[words[0]]
    code: int = getattr(importlib.import_module(module), function)(words[1:])
    return code


def overview() -> str:
    """The commands, one line each."""
    lines = ["vwmm: distributed training for multimodal medical image classification", ""]
    lines += [f"  vwmm {name:14} {what}" for name, (_, _, what) in COMMANDS.items()]
    return "\n".join([*lines, "", "`vwmm COMMAND --help` shows examples."])


def command() -> NoReturn:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    command()
