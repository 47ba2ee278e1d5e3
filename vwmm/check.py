"""`vwmm check`: looks for errors in the configuration, the cohort table and every image.

    vwmm check data.csv=cohort.csv
    vwmm check --config my.yaml --strict --out checks/first --json first.json

Every image is read once, in worker processes. Exit code 0: no error; 1: with --strict, no error but warnings; 2: there
are errors. Writes report.html, with a thumbnail of each case, and check.json into --out.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vwmm.config.loading import read_config
from vwmm.config.run_folder import write_whole
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import cohort_problems
from vwmm.data.cohort.cases import SPLITS, Cohort
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import format_of
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INVALID,
    UserError,
    format_problems,
    leave,
    print_line,
    run_guarded,
)
from vwmm.system.problems import Problem, count_severities

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: data.csv=cohort.csv",
    "--strict": "exit code 1 where there are warnings",
    "--out DIR": "the folder of the report; without it: checks/ and the name of the configuration, else of the table",
    "--workers N": "worker processes; without it: one for each core",
    "--timeout-s S": "gives an image up that takes longer to read; without it: 600",
    "--json FILE": "writes check.json there as well",
}
REPORT, RESULT = "report.html", "check.json"
MAX_WORKERS = 16
TIMEOUT_S = 600


def main(arguments: list[str]) -> int:
    """`vwmm check`: prints the findings and writes the report."""
    line = parse_command_line(arguments, options=["--out", "--workers", "--timeout-s", "--json"], flags=["--strict"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    num_workers = _workers(line.options.get("--workers"))
    timeout_s = _whole("--timeout-s", line.options.get("--timeout-s", str(TIMEOUT_S)), 86400)
    reading = read_config(line.files, line.overrides)
    if reading.problems or reading.config is None:
        problems = reading.problems + cohort_problems(reading)
        print_line(format_problems(problems, limit=None))
        return EXIT_INVALID
    config = reading.config
    out = (
        Path(line.options["--out"])
        if "--out" in line.options
        else default_out(config, has_name=bool(line.files) or _names_run(line.overrides))
    )
    extra = Path(line.options["--json"]) if "--json" in line.options else None
    _check_places(config, out, extra)
    is_strict = "--strict" in line.options
    return check(config, out, extra, arguments, num_workers=num_workers, timeout_s=timeout_s, is_strict=is_strict)


def check(
    config: Config, out: Path, extra: Path | None, arguments: Sequence[str], *,
    num_workers: int, timeout_s: float, is_strict: bool,
) -> int:  # fmt: skip
    """Reads, compares, writes and reports; returns the exit code. arguments: of the command line, for the page."""
    from vwmm.engine.check.cohort_check import check_everything
    from vwmm.engine.check.output import json_of, lines_of, page_of, summary
    from vwmm.engine.console import start_log
    from vwmm.engine.runs.provenance import origin_now

    start_log(is_main_process=True)
    checked = check_everything(config, num_workers=num_workers, timeout_s=timeout_s)
    result = json_of(checked)
    _write(out / REPORT, page_of(checked, origin_now("check", arguments)))
    for path in (out / RESULT, extra):
        if path is not None:
            _write(path, result)
    print(f"{checked.cohort.csv_path}: {summary(checked)}")
    print("\n".join(["", *counts(checked.cohort, dict(checked.assigned))]))
    remarks = [f"note: {remark}" for remark in (*checked.notes, *checked.remarks)]
    print(
        "\n".join([*lines_of(checked.findings), "", *remarks, f"report   {out / REPORT}", f"result   {out / RESULT}"])
    )
    found = count_severities(checked.findings)
    if found["error"]:
        return EXIT_INVALID
    return EXIT_FAILED if is_strict and found["warning"] else EXIT_DONE


def counts(cohort: Cohort, assigned: dict[str, str]) -> list[str]:
    """Counts by class and part, where there is a split, and what is missing."""
    number = Counter((case.label, assigned.get(case.name)) for case in cohort.cases)
    parts = [part for part in SPLITS if part in assigned.values()]
    width = max(len(name) for name in (*cohort.classes, "class"))
    lines = []
    if parts:
        lines.append(f"  {'class':{width}}" + "".join(f"{part:>8}" for part in parts))
        lines += [
            f"  {label:{width}}" + "".join(f"{number[label, part]:8}" for part in parts) for label in cohort.classes
        ]
        lines.append("")
    for name in cohort.cases[0].images:
        missing = sum(case.images[name] is None for case in cohort.cases)
        lines.append(f"  {name}: {len(cohort.cases) - missing} images, {missing} missing")
    return lines


def default_out(config: Config, *, has_name: bool) -> Path:
    """`checks/NAME` beside the folder of the runs. has_name: whether the run was given one, else it is the table's."""
    name = config.run.name if has_name or config.data.csv is None else Path(config.data.csv).stem
    return Path(config.run.dir).parent / "checks" / str(name)


def _names_run(overrides: list[str]) -> bool:
    return any(text.startswith("run.name=") for text in overrides)


def _workers(option: str | None) -> int:
    if option is None:
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    return _whole("--workers", option, 1024)


def _whole(name: str, option: str, most: int) -> int:
    if not (option.isascii() and option.isdigit() and len(option) < 7 and 1 <= int(option) <= most):
        raise UserError(f"{name} {option}: expected a whole number from 1 to {most}")
    return int(option)


def _check_places(config: Config, out: Path, extra: Path | None) -> None:
    """Rejects an --out that would overwrite the cohort or cannot be written, before an hour of reading."""
    problems, of_out, of_json = list[Problem](), f"--out {out}", f"--json {extra}"
    try:
        if out.exists() and not out.is_dir():
            problems.append(Problem("is a file, not a folder", where=of_out))
        elif config.data.csv is not None and out.resolve() == Path(config.data.csv).resolve().parent:
            problems.append(Problem("is the cohort's own folder; choose another one", where=of_out))
        elif out.is_dir() and (name := _foreign(out)) is not None:
            problems.append(Problem(f"holds {name}, which is no report's; choose a folder of its own", where=of_out))
        if extra is not None and (extra.suffix.lower() != ".json" or extra.is_dir()):
            problems.append(Problem("expected the name of a .json file", where=of_json))
        elif extra is not None and extra.exists() and not _is_result(extra):
            problems.append(Problem("this file is no result of `vwmm check`; choose another name", where=of_json))
        for option, folder in (("--out", out), ("--json", extra.parent if extra is not None else out)):
            if not problems:
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    found = f"the folder {folder} cannot be written to; choose another one"
                    problems.append(Problem(found, where=option))
    except OSError as error:
        problems.append(Problem(f"cannot be written ({error.strerror}); choose another folder", where=of_out))
    if problems:
        raise UserError(problems)


def _foreign(folder: Path) -> str | None:
    """The name of an image or a table in a folder, so that it is not one of reports."""
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(ImageError):
            if path.suffix == ".csv" or (path.is_file() and format_of(path)):
                return path.name
    return None


def _is_result(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["program"] == "vwmm check")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(path: Path, content: str) -> None:
    try:
        write_whole(path, content.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
