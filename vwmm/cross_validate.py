"""`vwmm cross_validate`: trains each of k patient-grouped, stratified folds and pools their predictions.

    vwmm cross_validate --config my.yaml split.folds=5
    vwmm cross_validate --config my.yaml split.folds=5 split.fold=3
    vwmm cross_validate --launch launch/multi_gpu.yaml --config my.yaml
    accelerate launch --config_file launch/multi_gpu.yaml -m vwmm.cross_validate --config my.yaml

The folds are those of split.file or of the CSV's column `fold`, else split.folds (5) drawn ones. They are trained one
after another; with split.fold=3 that one alone, as the tasks of slurm/cross_validate.sh do. A finished fold is not
trained again, an unfinished one is resumed. After the last one, runs/NAME/ has predictions.csv (every case once),
cross_validation.json (metrics by fold, pooled, mean and standard deviation) and report.html.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vwmm.config.loading import DEMO_CONFIG, read_config
from vwmm.data.checks.preflight import read_experiment
from vwmm.engine.console import duration
from vwmm.engine.evaluation.cross_validation import Fold, plan_folds, unfinished_of
from vwmm.engine.launch.launcher import is_launched, launch, row_of_launches, run_in_place
from vwmm.system.command_line import CommandLine, help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, is_main_process, leave, print_line, run_guarded

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated. Without any argument: configs/demo.yaml",
    "KEY=VALUE": "sets one key: split.folds=10 split.fold=3 train.epochs=5",
    "--launch FILE": "(vwmm cross_validate) an Accelerate configuration: launch/multi_gpu.yaml, ...",
}
TRAIN = Path(__file__).with_name("train.py").resolve()


def main(arguments: list[str]) -> int:
    """`vwmm cross_validate`, and each process of `accelerate launch -m vwmm.cross_validate`."""
    line = parse_command_line(arguments, options=["--launch"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    if is_launched() and "--launch" in line.options:
        raise UserError("argument --launch: only `vwmm cross_validate` launches; here the processes run already")
    files = line.files or ([] if line.overrides else [DEMO_CONFIG])
    alone = fold_asked_for(files, line)
    # A configuration with folds needs one to be complete; which makes no difference.
    config = read_experiment(files, line.overrides if alone is not None else [*line.overrides, "split.fold=0"])
    folds = plan_folds(config)
    if alone is not None and alone not in [fold.number for fold in folds]:
        raise UserError(f"split.fold={alone}: the folds are {', '.join(str(fold.number) for fold in folds)}")
    for note in folds[0].split.notes_of_folds():
        _say(f"note: {Path(str(config.data.csv)).name}, {note}")
    chosen = [fold for fold in folds if alone in (None, fold.number)]
    with row_of_launches():
        code = train_folds(chosen, line.passed_on(files), line.options.get("--launch"), [fold.number for fold in folds])
    if code != EXIT_DONE or not is_main_process():
        return code
    if left := unfinished_of(folds):
        names = ", ".join(map(str, left))
        print_line(f"not pooled yet: fold {names} unfinished; whichever ends last pools them all")
    else:
        from vwmm.engine.evaluation.pool_folds import pool_folds  # 2 s of pandas and figures

        print(pool_folds(folds).describe(), flush=True)
    return EXIT_DONE


def train_folds(
    chosen: Sequence[Fold],
    arguments: list[str],
    launch_file: str | None,
    numbers: Sequence[int],
    *,
    first_launch: int = 1,
) -> int:
    """Trains those that are not finished, one after another; the exit code of the first that does not end well.

    numbers: of all folds; first_launch: the number of the first one's launch, different for every launch of a command.
    """
    started, trained = time.monotonic(), 0
    for fold in chosen:
        place = f"fold {fold.number} ({numbers.index(fold.number) + 1} of {len(numbers)})"
        if fold.is_done:
            _say(f"{place} is finished: {fold.run.path}")
            continue
        _say(f"{place}{_time_left(chosen, started, trained)}: {fold.run.path}")
        words, launch_index = [*arguments, *fold.overrides()], first_launch + numbers.index(fold.number)
        if is_launched():
            code = run_in_place(TRAIN, words, launch_index=launch_index)
        else:
            code = launch(TRAIN, words, launch_file, launch_index=launch_index)
        if code != EXIT_DONE:
            return code
        trained += 1
    return EXIT_DONE


def _time_left(chosen: Sequence[Fold], started: float, trained: int) -> str:
    if not trained:
        return ""
    left = (time.monotonic() - started) / trained * (sum(not fold.is_done for fold in chosen) - trained)
    return f", about {duration(left)} left"


def fold_asked_for(files: Sequence[str], line: CommandLine) -> int | None:
    """`split.fold`, where a file or an argument sets it."""
    reading = read_config(files, [*line.overrides, "split.folds=null"])
    if "split.fold" in reading.wrong_keys:
        raise UserError([one for one in reading.problems if one.key == "split.fold"] or reading.problems)
    return None if reading.config is None else reading.config.split.fold


def _say(text: str) -> None:
    if is_main_process():
        print_line(text)


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
