"""Reports a failure once, from the rank where it happened."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.distributed.watchdog import Failure
from vwmm.system.errors import (
    EXIT_FAILED,
    EXIT_INVALID,
    AlreadyReported,
    RunError,
    StoppedEarly,
    UserError,
    format_problems,
)
from vwmm.system.streams import machine_problem

# Words of the errors that a collective operation raises where another process is to blame.
_COLLECTIVE_ERRORS = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "TCPStore", "DistStore")


@contextmanager
def failing_once(runtime: Runtime, report_outcome: Callable[[int], int]) -> Iterator[None]:
    """The first process to fail reports its error, or names a hanging one; then raises `AlreadyReported`."""
    runtime.watchdog.start()
    try:
        yield
    except (AlreadyReported, StoppedEarly):
        raise
    except UserError as error:
        failure = Failure(format_problems(error.problems), error.problems[0].text, is_invalid=True)
        raise _tell(runtime, failure, report_outcome) from error
    except RunError as error:
        raise _tell(runtime, Failure.of_line(str(error)), report_outcome) from error
    except Exception as error:
        if (problem := machine_problem(error)) is not None:
            of = f"process {runtime.rank}: " if runtime.num_processes > 1 else ""
            line = f"{of}{problem}; the same command resumes from the last checkpoint"
            raise _tell(runtime, Failure.of_line(line), report_outcome) from error
        diagnosis = runtime.watchdog.diagnose() if any(word in str(error) for word in _COLLECTIVE_ERRORS) else None
        if diagnosis == "":
            raise AlreadyReported(EXIT_FAILED) from error
        failure = _own_failure(runtime, error) if diagnosis is None else Failure.of_line(diagnosis)
        raise _tell(runtime, failure, report_outcome) from error
    finally:
        runtime.watchdog.leave()


def _tell(runtime: Runtime, failure: Failure, report_outcome: Callable[[int], int]) -> AlreadyReported:
    code = EXIT_INVALID if failure.is_invalid else EXIT_FAILED
    if runtime.watchdog.fail(failure, before=lambda: report_outcome(code)):
        return AlreadyReported(code)
    return AlreadyReported(EXIT_FAILED)


def _own_failure(runtime: Runtime, error: Exception) -> Failure:
    lines = str(error).splitlines()
    text = f"{error.__class__.__name__}: {lines[0]}" if lines else error.__class__.__name__
    of = f"process {runtime.rank} " if runtime.num_processes > 1 else ""
    trace = "".join(traceback.format_exception(error)).rstrip()
    line = f"{of}failed in {runtime.watchdog.where()}: {text}"
    return Failure(f"vwmm: {line}\n{trace}", line)
