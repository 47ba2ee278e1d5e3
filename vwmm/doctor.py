"""`vwmm doctor`: what this machine has, and what is wrong with it for a configuration.

    vwmm doctor
    vwmm doctor --config my.yaml data.csv=cohort.csv
    vwmm doctor --config my.yaml --json

Looks at torch and cuDNN, GPUs and driver, NCCL, /dev/shm, the disk of cache.dir (a file of 64 MiB is written there,
read and removed), batch norm and trackers. Exit code 0: no error, though there may be warnings; 1: this machine cannot
train the configuration as it should; 2: the configuration or the cohort's table has errors.
"""

import sys

from vwmm.config.loading import load_config
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import check_cohort_to_prepare
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, EXIT_FAILED, leave, run_guarded
from vwmm.system.problems import SEVERITIES, count_severities

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: data.csv=cohort.csv cache.dir=/scratch/cache",
    "--json": "prints everything as JSON",
}


def main(arguments: list[str]) -> int:
    """`vwmm doctor`: prints what there is and what is wrong."""
    line = parse_command_line(arguments, flags=["--json"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    return examine(load_config(line.files, line.overrides), as_json="--json" in line.options)


def examine(config: Config, *, as_json: bool) -> int:
    """Looks at the machine and prints; returns the exit code."""
    present = present_shares(config)

    from vwmm.engine.check.output import lines_of
    from vwmm.engine.machine.doctor import diagnose, json_of
    from vwmm.engine.machine.facts import read_machine

    machine = read_machine(config)
    problems = diagnose(machine, config, present)
    counts = count_severities(problems)
    if as_json:
        print(json_of(machine, problems))
    else:
        found = [f"{counts[one]} {one}{'' if counts[one] == 1 else 's'}" for one in SEVERITIES if counts[one]]
        print("\n".join([*machine.lines(), *lines_of(problems), "", ", ".join(found) or "no problem found"]))
    return EXIT_FAILED if counts["error"] else EXIT_DONE


def present_shares(config: Config) -> dict[str, float]:
    """The share of the cohort's cases that have each image; without a cohort all have."""
    if config.data.csv is None:
        return dict.fromkeys(config.modalities, 1.0)
    cases = check_cohort_to_prepare(config, open_files=False).cases
    return {name: sum(case.images[name] is not None for case in cases) / len(cases) for name in config.modalities}


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
