"""Starts `accelerate launch`, forwards signals, returns the true exit code.

`accelerate launch` turns every failure of a script into exit code 1. The script therefore leaves its own code in a file
that this process names in the environment.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vwmm.engine.launch.forks import Fork, ForkingScript
from vwmm.engine.launch.launch_file import cpu_variable, launch_options, machine_options, starts_one_process
from vwmm.engine.launch.orphans import hold_liveness, is_orphan
from vwmm.engine.launch.outcome import Outcome, outcome_in_temporary_folder, report_outcome
from vwmm.engine.launch.rendezvous import launcher_has_store, own_keys
from vwmm.engine.launch.shared_pages import OUTCOME_VARIABLE, is_alive, outcome_file, read_pages
from vwmm.system.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, print_line
from vwmm.system.signals import STOP, ask_when_parent_dies, stop_signals

CHECKED_VARIABLE = "VWMM_FILES_CHECKED"
_WORKER = "worker-"
_POLL_S = 0.1
# What is left of a failed run this long after its first word is ended.
_GRACE_S = 30.0


def launch(
    script: Path,
    arguments: Sequence[str],
    launch_file: str | None,
    *,
    num_processes: int | None = None,
    launch_index: int = 0,
    watch: Callable[[], bool] | None = None,
    are_files_checked: bool = False,
) -> int:
    """Runs a script under `accelerate launch` and returns the script's own exit code.

    num_processes: how many, instead of the launch file's number. launch_index: which of several launches one after
    another; on several machines each has a port of its own, since some may still be leaving the one before.
    watch: asked again and again while it runs; once it returns True, the script is asked to stop, as by a signal.
    are_files_checked: whether the script need not look into each image file's header.
    """
    command = [
        sys.executable, "-m", "accelerate.commands.launch", *launch_options(launch_file),
        *([] if num_processes is None else ["--num_processes", str(num_processes)]),
        *machine_options(os.environ, launch_index), str(script),
    ]  # fmt: skip
    environment = {
        # Slurm may send SIGTERM to the launcher as well, which would end slow savers after 30 s.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600",
        **os.environ,
        **cpu_variable(launch_file),
    }
    forks = _ROWS[-1] if _ROWS and num_processes is None and starts_one_process(launch_file, environment) else None
    with outcome_in_temporary_folder() as outcome:
        variables = {OUTCOME_VARIABLE: str(outcome.file), **({CHECKED_VARIABLE: "1"} if are_files_checked else {})}
        with collected_signals() as signals, hold_liveness(outcome.file):
            start = _start if forks is None else forks.start
            process = start(command, arguments, environment, variables)
            _wait_through_signals(process, outcome, signals, watch)
            _wait_for_workers(outcome.folder)
        code = outcome.final_code()
        if code is not None:
            return code
        if any(outcome.folder.glob(f"{_WORKER}*")):  # else the launcher has reported why
            is_interrupted = signals.count(signal.SIGINT) > 1
            killed = "the process was killed from outside (out of memory?)"
            reason = "interrupted twice: stopped at once" if is_interrupted else killed
            outcome.note_failure(reason)
            print_line(f"vwmm: {reason}; the same command resumes from the last checkpoint, if there is one")
        return process.returncode if process.returncode > 0 else EXIT_FAILED


@contextlib.contextmanager
def row_of_launches() -> Iterator[None]:
    """Within it, launches of one process on this machine start as forks of a process that has imported the libraries.

    They get the variables, the arguments and the signals that they would get without.
    """
    _ROWS.append(_Row())
    try:
        yield
    finally:
        _ROWS.pop().close()


class _Row:
    """Launches one after another, of the same script as a rule."""

    def __init__(self) -> None:
        self._script: ForkingScript | None = None

    def start(
        self, command: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str], own: Mapping[str, str]
    ) -> "subprocess.Popen[bytes] | Fork":
        """As `_start`."""
        script = self._script
        if script is not None and script.command == command:
            if script.can_fork is False:
                return _start(command, arguments, environment, own)
            if script.is_ready():
                return script.start(arguments, own)
        self.close()
        self._script = ForkingScript(command, environment, functools.partial(_before_launcher, os.getpid()))
        return self._script.start(arguments, own)

    def close(self) -> None:
        """Ends the process that forks."""
        if self._script is not None:
            self._script.close()


def _start(
    command: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str], own: Mapping[str, str]
) -> "subprocess.Popen[bytes] | Fork":
    """The launcher of a script with its arguments, and variables of its own.

    It leads a group of its own: a terminal's Ctrl-C reaches this process alone, which passes it on.
    """
    before = functools.partial(_before_launcher, os.getpid())
    return subprocess.Popen(
        [*command, *arguments], env={**environment, **own}, start_new_session=True, preexec_fn=before
    )


def run_in_place(script: Path, arguments: Sequence[str], *, launch_index: int) -> int:
    """Runs a script in the place of this process, which a launcher started, and returns its exit code.

    The script is one of as many processes, with this one's rank, and gets this one's signals. launch_index: which of
    several scripts one after another; none begins before all of the one before have ended.
    """
    with _meeting_point(launch_index) as variables, collected_signals() as signals:
        process = subprocess.Popen([sys.executable, str(script), *arguments], env={**os.environ, **variables})
        passed_on = 0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_POLL_S)
                return code if code >= 0 else EXIT_FAILED
            for number in signals[passed_on:]:
                _send(process.pid, number)
            passed_on = len(signals)


@contextlib.contextmanager
def _meeting_point(launch_index: int) -> Iterator[dict[str, str]]:
    """Variables that tell the script's processes where they find each other; waits at the end until all have ended.

    The launcher's own store still holds what the processes of the launch before left there.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes == 1:
        yield {}
        return
    from torch.distributed import PrefixStore, TCPStore

    address, rank = os.environ["MASTER_ADDR"], int(os.environ["RANK"])
    launchers = TCPStore(
        address,
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0 and not launcher_has_store(),
        wait_for_workers=False,
    )
    shared = PrefixStore(f"vwmm-launch-{launch_index}", own_keys(launchers, rank, num_processes))
    if rank == 0:
        own = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        shared.set("port", str(own.port))
    try:
        yield {"MASTER_PORT": shared.get("port").decode(), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    finally:
        with contextlib.suppress(RuntimeError):  # the launcher has died: there is no parent to report to
            shared.add("ended", 1)
            while shared.add("ended", 0) < num_processes:
                time.sleep(_POLL_S)


def is_launched() -> bool:
    """Whether a launcher started this process, as one of several perhaps."""
    # The second is set by `accelerate launch` for a single process; others of its variables people set themselves.
    return "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ


def were_files_checked() -> bool:
    """Whether the launching process has looked into each image file; not passed on to what this process launches."""
    return os.environ.pop(CHECKED_VARIABLE, "") == "1"


def listen() -> None:
    """Called by the script as early as possible: from now on it takes signals, which `launch` passes on to it."""
    parent = os.getppid() if is_launched() else 0
    STOP.install(lambda: os._exit(report_outcome(EXIT_STOPPED)), parent=parent, is_orphan=lambda: is_orphan(parent))
    if (file := outcome_file()) is not None:
        with contextlib.suppress(OSError):
            (file.parent / f"{_WORKER}{os.getpid()}").touch()


def _before_launcher(parent: int) -> None:
    """In the launcher, before it is one: it ends when its parent dies, and leaves signals to the script."""
    ask_when_parent_dies(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(EXIT_FAILED)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


_COLLECTIONS: list[list[int]] = []
_ROWS: list[_Row] = []


@contextlib.contextmanager
def collected_signals() -> Iterator[list[int]]:
    """The signals that this process has got since; one block may stand within another, and both have them."""
    signals: list[int] = []
    _COLLECTIONS.append(signals)
    before = {number: signal.signal(number, _collect) for number in stop_signals()}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _COLLECTIONS.pop()


def _collect(number: int, _: object) -> None:
    for signals in _COLLECTIONS:
        signals.append(number)


def _wait_through_signals(
    process: subprocess.Popen[bytes] | Fork, outcome: Outcome, signals: list[int], watch: Callable[[], bool] | None
) -> None:
    """Waits; signals are passed on to the script's processes, also to those that are still starting.

    A second Ctrl-C ends everything at once. Processes that are left when one has failed are ended after a while.
    """
    passed_on: dict[Path, int] = {}
    failed_at: float | None = None
    signs: dict[int, tuple[int, float]] = {}
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return
        if watch is not None and watch():
            signals.append(signal.SIGUSR1)
            watch = None
        outcome.follow()
        for worker in outcome.folder.glob(f"{_WORKER}*"):
            for number in signals[passed_on.get(worker, 0) :]:
                _send(int(worker.name.removeprefix(_WORKER)), number)
            passed_on[worker] = len(signals)
        _end_silent(outcome, signs)
        if outcome.code() not in (None, EXIT_DONE):
            failed_at = failed_at or time.monotonic()
        if signals.count(signal.SIGINT) > 1 or (failed_at and time.monotonic() - failed_at > _GRACE_S):
            _end_group(process)


def _end_silent(outcome: Outcome, signs: dict[int, tuple[int, float]]) -> None:
    """A process that was stopped, and has no neighbours to notice it, is named and ended. `signs`: seen so far."""
    now = time.monotonic()  # which stands still while the machine sleeps
    for pid, page in read_pages(outcome.folder).items():
        count, seen_at = signs.get(pid, (-1, now))
        signs[pid] = (page.count, now if page.count != count else seen_at)
        if 0 < page.timeout_s < now - signs[pid][1] and is_alive(pid):
            reason = f"process {pid} hangs: no sign of life, stopped in {page.place}, for {page.timeout_s:.0f} s"
            print_line(f"vwmm: {reason} (run.hang_timeout_s); it is ended")
            outcome.note_failure(reason)
            _send(pid, signal.SIGKILL)


def _wait_for_workers(folder: Path) -> None:
    """A launcher that was killed leaves processes behind, which save and end by themselves."""
    end = time.monotonic() + _GRACE_S
    while any(is_alive(int(worker.name.removeprefix(_WORKER))) for worker in folder.glob(f"{_WORKER}*")):
        if time.monotonic() > end:
            return
        time.sleep(_POLL_S)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_group(process: subprocess.Popen[bytes] | Fork) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
