"""UserError and exit codes; prints all errors together."""

import atexit
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from vwmm.system.streams import machine_problem, output_problem, prepare_streams

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_STOPPED = 75

MAX_PROBLEMS_SHOWN = 20
# So many lines with the same problem are shown one by one; of more only the first.
MAX_ALIKE, NUM_SHOWN_OF_ALIKE = 20, 5
MAX_RANGES = 30
_LINE = re.compile(r" line (\d+): ")
_NAMES = re.compile(r"(?<=case )\S+|(?<=patient )\S+|'[^']*'|\S*[\d/.]\S*")
# `vwmm check` lists the errors of these commands as well, so they need not show all of a long list.
CHECKED = ("train", "cross_validate", "sweep", "prepare", "slurm")
_PATIENCE_S = 20.0


class UserError(ValueError):
    """One or more errors in the user's input: each names the place, the finding and the remedy.

    Commands print it without a traceback and exit with code 2.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        assert self.problems, "a UserError needs at least one problem"
        super().__init__("\n".join(self.problems))


class RunError(RuntimeError):
    """A run cannot go on, and why: a message, exit code 1."""


class StoppedEarly(RuntimeError):  # noqa: N818 - it is none
    """A run was asked to stop and did, in a state that it can go on from: a message, exit code 75."""


class Told(Exception):  # noqa: N818 - it is an error's echo
    """An error that has been reported already, by this process or by another one of the run."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def format_problems(problems: Sequence[str], *, limit: int | None = MAX_PROBLEMS_SHOWN) -> str:
    """The problems as the lines that a person reads on stderr.

    limit: the largest number of kinds of problems shown; None shows all. Of very many lines with the same problem the
    first ones are shown, and the others' numbers.
    """
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    kinds = _alike(problems)
    shown = kinds if limit is None else kinds[:limit]
    lines = [f"vwmm: {count} to fix before this can run:"]
    for kind in shown:
        first, others = (kind, []) if len(kind) == 1 else (kind[:NUM_SHOWN_OF_ALIKE], kind[NUM_SHOWN_OF_ALIKE:])
        lines += [f"  - {printable(problem)}" for problem in first]
        if others:
            lines.append(f"    and {len(others)} more like these: {_line_numbers(others)}")
    if left := sum(len(kind) for kind in kinds[len(shown) :]):
        lines.append(f"  ... and {left} more; `vwmm check` with the same arguments lists all")
    return "\n".join(lines)


def _alike(problems: Sequence[str]) -> list[list[str]]:
    """Problems that differ in line, name and number only, together, where there are many; in order of their first."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(_NAMES.sub("#", problem) if _LINE.search(problem) else problem, []).append(problem)
    together = {problem: kind for kind in kinds.values() if len(kind) > MAX_ALIKE for problem in kind}
    alone = ([problem] for problem in problems)
    return [together.get(one[0], one) for one in alone if together.get(one[0], one)[0] == one[0]]


def _line_numbers(problems: Sequence[str]) -> str:
    """`lines 3, 5-40`; those at the end are left out of a long list."""
    numbers = sorted({int(found.group(1)) for problem in problems if (found := _LINE.search(problem))})
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"lines {', '.join(texts[:MAX_RANGES])}{', ...' if len(texts) > MAX_RANGES else ''}"


def printable(text: str) -> str:
    """A text in one line that a terminal can show: control characters, as names of files may have, are written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Prints a line to stderr; a closed stream is ignored."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def is_speaker() -> bool:
    """Whether this process speaks for all those that launchers started, on this machine and on others."""
    return os.environ.get("RANK", os.environ.get("VWMM_MACHINE_RANK", "0")) == "0"


def run_guarded(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Runs a command; a UserError becomes its message, once, and exit code 2."""
    prepare_streams()
    try:
        return command(arguments)
    except UserError as error:
        if is_speaker():
            limit = MAX_PROBLEMS_SHOWN if _command_of(arguments) in CHECKED else None
            say(format_problems(error.problems, limit=limit))
        return EXIT_INVALID
    except RunError as error:
        if is_speaker():
            say(f"vwmm: {error}")
        return EXIT_FAILED
    except Told as told:
        return told.code
    except StoppedEarly as stop:
        if is_speaker():
            say(f"vwmm: {stop}")
        return EXIT_STOPPED
    except KeyboardInterrupt:
        if is_speaker():
            say("vwmm: interrupted")
        return EXIT_FAILED
    except BrokenPipeError:  # the reader of our output has gone, as `vwmm | head` does
        sys.stderr.close()
        return EXIT_FAILED
    except (OSError, MemoryError) as error:
        problem = output_problem(error if isinstance(error, OSError) else None) or machine_problem(error)
        if problem is None:
            raise
        say(f"vwmm: {problem}")
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
        say(f"vwmm: {problem}")
        code = EXIT_FAILED
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or without a reader
            stream.flush()
    os._exit(code)
