"""`vwmm bench`: measures a configuration on this machine, and names what to change first.

    vwmm bench
    vwmm bench --config configs/demo.yaml
    vwmm bench --config my.yaml data.csv=cohort.csv
    vwmm bench --config my.yaml train.num_workers=2 --json

In about two minutes, on one process: how fast cases come from the files, from the disk and from memory; a training step
by part; memory; what the step must take at least; the bottleneck. Without data.csv it makes synthetic cases with the
sizes of the configuration's images. It works in a folder of its own beside cache.dir, removed at the end, and changes
no cache and no run. Exit code 0: measured; 2: the configuration or the cohort has errors.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from vwmm.data.checks.preflight import read_experiment
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, run_guarded
from vwmm.system.signals import stop_signals

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: data.csv=cohort.csv train.batch_size=32",
    "--seconds S": "about how long it may take; without it: 120",
    "--json": "prints the result as JSON",
}
SECONDS = 120


def main(arguments: list[str]) -> int:
    """`vwmm bench`: measures and prints."""
    line = parse_command_line(arguments, options=["--seconds"], flags=["--json"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    seconds = line.options.get("--seconds", str(SECONDS))
    if not (seconds.isascii() and seconds.isdigit()) or not 1 <= int(seconds) <= 86400:
        raise UserError(f"argument --seconds: expected a whole number from 1 to 86400, found {seconds}")
    config = read_experiment(line.files, line.overrides)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("vwmm bench measures one process: start it without a launcher")

    from vwmm.engine.console import start_log
    from vwmm.engine.machine.bench import run_bench
    from vwmm.engine.machine.bench_report import json_of, lines_of
    from vwmm.engine.machine.verdict import judge

    start_log(is_main_process=True)
    with _signals_interrupt():
        measured = run_bench(config, seconds=int(seconds))
    verdict = judge(config, measured)
    print(json_of(measured, verdict) if "--json" in line.options else "\n".join(lines_of(config, measured, verdict)))
    return EXIT_DONE


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Within it every signal that asks to stop is a Ctrl-C: the folder is removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
