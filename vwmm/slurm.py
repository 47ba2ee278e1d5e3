"""`vwmm slurm`: checks a Slurm job beforehand, and submits it with --submit.

    vwmm slurm train --nodes=2 --gpus-per-node=4 --time=24:00:00 --config my.yaml train.epochs=50
    vwmm slurm cross_validate --array=0-4%2 --config my.yaml data.csv=cohort.csv
    vwmm slurm compare --array=0-4 --config my.yaml --baselines
    vwmm slurm prepare --array=1-16 --config my.yaml
    vwmm slurm train --submit --nodes=2 --config my.yaml

Checks configuration, cohort, slurm/site.env and the number of processes, and runs `sbatch --test-only` if Slurm is
installed. Submits nothing without --submit.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vwmm.config.loading import DEMO_CONFIG, load_config
from vwmm.config.run_folder import choose_run_folder
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import check_cohort_to_prepare, check_config, read_experiment
from vwmm.data.loading.sampling import micro_batch_problems
from vwmm.engine.comparison.plan import FOLDS_FILE, plan_comparison, subsets
from vwmm.engine.evaluation.cross_validation import Fold, plan_folds
from vwmm.engine.launch.launch_file import launch_file_problems
from vwmm.engine.launch.slurm_job import Request, ask_slurm, has_slurm, read_request
from vwmm.sweep import OWN_OPTIONS, check_sweep
from vwmm.system.command_line import CommandLine, help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.problems import Problem

OPTIONS = {
    "TEMPLATE": "train, cross_validate, compare, prepare or sweep: slurm/TEMPLATE.sh",
    "--NAME=VALUE": "an option of sbatch: --nodes=2 --gpus-per-node=4 --time=24:00:00 --array=0-9%4",
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: train.epochs=5",
    "--space, --trials, ...": "(sweep) those of `vwmm sweep`",
    "--baselines": "(compare) that of `vwmm compare`",
    "--submit": "submits it, if nothing is wrong",
}
WITH_VALUE = ("--config", *OWN_OPTIONS)
OURS = ("-h", "--help", "--submit", "--baselines", *WITH_VALUE)
TEMPLATES = ("train", "cross_validate", "compare", "prepare", "sweep")


def main(arguments: list[str]) -> int:
    """`vwmm slurm`."""
    line, options, ours = _read(arguments)
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    template, *_ = line.words
    problems, lines, request = list[Problem](), list[str](), None
    try:
        request = read_request(template, options, os.environ)
    except UserError as error:
        problems += error.problems
    try:
        lines = _check(template, line, request)
    except UserError as error:
        problems += error.problems
    if problems or request is None:
        raise UserError(problems)
    answer = ask_slurm(request, ours, submit="--submit" in line.options) if has_slurm() else None
    if answer is None and "--submit" in line.options:
        raise UserError("--submit: there is no sbatch on this machine")
    print("\n".join([*describe(request), *lines]))
    print(f"slurm      {answer or 'no sbatch on this machine: not asked'}")
    if "--submit" not in line.options:
        source = f"source {shlex.quote(str(request.site))} && " if request.site else ""
        print(f"\n{source}{shlex.join(request.command(ours))}")
    return EXIT_DONE


def _read(arguments: Sequence[str]) -> tuple[CommandLine, list[str], list[str]]:
    """The command line, what of it is for sbatch, and what is for the template."""
    options, ours, problems = list[str](), list[str](), list[str]()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if word in WITH_VALUE and rest:
            ours += [word, rest.pop(0)]
        elif name == "--launch":
            problems.append("argument --launch: a job chooses it; VWMM_LAUNCH=FILE, in slurm/site.env, names another")
            rest = rest if "=" in word else rest[1:]
        elif word.startswith("--") and "=" not in word and name not in OURS and rest and _is_value(rest[0]):
            problems.append(f"argument {word} {rest[0]}: write {word}={rest.pop(0)}")
        elif word.startswith("-") and name not in OURS:
            options.append(word)
        else:
            ours.append(word)
    if problems:
        raise UserError(problems)
    line = parse_command_line(ours, options=OWN_OPTIONS, flags=["--submit", "--baselines"], words=["TEMPLATE"])
    if "--help" not in line.options and line.words[0] not in TEMPLATES:
        raise UserError(f"{line.words[0]}: no such template; expected {', '.join(TEMPLATES)}")
    if line.words and line.words[0] != "sweep" and (wrong := [name for name in OWN_OPTIONS if name in line.options]):
        raise UserError(f"argument {wrong[0]}: only sweep has it")
    if line.words and line.words[0] != "compare" and "--baselines" in line.options:
        raise UserError("argument --baselines: only compare has it")
    return line, options, [word for word in ours if word not in ("--submit", *line.words)]


def _is_value(word: str) -> bool:
    return not word.startswith("-") and "=" not in word and word not in TEMPLATES


def describe(request: Request) -> list[str]:
    """The requested resources and the processes to start."""
    values, gpus, nodes = request.values, request.gpus_per_node, request.num_nodes
    tasks = "" if request.array is None else f"{len(request.array)} tasks ({values['array']}), each "
    plural = "" if nodes == 1 else "s"
    no_gpu = "no GPU (--exclusive alone gives tasks none; --gpus-per-node=N)" if "exclusive" in values else "no GPU"
    asked = [f"{tasks}{nodes} node{plural}", f"{gpus} GPU{'' if gpus == 1 else 's'} on each" if gpus else no_gpu]
    asked.append(f"at most {values['time']}" if "time" in values else "no time limit of its own (--time=...)")
    asked += [f"{name} {values[name]}" for name in ("partition", "account", "qos") if values.get(name)]
    stops, failures = (request.environment.get(f"VWMM_MAX_{name}") for name in ("PREEMPTIONS", "FAILURES"))
    lines = [
        f"submits    {request.script}",
        f"site       {request.site or 'no slurm/site.env; site.env.example shows what can be set'}",
        f"asks for   {', '.join(asked)}",
    ]
    if request.template != "prepare":
        processes = f"{request.num_processes} process{'' if request.num_processes == 1 else 'es'}"
        lines.append(f"starts     {processes} with {request.launch_file}")
    lines.append(f"goes back  into the queue after a stop at most {stops or 100} times, after a crash {failures or 2}")
    return lines


def _check(template: str, line: CommandLine, request: Request | None) -> list[str]:
    """Makes the command's checks and shows what it would do. Raises UserError with every problem."""
    if template == "prepare":
        config = load_config(line.files, line.overrides)
        cohort = check_cohort_to_prepare(config)
        return [f"prepares   the images of {len(cohort.cases)} cases into {config.cache.dir}"]
    if template == "sweep":
        sweep = check_sweep(line)
        if request is not None and request.num_nodes > 1:
            raise UserError(
                f"--nodes={request.num_nodes}: a worker of a sweep is on one node; --array=0-N starts more of them"
            )
        searched = ", ".join(one.key for one in sweep.space.searched)
        return [f"searches   {searched}: {sweep.num_trials} trials in {sweep.folder}", *_share(sweep.config, request)]
    files = line.files or ([] if line.overrides else [DEMO_CONFIG])
    if template == "train":
        if request is not None and request.array is not None:
            raise UserError("--array: all tasks would train the same run; slurm/cross_validate.sh has a fold for each")
        config = read_experiment(files, line.overrides)
        cohort, _ = check_config(config)
        run = choose_run_folder(config)
        state = run.state()
        return [f"trains     {len(cohort.cases)} cases: {run.path} ({state or 'new'})", *_share(config, request)]
    config = read_experiment(files, [*line.overrides, "split.fold=0"])
    if template == "compare":
        return [*_check_comparison(config, files, line, request), *_share(config, request)]
    folds = plan_folds(config)
    _check_tasks(folds, request)
    finished = [fold.number for fold in folds if fold.is_done]
    done = f", {len(finished)} finished" if finished else ""
    return [f"trains     {len(folds)} folds{done}: {folds[0].run.path.parent}", *_share(config, request)]


