"""Starts Python programs with the libraries already imported: a fork, where a start forks and executes an interpreter.

Two thirds of a tiny training's processor time are imports of torch, MONAI and scikit-learn, in each of its processes.
Here a new process has its own streams, environment, working directory, arguments and signals, none of its parent's open
files, and imports vwmm, Accelerate and the trackers anew; the other libraries stay as they are. Its children (the
launcher, its ranks) start in the same way and are the processes that they would be. With VWMM_COLD_STARTS=1, as in
`make rehearse`, and with any number of threads but one, interpreters start.
"""

import atexit
import contextlib
import faulthandler
import importlib
import io
import logging
import multiprocessing.process
import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, resource_tracker
from typing import Any, NoReturn

IS_WARM = os.environ.get("OMP_NUM_THREADS") == "1" and os.environ.get("VWMM_COLD_STARTS") != "1"
LIBRARIES = (
    "torch", "torch._dynamo", "torch.distributed.run", "torch.distributed.fsdp", "accelerate.commands.launch",
    "sklearn.metrics", "sklearn.model_selection", "sklearn.tree", "pandas", "scipy.stats", "scipy.ndimage",
    "matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "numba", "pydicom",
    "nibabel", "PIL.Image", "safetensors.torch", "jinja2", "yaml", "pydantic",
)  # fmt: skip
ANEW = ("vwmm", "accelerate", "tests", "mlflow", "wandb", "trackio")  # those that keep a state of their process
_kept: list[Any] = []
_cold_execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]


class WarmPopen(subprocess.Popen[Any]):
    """A `Popen` whose Python programs start warm."""

    def _execute_child(self, *arguments: Any) -> None:
        execute_warm(self, *arguments) if IS_WARM else _cold_execute(self, *arguments)


def preload() -> None:
    """Imports the libraries, once."""
    from vwmm.system.monai_import import import_monai

    for name in LIBRARIES:
        importlib.import_module(name)
    import_monai()


def execute_warm(popen: subprocess.Popen[Any], words: Any, executable: Any, *rest: Any) -> None:
    """`Popen._execute_child`, forking where the command is a Python program."""
    (preexec, _, pass_fds, cwd, env, _, _, shell, stdin, p2cwrite, c2pread, stdout, errread, stderr,
     _, _, _, _, _, new_session, *_) = rest  # fmt: skip
    program = None if shell else _program_of(words)
    if program is None:
        _cold_execute(popen, words, executable, *rest)
        return
    preload()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        streams = {0: stdin, 1: stdout, 2: stderr}
        _become(program, env, cwd, streams, keep=pass_fds, new_session=new_session, preexec=preexec)
    popen.pid = pid
    popen._child_created = True  # type: ignore[attr-defined]
    popen._close_pipe_fds(stdin, p2cwrite, c2pread, stdout, errread, stderr)  # type: ignore[attr-defined]


def _program_of(words: Any) -> list[str] | None:
    """The words after the interpreter and -u; None where it is another program or has other options."""
    line = [] if isinstance(words, str | bytes) else [os.fsdecode(word) for word in words]
    if len(line) < 2 or line[0] != sys.executable:
        return None
    line = line[2:] if line[1] == "-u" else line[1:]
    return line if line[0] == "-m" or line[0].endswith(".py") else None


def _become(
    program: list[str],
    env: Mapping[str, str] | None,
    cwd: Any,
    streams: Mapping[int, int],
    *,
    keep: Any,
    new_session: bool,
    preexec: Callable[[], None] | None,
) -> NoReturn:
    """What the child does after the fork; it never returns."""
    code = 1
    try:
        os.chdir(cwd or ".")
        for number, stream in streams.items():
            if stream != -1:
                os.dup2(stream, number)
        _close_files({0, 1, 2, *keep})
        _reset_signals()
        if new_session:
            os.setsid()
        if preexec is not None:
            preexec()
        _reset_interpreter(dict(os.environ if env is None else env))
        code = _run(program)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons, as interpreters do
        atexit._run_exitfuncs()
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                file.flush()
        os._exit(code)


def _close_files(keep: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _reset_signals() -> None:
    """Ignored signals stay ignored, as an interpreter inherits them."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _reset_interpreter(env: Mapping[str, str]) -> None:
    """Environment, streams, hooks, warnings, loggers and vwmm's modules as a new interpreter has them."""
    subprocess.Popen._execute_child = execute_warm  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(env)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), line_buffering=os.isatty(1))
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), line_buffering=True, errors="backslashreplace"
    )
    faulthandler.enable() if env.get("PYTHONFAULTHANDLER") else faulthandler.disable()
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    importlib.reload(warnings)
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    atexit._clear()
    logging.disable(logging.NOTSET)
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.disabled = False
    forkserver._forkserver.__init__()  # type: ignore[misc]
    resource_tracker._resource_tracker.__init__()  # type: ignore[misc]
    multiprocessing.process._children.clear()  # type: ignore[attr-defined]
    _reset_libraries()
    for name in list(sys.modules):
        if name.split(".")[0] in ANEW:
            _kept.append(sys.modules.pop(name))  # its connections would close files that have their numbers by now


def _reset_libraries() -> None:
    """What a program in this process may have set: rendezvous handlers, seeds, threads and deterministic algorithms."""
    import numpy as np
    import torch
    from torch.distributed.rendezvous import _rendezvous_handlers

    for scheme in set(_rendezvous_handlers) - {"tcp", "env", "file"}:
        del _rendezvous_handlers[scheme]
    random.seed()
    np.random.seed()
    torch.seed()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


def _run(program: list[str]) -> int:
    is_module = program[0] == "-m"
    first = os.getcwd() if is_module else os.path.dirname(os.path.abspath(program[0]))
    chosen = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:] = [*chosen, *(path for path in sys.path if path not in chosen)]
    sys.argv = program[1:] if is_module else program
    if is_module:
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program[0], run_name="__main__")
    return 0
