"""UserError and exit codes; prints all errors together."""

import atexit
import contextlib
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from vwmm.system.problems import Problem
from vwmm.system.streams import machine_problem, output_problem, prepare_streams

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_STOPPED = 75

MAX_PROBLEMS_SHOWN = 20
# So many lines with the same problem are shown one by one; of more only the first.
MAX_ALIKE, NUM_SHOWN_OF_ALIKE = 20, 5
MAX_RANGES = 30
# Names and numbers in a problem without a template, which problems of the same kind differ in.
_NAMES = re.compile(r"(?<=case )\S+|(?<=patient )\S+|'[^']*'|\S*[\d/.]\S*")
# `vwmm check` lists the errors of these commands as well, so they need not show all of a long list.
CHECKED = ("train", "cross_validate", "compare", "sweep", "prepare", "slurm")
_PATIENCE_S = 20.0


class UserError(ValueError):
    """One or more errors in the user's input: each names the place, the finding and the remedy.

    Commands print it without a traceback and exit with code 2.
    """

    def __init__(self, problems: str | Problem | Iterable[str | Problem]) -> None:
        found = [problems] if isinstance(problems, str | Problem) else problems
        self.problems = [Problem(one) if isinstance(one, str) else one for one in found]
        assert self.problems, "a UserError needs at least one problem"
        super().__init__("\n".join(one.text for one in self.problems))


class RunError(RuntimeError):
    """A run cannot go on, and why: a message, exit code 1."""


class StoppedEarly(RuntimeError):  # noqa: N818 - it is none
    """A run was asked to stop and did, in a state that it can go on from: a message, exit code 75."""


class AlreadyReported(Exception):  # noqa: N818 - it is an error's echo
    """An error that has been reported already, by this process or by another one of the run."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def format_problems(problems: Sequence[Problem], *, limit: int | None = MAX_PROBLEMS_SHOWN) -> str:
    """The problems as the lines that a person reads on stderr.

    limit: the largest number of kinds of problems shown; None shows all. Of very many lines with the same problem the
    first ones are shown, and the others' numbers. Those with the same action stand together, and it is told once.
    """
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    groups = _alike(problems)
    shown = groups if limit is None else groups[:limit]
    lines = [f"vwmm: {count} to fix before this can run:"]
    by_action = defaultdict[str, list[list[Problem]]](list)
    for group in shown:
        by_action[group[0].action].append(group)
    for action, alike in by_action.items():
        for group in alike:
            first, others = (group, []) if len(group) == 1 else (group[:NUM_SHOWN_OF_ALIKE], group[NUM_SHOWN_OF_ALIKE:])
            lines += [f"  - {problem.text}" for problem in first]
            if others:
                lines.append(f"    and {len(others)} more like these: {_line_numbers(others)}")
        if action:
            number = sum(map(len, alike))
            lines.append(f"    to do{'' if number == 1 else f' for these {number}'}: {action}")
    if left := sum(len(group) for group in groups[len(shown) :]):
        lines.append(f"  ... and {left} more; `vwmm check` with the same arguments lists all")
    return "\n".join(lines)


def _alike(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Problems that differ in line, names and numbers only, together, where there are many; in order of their first."""
    groups = defaultdict[Hashable, list[int]](list)
    for number, one in enumerate(problems):
        template = one.template or _NAMES.sub("#", one.found)
        shared = (one.named_by, one.where, one.modality, one.key, template)
        groups[shared if one.where and one.line else number].append(number)
    shown = list[list[int]]()
    for group in groups.values():
        shown += [group] if len(group) > MAX_ALIKE else [[number] for number in group]
    return [[problems[number] for number in group] for group in sorted(shown)]


def _line_numbers(problems: Sequence[Problem]) -> str:
    """`lines 3, 5-40`; those at the end are left out of a long list."""
    numbers = sorted({one.line for one in problems if one.line})
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"lines {', '.join(texts[:MAX_RANGES])}{', ...' if len(texts) > MAX_RANGES else ''}"


def print_line(text: str) -> None:
    """Prints a line to stderr; a closed stream is ignored."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def is_main_process() -> bool:
    """Whether this process prints for all those that launchers started, on this machine and on others."""
    return os.environ.get("RANK", os.environ.get("VWMM_MACHINE_RANK", "0")) == "0"


def run_guarded(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Runs a command; a UserError becomes its message, once, and exit code 2."""
    prepare_streams()
    try:
        return command(arguments)
    except UserError as error:
        if is_main_process():
            limit = MAX_PROBLEMS_SHOWN if _command_of(arguments) in CHECKED else None
            print_line(format_problems(error.problems, limit=limit))
        return EXIT_INVALID
    except RunError as error:
        if is_main_process():
            print_line(f"vwmm: {error}")
        return EXIT_FAILED
    except AlreadyReported as told:
        return told.code
    except StoppedEarly as stop:
        if is_main_process():
            print_line(f"vwmm: {stop}")
        return EXIT_STOPPED
    except KeyboardInterrupt:
        if is_main_process():
            print_line("vwmm: interrupted")
        return EXIT_FAILED
    except BrokenPipeError:  # the reader of our output has gone, as `vwmm | head` does
        sys.stderr.close()
        return EXIT_FAILED
    except (OSError, MemoryError) as error:
        problem = output_problem(error if isinstance(error, OSError) else None) or machine_problem(error)
        if problem is None:
            raise
        print_line(f"vwmm: {problem}")
        return EXIT_FAILED


def _command_of(arguments: Sequence[str]) -> str:
    """`train` of `vwmm train ...` and of `python vwmm/train.py ...`."""
    script = Path(sys.argv[0]).stem
    return script if script in CHECKED else next(iter(arguments), "")


def leave(code: int) -> NoReturn:
    """Ends this process at once, after flushing all output.

    The destructors of the C++ libraries that a command loads are left out: of thousands of commands one had done its
    work, and then never ended.
    """
    atexit._run_exitfuncs()
    if code == EXIT_INVALID and os.environ.get("RANK", "0") != "0":
        time.sleep(_PATIENCE_S)  # the launcher ends all processes with the first to exit: let it report
    if code == EXIT_DONE and (problem := output_problem()) is not None:
        print_line(f"vwmm: {problem}")
        code = EXIT_FAILED
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or without a reader
            stream.flush()
    os._exit(code)
