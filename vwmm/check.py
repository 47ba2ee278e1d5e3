"""Finds what is wrong with a configuration, a cohort and its files, all of it at once, before any time is spent.

    vwmm check data.csv=cohort.csv
    vwmm check --config my.yaml

Exit code 0: nothing was found; 2: what has to be mended. It reads the table and the header of every image file.
"""

import sys
from collections import Counter

from vwmm.config.command_line import help_text, parse_command_line
from vwmm.config.errors import EXIT_DONE, EXIT_INVALID, UserError, format_problems, leave, run_guarded
from vwmm.config.loading import read_config
from vwmm.data.checks import check_config, cohort_problems
from vwmm.data.manifest import Cohort

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: data.csv=cohort.csv",
}


def main(arguments: list[str]) -> int:
    """`vwmm check`: prints a summary, or every problem."""
    line = parse_command_line(arguments)
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    reading = read_config(line.files, line.overrides)
    try:
        if reading.problems or reading.config is None:
            raise UserError(reading.problems + cohort_problems(reading))
        cohort, assigned = check_config(reading.config)
    except UserError as error:
        print(format_problems(error.problems, limit=None), file=sys.stderr)
        return EXIT_INVALID
    print(summarize(cohort, assigned))
    return EXIT_DONE


def summarize(cohort: Cohort, assigned: dict[str, str]) -> str:
    """Counts by class and part, and what is missing."""
    patients = {case.patient for case in cohort.cases}
    lines = [f"{cohort.csv_path}: {len(cohort.cases)} cases of {len(patients)} patients, no problem found", ""]
    counts = Counter((case.label, assigned[case.name]) for case in cohort.cases)
    parts = [part for part in ("train", "val", "test") if part in assigned.values()]
    width = max(len(name) for name in (*cohort.classes, "class"))
    lines.append(f"  {'class':{width}}" + "".join(f"{part:>8}" for part in parts))
    lines += [f"  {label:{width}}" + "".join(f"{counts[label, part]:8}" for part in parts) for label in cohort.classes]
    lines.append("")
    for name in cohort.cases[0].images:
        missing = sum(case.images[name] is None for case in cohort.cases)
        lines.append(f"  {name}: {len(cohort.cases) - missing} images, {missing} missing")
    return "\n".join(lines)


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
