"""`vwmm compare`: does fusion help? Trains and compares all modalities, each alone and each left out.

    vwmm compare --config my.yaml data.csv=cohort.csv split.folds=5 run.name=fusion
    vwmm compare --config my.yaml --baselines
    vwmm compare --config my.yaml split.fold=3
    vwmm compare runs/cv_a runs/cv_b --out comparison
    vwmm compare runs/first reader.csv --out comparison

Every model is cross-validated on the same folds, in runs/NAME/MODEL/fold-0/ ...; with split.fold=3 that fold alone, as
the tasks of slurm/compare.sh do. A finished fold is not trained again. With RUN RUN... (runs, cross-validations or
prediction tables of the same cases) nothing is trained. Writes comparison.json, predictions.csv and report.html.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vwmm.config.loading import DEMO_CONFIG
from vwmm.cross_validate import fold_asked_for, train_folds
from vwmm.data.checks.preflight import read_experiment
from vwmm.engine.comparison.plan import Plan, plan_comparison
from vwmm.engine.launch.launcher import is_launched, row_of_launches
from vwmm.system.command_line import CommandLine, help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, is_main_process, leave, print_line, run_guarded
from vwmm.system.start import importing

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: split.folds=10 split.fold=3 train.epochs=5",
    "--baselines": "also the commonest class, and logistic regressions on clinical columns and acquisition facts",
    "--launch FILE": "an Accelerate configuration: launch/multi_gpu.yaml, ...",
    "RUN RUN...": "instead: finished runs, cross-validations or CSVs of predictions, of the same cases",
    "--out DIR": "(RUN RUN...) the folder of the results, which must not exist yet; without it: comparison",
}


def main(arguments: list[str]) -> int:
    """`vwmm compare`, and each process of `accelerate launch -m vwmm.compare`."""
    line = parse_command_line(
        arguments, options=["--launch", "--out"], flags=["--baselines"], optional=[f"RUN{n}" for n in range(100)]
    )
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    if line.words:
        return _compare_runs(line, arguments)
    if "--out" in line.options:
        raise UserError("argument --out: what is trained is written to runs/NAME; set run.name or run.dir")
    if is_launched() and "--launch" in line.options:
        raise UserError("argument --launch: only `vwmm compare` launches; here the processes run already")
    files = line.files or ([] if line.overrides else [DEMO_CONFIG])
    alone = fold_asked_for(files, line)
    config = read_experiment(files, line.overrides if alone is not None else [*line.overrides, "split.fold=0"])
    plan = plan_comparison(config, files, line.overrides, baselines="--baselines" in line.options)
    if alone is not None and alone not in plan.fold_numbers:
        raise UserError(f"split.fold={alone}: the folds are {', '.join(map(str, plan.fold_numbers))}")
    with row_of_launches():
        code = _train(plan, line.passed_on(files), line.options.get("--launch"), alone)
    if code != EXIT_DONE or not is_main_process():
        return code
    if left := plan.unfinished():
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        print_line(f"not compared yet: {shown} unfinished; the task that ends last compares them all")
        return EXIT_DONE
    with importing():
        from vwmm.engine.comparison.compare_trained import compare_trained  # pandas, scikit-learn and figures

    result = compare_trained(
        plan, arguments, baselines="--baselines" in line.options, num_workers=len(os.sched_getaffinity(0))
    )
    print(result.describe(), flush=True)
    return EXIT_DONE


def _train(plan: Plan, arguments: Sequence[str], launch_file: str | None, alone: int | None) -> int:
    """Trains what is not finished, model by model; the exit code of the first that does not end well."""
    for place, model in enumerate(plan.models, 1):
        chosen = [fold for fold in model.folds if alone in (None, fold.number)]
        if is_main_process():
            seen = ", ".join(model.modalities)
            print_line(f"model {model.name} ({place} of {len(plan.models)}), of {seen}")
        code = train_folds(
            chosen, [*arguments, *model.overrides], launch_file, plan.fold_numbers,
            first_launch=1 + (place - 1) * len(plan.fold_numbers),
        )  # fmt: skip
        if code != EXIT_DONE:
            return code
    return EXIT_DONE


def _compare_runs(line: CommandLine, arguments: list[str]) -> int:
    if line.files or line.overrides or {"--launch", "--baselines"} & set(line.options):
        raise UserError(
            "RUN RUN...: compares what was trained; leave out --config, KEY=VALUE, --launch and --baselines"
        )
    if len(line.words) < 2:
        raise UserError(f"{line.words[0]}: one run; expected at least two to compare")
    with importing():
        from vwmm.engine.comparison.compare_runs import compare_runs

    out = Path(line.options.get("--out") or "comparison")
    print(compare_runs([Path(word) for word in line.words], out, arguments).describe(), flush=True)
    return EXIT_DONE


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
