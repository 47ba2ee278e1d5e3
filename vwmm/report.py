"""`vwmm report`: writes a run's report.html again from its folder.

    vwmm report runs/demo

The page is one self-contained file. Its examples are made from the cohort's images; if these no longer exist,
the page has no examples, and the command reports this. Results that were changed, and a best checkpoint that is
damaged, are named on the page and by a warning.
"""

import sys
from pathlib import Path

from vwmm.config.run_folder import RunFolder
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, print_line, run_guarded


def main(arguments: list[str]) -> int:
    """`vwmm report RUN`."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__, {"RUN": "a run folder, such as runs/demo"}))
        return EXIT_DONE
    run = RunFolder(Path(parse_command_line(arguments, words=["RUN"]).words[0]))
    if not run.config.is_file():
        raise UserError(f"{run.path}: this is no run folder (it has no config.yaml)")
    from vwmm.engine.runs.finish_run import rewrite_report

    report = rewrite_report(run)
    for warning in report.warnings:
        print_line(f"warning: {warning}")
    if report.without_examples is not None:
        print_line(f"without examples: {report.without_examples}")
    print(report.path)
    return EXIT_DONE


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
