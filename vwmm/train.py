"""`vwmm train`: trains one model, on one process or many, and writes a run folder.

    accelerate launch vwmm/train.py --config configs/demo.yaml
    accelerate launch --config_file launch/multi_gpu.yaml vwmm/train.py --config my.yaml data.csv=cohort.csv
    vwmm train --launch launch/cpu.yaml --config my.yaml train.epochs=5

The first two run in the processes that the launcher started. The last one checks everything first, then launches, and
returns the true exit code, which `accelerate launch` cannot (every failure is a 1 there).
"""

import sys
from pathlib import Path

if not __package__:
    # `accelerate launch vwmm/train.py` puts vwmm/ first on the path, where `data` and `config` would be top-level.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from vwmm.config.loading import DEMO_CONFIG
from vwmm.config.printing import to_yaml
from vwmm.config.run_folder import choose_run_folder
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import check_config, read_experiment
from vwmm.engine.launch.forks import script_arguments
from vwmm.engine.launch.launcher import launch, listen, were_files_checked
from vwmm.engine.launch.outcome import report_outcome
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, is_main_process, leave, run_guarded
from vwmm.system.start import importing

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated. Without any argument: configs/demo.yaml",
    "KEY=VALUE": "sets one key: train.epochs=5 modalities.ct.window_hu=[-100,300]",
    "--launch FILE": "(vwmm train) an Accelerate configuration: launch/cpu.yaml, launch/multi_gpu.yaml, ...",
    "--print-config": "prints the resolved configuration, with comments, and stops",
}


def main(arguments: list[str]) -> int:
    """`vwmm train`: checks, launches `accelerate launch vwmm/train.py`, and returns the true exit code."""
    config, launch_file, passed_on = _read(arguments)
    if config is None:
        return EXIT_DONE
    check_config(config)
    choose_run_folder(config)  # rejects a run that cannot be resumed
    return launch(Path(__file__).resolve(), passed_on, launch_file, are_files_checked=True)


def run(arguments: list[str]) -> int:
    """What each process of `accelerate launch vwmm/train.py` does; returns its exit code."""
    listen()
    config, launch_file, _ = _read(arguments)
    if launch_file is not None:
        raise UserError("argument --launch: only `vwmm train` launches; here the processes run already")
    if config is not None:
        train(config)
    return EXIT_DONE


def train(config: Config) -> None:
    """One run, from the cohort to the report. Raises UserError where the user's input is wrong."""
    # Read the cohort, divide the patients, look into every file unless `vwmm train` just has. No GPU is held yet.
    opens_files = not were_files_checked() and is_main_process()
    cohort, assigned = check_config(config, open_files=opens_files)

    # Only now torch is imported, which takes seconds.
    with importing():
        from vwmm.engine.runs.train import train as train_run

    train_run(config, cohort, assigned)


def _import_all() -> None:
    """What a training needs from its start to its report, for many of them in forks of this process."""
    from vwmm.engine.runs.preload import import_training

    import_training()


def _read(arguments: list[str]) -> tuple[Config | None, str | None, list[str]]:
    """(configuration, launch file, the arguments to pass on); no configuration if all has been reported already."""
    line = parse_command_line(arguments, options=["--launch"], flags=["--print-config"])
    if "--help" in line.options:
        _say(help_text(__doc__, OPTIONS))
        return None, None, []
    files = line.files or ([] if line.overrides else [DEMO_CONFIG])
    makes_config_only = "--print-config" in line.options
    config = read_experiment(files, line.overrides, makes_demo=not makes_config_only)
    if makes_config_only:
        _say(to_yaml(config).rstrip())
        return None, None, []
    return config, line.options.get("--launch"), line.passed_on(files)


def _say(text: str) -> None:
    if is_main_process():
        print(text)


if __name__ == "__main__":
    leave(report_outcome(run_guarded(run, script_arguments(_import_all))))
