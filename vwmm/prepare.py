"""`vwmm prepare`: fills the cache, so that training starts at once; shows a case; prunes.

    vwmm prepare data.csv=cohort.csv
    accelerate launch --config_file launch/multi_gpu.yaml -m vwmm.prepare --config my.yaml
    vwmm prepare --config my.yaml --shard 3/8
    vwmm prepare --config my.yaml --show case_0012 --out case_0012.png
    vwmm prepare --config my.yaml --prune

Any number of these may run at once, on any number of machines that share `cache.dir`. In a Slurm array each task takes
its own share of the images.
"""

import difflib
import os
import re
import sys
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.run_folder import write_whole
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import check_cohort_to_prepare
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, is_main_process, leave, run_guarded
from vwmm.system.signals import STOP

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: data.csv=cohort.csv cache.dir=/scratch/cache cache.workers=8",
    "--shard I/N": "only the I-th of N shares of the images, from 1; in a Slurm array this is found out",
    "--show CASE": "writes a picture of what the model sees of a case, before and after the transforms",
    "--out FILE": "the picture's file; without it: CASE.png in the working directory",
    "--prune": "removes what neither the given cohort nor any run that uses this cache needs; transforms nothing",
}


def main(arguments: list[str]) -> int:
    """`vwmm prepare`."""
    line = parse_command_line(arguments, options=["--shard", "--show", "--out"], flags=["--prune"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    if len({"--shard", "--show", "--prune"} & set(line.options)) > 1:
        raise UserError("--shard, --show and --prune: only one of them at a time")
    if "--out" in line.options and "--show" not in line.options:
        raise UserError("--out: is the file of a picture; expected --show CASE beside it")
    config = load_config(line.files, line.overrides)
    if "--prune" in line.options:
        prune(config)
    elif "--show" in line.options:
        show(config, line.options["--show"], line.options.get("--out"))
    else:
        prepare(config, shard_of(line.options.get("--shard"), os.environ))
    return EXIT_DONE


def prepare(config: Config, shard: tuple[int, int]) -> None:
    """Transforms a share of the cohort's images; (number from 0, how many shares)."""
    cohort = check_cohort_to_prepare(config, open_files=is_main_process())

    from vwmm.data.cohort.cohort_notes import table_notes
    from vwmm.engine.console import LOG, start_log
    from vwmm.engine.distributed.runtime import start_runtime
    from vwmm.engine.launch.launcher import listen
    from vwmm.engine.preprocessing.fill_cache import prepare_images

    start_log(is_main_process=is_main_process())
    for note in table_notes(cohort):
        LOG.info("note: %s", note)
    listen()
    runtime = start_runtime(config.train, shares_steps=False)
    STOP.defer()  # an image that is begun is finished
    if shard[1] > 1:
        LOG.info("share %d of %d of the cohort's images", shard[0] + 1, shard[1])
    prepare_images(runtime, cohort, config.modalities, config.cache, shard=shard)
    runtime.wait()


def prune(config: Config) -> None:
    """Removes what is not needed."""
    from vwmm.engine.console import start_log
    from vwmm.engine.preprocessing.prune_cache import prune_cache

    start_log(is_main_process=is_main_process())
    if is_main_process():
        prune_cache(config, None if config.data.csv is None else check_cohort_to_prepare(config, open_files=False))


def show(config: Config, name: str, out: str | None) -> None:
    """Writes the picture of a case."""
    case = _find(check_cohort_to_prepare(config, open_files=False), name)
    path = Path(out or re.sub(r"[^\w.-]", "_", f"{name}.png"))
    if path.suffix.lower() != ".png" or path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"--out {path}: expected the name of a .png file in a folder that exists")

    from vwmm.engine.preprocessing.show_case import show_case

    if is_main_process():
        write_whole(path, show_case(config, case))
        print(path)


def shard_of(option: str | None, environment: "os._Environ[str] | dict[str, str]") -> tuple[int, int]:
    """This process's share of the images, from `I/N` or from a Slurm array: (number from 0, how many)."""
    if option is not None:
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", option)
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count:
            raise UserError(f"--shard {option}: expected I/N with I from 1 to N, such as 3/8")
        return number - 1, count
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return 0, 1
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT")]
    try:
        task, first, last, count = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"this looks like a task of a Slurm array, but not all of {', '.join(names)} are numbers; give --shard I/N"
        ) from error
    step, rest = divmod(last - first, count - 1) if count > 1 else (1, 0)
    if rest or (task - first) % step:
        raise UserError(
            f"the Slurm array's {count} tasks from {first} to {last} are not evenly spaced; give --shard I/N yourself"
        )
    return (task - first) // step, count


def _find(cohort: Cohort, name: str) -> Case:
    cases = {case.name: case for case in cohort.cases}
    if name not in cases:
        close = difflib.get_close_matches(name, cases, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"--show {name}: there is no such case in {cohort.csv_path.name}{hint}")
    return cases[name]


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
