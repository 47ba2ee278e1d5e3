"""`vwmm COMMAND`: the table of commands; a command is imported when it is called."""

import difflib
import importlib
import os
import signal
import sys
from typing import NoReturn

from vwmm import __version__
from vwmm.system.errors import EXIT_INVALID, EXIT_STOPPED, is_main_process, leave, print_line, run_guarded
from vwmm.system.signals import stop_signals
from vwmm.system.start import importing

# command: (module, function, what it does, what it begins with)
COMMANDS = {
    "train": (
        "vwmm.train",
        "main",
        "checks a configuration and its cohort, trains, and returns the true exit code",
        "reading the configuration and the cohort",
    ),
    "cross_validate": (
        "vwmm.cross_validate",
        "main",
        "trains each of k folds and pools their predictions",
        "reading the configuration and the cohort",
    ),
    "compare": (
        "vwmm.compare",
        "main",
        "does fusion help? trains and compares all modalities, each alone, each left out",
        "reading the configuration and the cohort, or the runs",
    ),
    "sweep": (
        "vwmm.sweep",
        "main",
        "searches for good hyper-parameters, with any number of workers",
        "reading the configuration, the space and the cohort",
    ),
    "evaluate": (
        "vwmm.evaluate",
        "main",
        "evaluates a finished run on its test cases or on another hospital's patients",
        "reading the run and its cases",
    ),
    "predict": (
        "vwmm.predict",
        "main",
        "applies a run's best checkpoint to new cases",
        "reading the run and the cases",
    ),
    "check": (
        "vwmm.check",
        "main",
        "finds errors in the configuration, the table and every image",
        "reading the configuration, the table and the images",
    ),
    "manifest": (
        "vwmm.manifest",
        "main",
        "drafts the cohort's CSV from a folder tree, a BIDS data set or DICOM series",
        "looking through the folders",
    ),
    "split": (
        "vwmm.split",
        "main",
        "divides patients into parts or folds, by site if asked, and writes the split file",
        "reading the configuration and the cohort",
    ),
    "prepare": (
        "vwmm.prepare",
        "main",
        "fills the cache ahead of time, shows a case, removes what no run needs",
        "reading the configuration and the cohort",
    ),
    "slurm": (
        "vwmm.slurm",
        "main",
        "shows what a Slurm template would submit, checks it, and submits it if asked",
        "reading the configuration and the cohort",
    ),
    "verify": (
        "vwmm.verify",
        "main",
        "recomputes steps of a run and compares the bits",
        "reading the run",
    ),
    "sync": (
        "vwmm.sync",
        "main",
        "sends a run to W&B and other trackers, or completes its log there",
        "reading the run",
    ),
    "bench": (
        "vwmm.bench",
        "main",
        "measures this configuration on this machine, and names what to change first",
        "measuring this machine",
    ),
    "doctor": (
        "vwmm.doctor",
        "main",
        "shows what this machine has and what is wrong with it",
        "looking at this machine",
    ),
    "report": (
        "vwmm.report",
        "main",
        "writes a run's report.html again",
        "reading the run",
    ),
    "demo": (
        "vwmm.demo",
        "main",
        "makes the synthetic demonstration cohort",
        "drawing the demonstration cohort",
    ),
}
# Names of commands in other programs.
OTHERS = {
    **dict.fromkeys(
        ("fit", "run", "start", "resume", "continue"), "`vwmm train` trains, and resumes an unfinished run"
    ),
    **dict.fromkeys(("test", "eval", "validate", "score"), "`vwmm evaluate RUN` evaluates a finished run"),
    **dict.fromkeys(("infer", "inference", "apply"), "`vwmm predict RUN COHORT.csv` applies a finished run"),
    **dict.fromkeys(("cv", "crossval", "folds", "kfold"), "`vwmm cross_validate` trains each fold"),
    **dict.fromkeys(("tune", "search", "optimize", "hpo"), "`vwmm sweep` searches for hyper-parameters"),
    **dict.fromkeys(("init", "new", "draft", "import"), "`vwmm manifest DIR` drafts the cohort's CSV"),
    **dict.fromkeys(("cache", "preprocess", "transform"), "`vwmm prepare` fills the cache"),
    **dict.fromkeys(("submit", "sbatch"), "`vwmm slurm TEMPLATE --submit` submits a job"),
    **dict.fromkeys(("lint", "qc"), "`vwmm check` finds errors in the cohort and its images"),
    **dict.fromkeys(
        ("list", "ls", "runs", "status"), "runs are the folders in runs/, and status.json in each has its state"
    ),
    "export": "a run's best weights are in RUN/checkpoints/best/model.safetensors, with their metadata in meta.json",
    "config": "`vwmm train --print-config` shows every key",
}
# Those that a cluster may stop while they are still starting.
LONG = ("train", "cross_validate", "compare", "sweep", "prepare", "verify")


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
        print_line(f"vwmm: no such command: {words[0]}{_what_was_meant(words[0])}")
        return EXIT_INVALID
    if not set(words[1:]) & {"-h", "--help", "--print-config"} and is_main_process():
        print_line(f"vwmm {words[0]}: {COMMANDS[words[0]][3]}")
    if words[0] in LONG:
        for number in stop_signals():  # nothing has begun yet
            signal.signal(number, lambda *_: os._exit(EXIT_STOPPED))
    module, function, *_ = COMMANDS[words[0]]
    with importing():
        command = getattr(importlib.import_module(module), function)
    code: int = command(words[1:])
    return code


def _what_was_meant(word: str) -> str:
    """The command that does it, for the names that other programs have for it; else one that is spelt alike."""
    if word in OTHERS:
        return f"; {OTHERS[word]}"
    close = difflib.get_close_matches(word.replace("-", "_"), COMMANDS, n=1, cutoff=0.7)
    return f"; did you mean `vwmm {close[0]}`?" if close else f"; the commands are {', '.join(COMMANDS)}"


def overview() -> str:
    """The commands, one line each."""
    lines = ["vwmm: distributed training for multimodal medical image classification", ""]
    lines += [f"  vwmm {name:14} {what}" for name, (_, _, what, _) in COMMANDS.items()]
    return "\n".join([*lines, "", "`vwmm COMMAND --help` shows examples."])


def command() -> NoReturn:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    command()
