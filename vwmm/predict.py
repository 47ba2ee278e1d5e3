"""`vwmm predict`: applies the best checkpoints of one or several runs to new cases.

    vwmm predict runs/demo new_patients.csv
    vwmm predict runs/demo new_patients.csv --out predictions.csv data.root=/images
    vwmm predict runs/cv new_patients.csv                  # every fold of a cross-validation: the mean
    vwmm predict runs/a runs/b runs/c new_patients.csv
    accelerate launch --config_file launch/multi_gpu.yaml -m vwmm.predict runs/demo new_patients.csv

The cohort is a CSV like the one used in training; labels may be absent, and any image may be missing. The table has
one row per case, sorted by case: case,patient,label,predicted,p_<class>...,present_<modality>... and further columns;
the last ones are calibrated_p_<class>... and prediction_set, from the run's calibration.json (docs/evaluate.md). Of
several runs p_<class> is the mean; RUN_p_<class> of each, and spread_<class>, their standard deviation, are added.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.problems import Problem
from vwmm.system.start import importing

OPTIONS = {
    "RUN...": "run folders, such as runs/demo, or cross-validations",
    "COHORT.csv": "the new cases; image paths are relative to its folder, or to data.root if set",
    "--out FILE": "the table; without it: COHORT_predictions.csv in the working directory",
    "--force": "replaces a table that is there already",
    "--operating-point KIND": "adds predicted_at_operating_point: youden, sensitivity=0.9 or specificity=0.9",
    "--coverage LEVEL": "share of patients whose class is in the prediction set, 0.9 without it",
    "--class-conditional": "the coverage holds in each class by itself",
    "KEY=VALUE": "keys of data, cache, modalities.NAME.column and modalities.NAME.folder",
}


def main(arguments: list[str]) -> int:
    """`vwmm predict RUN COHORT.csv`."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    line = parse_command_line(
        arguments,
        options=["--out", "--operating-point", "--coverage"],
        flags=["--class-conditional", "--force"],
        words=["RUN", "COHORT.csv"],
        optional=[f"RUN{number}" for number in range(98)],
    )
    if line.files:
        raise UserError("argument --config: the run has its own configuration; only KEY=VALUE can be added")
    cohort = Path(line.words[-1])
    runs = runs_in([Path(word) for word in line.words[:-1]])
    out = Path(line.options.get("--out") or f"{cohort.stem}_predictions.csv")
    configs = [_read(run, cohort, line.overrides) for run in runs]
    _check_out(out, cohort, may_replace="--force" in line.options)
    with importing():
        # torch and all that it takes: when the line is right
        from vwmm.engine.evaluation.calibration_file import read_asked
        from vwmm.engine.runs.predict import predict

    predict(configs, runs, out, read_asked(line.options))
    return EXIT_DONE


def runs_in(paths: Sequence[Path]) -> list[RunFolder]:
    """The runs that are named, the finished folds of a cross-validation in its place. Raises UserError where not."""
    found, problems = list[RunFolder](), list[Problem]()
    for path in paths:
        folds = sorted(path.glob("fold-*/config.yaml"), key=lambda file: (len(file.parent.name), file.parent.name))
        if (path / "config.yaml").is_file():
            found.append(RunFolder(path))
        elif not folds:
            problems.append(Problem(f"{path}: this is no run folder (it has no config.yaml)"))
        elif left := [file.parent.name for file in folds if RunFolder(file.parent).state() != "done"]:
            problems.append(Problem(f"{path}: cross-validation with unfinished folds: {', '.join(left)}"))
        else:
            found += [RunFolder(file.parent) for file in folds]
    twice = [path for path, count in Counter(run.path.resolve() for run in found).items() if count > 1]
    problems += [Problem(f"{path}: given twice") for path in twice]
    if problems:
        raise UserError(problems)
    return found


def _read(run: RunFolder, cohort: Path, overrides: list[str]) -> Config:
    """The run's configuration with the new cohort."""
    allowed = ("data", "cache")
    problems = [
        f"argument {override}: prediction takes keys of data and cache, and a modality's column or folder only"
        for override in overrides
        if (key := override.partition("=")[0]).split(".")[0] not in allowed
        and not (key.startswith("modalities.") and key.endswith((".column", ".folder")))
    ]
    if problems:
        raise UserError(problems)
    return load_config([run.config], ["data.root=null", *overrides, f"data.csv={_quoted(cohort)}"])


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _check_out(out: Path, cohort: Path, *, may_replace: bool) -> None:
    if out.is_dir():
        raise UserError(f"--out {out}: this is a folder; expected the name of a file")
    if out.exists() and cohort.exists() and out.samefile(cohort):
        raise UserError(f"--out {out}: this is the cohort itself; choose another name")
    if out.exists() and not may_replace:
        raise UserError(f"--out {out}: exists already; --force replaces it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist")


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
