"""`vwmm evaluate`: evaluates a finished run on its test cases or on another hospital's patients.

    vwmm evaluate runs/first
    vwmm evaluate runs/first leeds.csv --new-patients
    vwmm evaluate runs/cv leeds.csv --new-patients         # the mean of all folds
    vwmm evaluate runs/first --by sex --by age:40,60
    accelerate launch --config_file launch/multi_gpu.yaml -m vwmm.evaluate runs/first

Rejects a cohort that contradicts the run's split: patients or images used in training, changed labels or images of
test cases, absent test cases. Writes evaluation.json, predictions_test.csv and report.html into RUN/evaluations/NAME.
Nothing is chosen on these cases, and each evaluation is counted.
"""

import re
import sys
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.predict import runs_in
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.start import importing

OPTIONS = {
    "RUN...": "finished runs, such as runs/first, or a cross-validation; of several the mean is evaluated",
    "COHORT.csv": "other cases; image paths are relative to its folder, or to data.root if set",
    "--new-patients": "no patient of COHORT.csv is one of the run's, even where names are equal; images are compared",
    "--by COLUMN[:BINS]": "results by this column as well; numbers in 3 parts, age:4 in 4, age:40,60 by these edges",
    "--operating-point KIND": "0.5, youden (without it), sensitivity=0.9 or specificity=0.9, from the validation cases",
    "--out DIR": "the folder of the results; without it: RUN/evaluations/test, or COHORT's name",
    "KEY=VALUE": "keys of data, cache, modalities.NAME.column and modalities.NAME.folder",
}


def main(arguments: list[str]) -> int:
    """`vwmm evaluate RUN [COHORT.csv]`."""
    line = parse_command_line(
        arguments,
        options=["--out", "--operating-point"],
        repeated=["--by"],
        flags=["--new-patients"],
        words=["RUN"],
        optional=["COHORT.csv", *(f"RUN{number}" for number in range(98))],
    )
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    if line.files:
        raise UserError("argument --config: the run has its own configuration; only KEY=VALUE can be added")
    words = [Path(word) for word in line.words]
    cohort = words.pop() if len(words) > 1 and not words[-1].is_dir() else None
    if cohort is None and "--new-patients" in line.options:
        raise UserError("--new-patients: applies to another cohort only; expected RUN COHORT.csv")
    runs = runs_in(words)
    if len(words) > 1 and "--out" not in line.options:
        raise UserError(f"--out DIR: several runs are evaluated together; where are the results of {len(words)} to go?")
    name = "test" if cohort is None else re.sub(r"[^\w.-]", "_", cohort.stem).lstrip(".") or "cohort"
    out = Path(line.options.get("--out") or words[0] / "evaluations" / name)
    configs = [_read(run, cohort, line.overrides) for run in runs]
    with importing():
        # torch and all that it takes: when the line is right
        from vwmm.engine.evaluation.calibration_file import read_asked
        from vwmm.engine.runs.evaluate import Job, evaluate

    by, asked = line.lists.get("--by", []), read_asked(line.options)
    shown = "" if len(runs) == 1 else f"{words[0].resolve().name}, {len(runs)} folds" if len(words) == 1 else (
        f"{len(runs)} runs"
    )  # fmt: skip
    job = Job(
        runs[0], configs[0], cohort is None, "--new-patients" in line.options, out, arguments, by, asked,
        more_runs=runs[1:], more_configs=configs[1:], name=shown,
    )  # fmt: skip
    evaluate(job)
    return EXIT_DONE


def _read(run: RunFolder, cohort: Path | None, overrides: list[str]) -> Config:
    """The run's configuration, with its cohort replaced by the other one, if there is one."""
    if run.state() != "done":
        raise UserError(
            f"{run.path}: the run is not finished ({run.state() or 'no state in status.json'}); only a finished one is"
        )
    allowed = ("data", "cache")
    problems = [
        f"argument {override}: evaluation takes keys of data and cache, and a modality's column or folder only"
        for override in overrides
        if (key := override.partition("=")[0]).split(".")[0] not in allowed
        and not (key.startswith("modalities.") and key.endswith((".column", ".folder")))
    ]
    if problems:
        raise UserError(problems)
    if cohort is None:
        return load_config([run.config], overrides)
    quoted = "'" + str(cohort).replace("'", "''") + "'"
    return load_config([run.config], ["data.root=null", *overrides, f"data.csv={quoted}"])


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