def _check_comparison(config: Config, files: Sequence[str], line: CommandLine, request: Request | None) -> list[str]:
    """The models that would be trained. Only `vwmm compare` writes the folds: of a new one there are none to check."""
    folder = Path(config.run.dir) / str(config.run.name)
    names = list(subsets(list(config.modalities)))
    if (folder / FOLDS_FILE).exists():
        plan = plan_comparison(config, files, line.overrides, baselines="--baselines" in line.options)
        _check_tasks(plan.models[0].folds, request)
        left, num_folds = len(plan.unfinished()), len(plan.fold_numbers)
        done = f", {len(names) * num_folds - left} finished"
    else:
        folds = plan_folds(config)
        _check_tasks(folds, request)
        num_folds, done = len(folds), ""
    return [f"trains     {num_folds} folds of {len(names)} models ({', '.join(names)}){done}: {folder}"]


def _check_tasks(folds: Sequence[Fold], request: Request | None) -> None:
    """Raises UserError where the array's numbers are not those of the folds."""
    numbers = [fold.number for fold in folds]
    tasks = numbers if request is None or request.array is None else request.array
    problems = []
    if unknown := [n for n in tasks if n not in numbers]:
        problems.append(f"--array: there is no fold {_join(unknown)}; the folds are {_join(numbers)}")
    finished = [fold.number for fold in folds if fold.is_done]
    if missing := [n for n in numbers if n not in tasks and n not in finished]:
        problems.append(f"--array: no task for fold {_join(missing)}; the folds are {_join(numbers)}")
    if problems:
        raise UserError(problems)


def _share(config: Config, request: Request | None) -> list[str]:
    train = config.train
    if request is None:
        return []
    problems = micro_batch_problems(train.batch_size, train.micro_batch_size, request.num_processes)
    of_file = launch_file_problems(request.launch_file, train, request.num_processes, has_gpu=request.gpus_per_node > 0)
    if problems or of_file:
        raise UserError([*problems, *of_file])
    return [f"each step  {train.batch_size} cases, in micro-batches of {train.micro_batch_size}"]


def _join(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
