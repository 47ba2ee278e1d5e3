"""Reports a failure once, from the rank where it happened."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vwmm.engine.distributed.runtime import Runtime
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
_OF_OTHERS = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "TCPStore", "DistStore")


@contextmanager
def failing_once(runtime: Runtime, report_outcome: Callable[[int], int]) -> Iterator[None]:
    """The first process to fail reports its error, or names a hanging one; then raises `AlreadyReported`."""
    runtime.watch.start()
    try:
        yield
    except (AlreadyReported, StoppedEarly):
        raise
    except UserError as error:
        raise _tell(runtime, format_problems(error.problems), EXIT_INVALID, report_outcome) from error
    except RunError as error:
        raise _tell(runtime, f"vwmm: {error}", EXIT_FAILED, report_outcome) from error
    except Exception as error:
        if (problem := machine_problem(error)) is not None:
            of = f"process {runtime.process}: " if runtime.num_processes > 1 else ""
            text = f"vwmm: {of}{problem}; the same command resumes from the last checkpoint"
            raise _tell(runtime, text, EXIT_FAILED, report_outcome) from error
        blamed = runtime.watch.blame() if any(word in str(error) for word in _OF_OTHERS) else None
        if blamed == "":
            raise AlreadyReported(EXIT_FAILED) from error
        raise _tell(runtime, blamed or _own_words(runtime, error), EXIT_FAILED, report_outcome) from error
    finally:
        runtime.watch.leave()


def _tell(runtime: Runtime, message: str, code: int, report_outcome: Callable[[int], int]) -> AlreadyReported:
    if runtime.watch.fail(message, before=lambda: report_outcome(code)):
        return AlreadyReported(code)
    return AlreadyReported(EXIT_FAILED)


def _own_words(runtime: Runtime, error: Exception) -> str:
    lines = str(error).splitlines()
    text = f"{error.__class__.__name__}: {lines[0]}" if lines else error.__class__.__name__
    of = f"process {runtime.process} " if runtime.num_processes > 1 else ""
    trace = "".join(traceback.format_exception(error)).rstrip()
    return f"vwmm: {of}failed in {runtime.watch.where()}: {text}\n{trace}"
