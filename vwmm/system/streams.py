"""Closed or full standard streams, and errors of the machine, in words."""

import contextlib
import errno
import io
import os
import sys

# What a person can cure outside vwmm: room, rights, a disk that fails, a limit.
_OF_THE_MACHINE = {
    errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "make it writable",
    errno.ELOOP: "it is a link, which is not followed: remove it", errno.EACCES: "check who may read and write there",
    errno.EPERM: "check who may read and write there", errno.EIO: "check the disk", errno.ESTALE: "check the disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n)", errno.ENFILE: "close files of other programs",
    errno.ENOTDIR: "it should be a folder", errno.EISDIR: "it should be a file, and is a folder",
    errno.ENOMEM: "use a machine or a limit with more memory",
}  # fmt: skip
_NO_MEMORY = ("Cannot allocate memory", "can't allocate memory", "failed to map segment", "out of memory")


def prepare_streams() -> None:
    """Opens what is closed, so that no file gets a stream's number; letters that cannot be shown become numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):  # the lowest free number, which is this one
                os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: SIM115 - for as long as we live
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_problem(failed: OSError | None = None) -> str | None:
    """Why what was printed cannot be written, if it cannot; a reader that has gone is none.

    failed: an error that may have been that of a print.
    """
    try:
        sys.stdout.flush()
        if failed is not None and failed.filename is None:
            os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        return None
    except OSError as error:
        return f"the output cannot be written: {error.strerror}"
    except ValueError:  # closed, or a stream of a test
        return None
    return None


def machine_problem(error: BaseException) -> str | None:
    """The failed system call and the remedy, in one line; None for other errors."""
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        cure = (
            "a smaller train.micro_batch_size needs less"
            if "CUDA" in text
            else "a machine or a limit (ulimit -v, sbatch --mem) with more of it may help"
        )
        return f"out of memory{f' ({text})' if text else ''}: {cure}"
    if not isinstance(error, OSError) or error.errno not in _OF_THE_MACHINE:
        return None
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return f"{what}: {_OF_THE_MACHINE[error.errno]}"
