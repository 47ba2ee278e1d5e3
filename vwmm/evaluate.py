"""`vwmm evaluate`: evaluates a finished run on its test cases or on another hospital's patients.

    vwmm evaluate runs/first
    vwmm evaluate runs/first leeds.csv --new-patients
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
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.start import importing

OPTIONS = {
    "RUN": "the folder of a finished run, such as runs/first",
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
        optional=["COHORT.csv"],
    )
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    if line.files:
        raise UserError("argument --config: the run has its own configuration; only KEY=VALUE can be added")
    run, cohort = RunFolder(Path(line.words[0])), Path(line.words[1]) if len(line.words) > 1 else None
    if cohort is None and "--new-patients" in line.options:
        raise UserError("--new-patients: applies to another cohort only; expected RUN COHORT.csv")
    name = "test" if cohort is None else re.sub(r"[^\w.-]", "_", cohort.stem).lstrip(".") or "cohort"
    out = Path(line.options.get("--out") or run.path / "evaluations" / name)
    config = _read(run, cohort, line.overrides)
    with importing():
        # torch and all that it takes: when the line is right
        from vwmm.engine.evaluation.calibration_file import read_asked
        from vwmm.engine.runs.evaluate import Job, evaluate

    by, asked = line.lists.get("--by", []), read_asked(line.options)
    evaluate(Job(run, config, cohort is None, "--new-patients" in line.options, out, arguments, by, asked))
    return EXIT_DONE


def _read(run: RunFolder, cohort: Path | None, overrides: list[str]) -> Config:
    """The run's configuration, with its cohort replaced by the other one, if there is one."""
    if not run.config.is_file():
        folds = sorted(path.parent for path in run.path.glob("fold-*/config.yaml"))
        hint = f"; it is a cross-validation: evaluate one of its runs, such as {folds[0]}" if folds else ""
        raise UserError(f"{run.path}: this is no run folder (it has no config.yaml){hint}")
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
