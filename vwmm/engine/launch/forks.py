"""Starts a script again and again as forks of one process, which has imported what the script needs.

Each start of an interpreter imports torch and all that uses it: most of the processor time of a small training. Here
`accelerate launch` starts the script once, with the variables that it would have each time. The script imports,
computes nothing, and forks when it is asked through a socket. To its forks it is what the launcher is to a script: the
parent whose death ends them. A fork that fails, or is killed, leaves the others alone.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vwmm.system.errors import EXIT_DONE, EXIT_FAILED
from vwmm.system.signals import ask_when_parent_dies
from vwmm.system.start import importing

SOCKET_VARIABLE = "VWMM_FORKS_SOCKET"
_CAN, _CANNOT, _ENDED = "can", "cannot", "ended"
_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dxg")
_CLOSE_S = 5.0


def script_arguments(import_all: Callable[[], None]) -> list[str]:
    """The script's arguments. Where `ForkingScript` started it, this returns in each fork, with the fork's own.

    import_all: imports what the script needs. It should start no thread and open no GPU, since a fork could use
    neither: else the script is started once in this process's place, as it would have been without forks.
    """
    if (place := os.environ.pop(SOCKET_VARIABLE, None)) is None:
        return sys.argv[1:]
    ask_when_parent_dies(signal.SIGKILL)
    try:
        channel = _connected(Path(place))
    except OSError:  # the process that wanted the forks has ended
        os._exit(EXIT_FAILED)
    with importing():
        import_all()
    can_fork, parent = _can_fork(), os.getpid()
    _tell(channel, _CAN if can_fork else _CANNOT)
    for line in _lines(channel):
        request = json.loads(line)
        arguments: list[str] = request["arguments"]
        if not can_fork:
            variables = {**os.environ, **request["variables"]}
            os.execve(sys.executable, [sys.executable, sys.argv[0], *arguments], variables)  # noqa: S606 - itself
        sys.stdout.flush()
        sys.stderr.flush()
        if (child := os.fork()) == 0:
            channel.close()
            _become_script(parent, arguments, request["variables"])
            return arguments
        _tell(channel, f"{_ENDED} {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
    os._exit(EXIT_DONE)


def _become_script(parent: int, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """What differs between a fork and a process that has just started."""
    ask_when_parent_dies(signal.SIGKILL)  # until the script listens to signals
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)
    sys.argv[1:] = arguments
    os.environ.update(variables)


def _can_fork() -> bool:
    """Whether a fork of this process can do all that a new one can: it has no other thread, and has opened no GPU.

    A first fork ends the threads of libraries that know of forks and start them again, such as OpenBLAS.
    """
    if (child := os.fork()) == 0:
        os._exit(EXIT_DONE)
    os.waitpid(child, 0)
    if len(os.listdir("/proc/self/task")) > 1:
        return False
    for file in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{file}").startswith(_GPU_DEVICES):
                return False
    return True


class ForkingScript:
    """A script that a launcher has started, to be forked; one fork after another."""

    def __init__(self, launcher: Sequence[str], environment: Mapping[str, str], preexec: Callable[[], None]) -> None:
        """launcher: its command, with the script. preexec: called in the launcher before it is one."""
        self.command = list(launcher)
        self._channel: socket.socket | None = None
        self.can_fork: bool | None = None
        """None as long as the script has not reported it."""
        self._buffer = b""
        self._folder = tempfile.TemporaryDirectory(prefix="vwmm-")
        place = Path(self._folder.name) / "socket"
        self._listener = socket.socket(socket.AF_UNIX)
        with _short(place) as short:
            self._listener.bind(short)
        self._listener.listen(1)
        self.process = subprocess.Popen(
            self.command, env={**environment, SOCKET_VARIABLE: str(place)}, start_new_session=True, preexec_fn=preexec
        )

    def start(self, arguments: Sequence[str], variables: Mapping[str, str]) -> "Fork":
        """A fork of its own arguments, and environment variables beside those of all forks."""
        return Fork(self, json.dumps({"arguments": list(arguments), "variables": dict(variables)}))

    def is_ready(self) -> bool:
        """Whether it waits for the next request."""
        if not self.can_fork or self._channel is None or self.process.poll() is not None:
            return False
        return not select.select([self._channel], [], [], 0)[0]  # it has nothing to report, nor has it ended

    def tell(self, text: str) -> None:
        """Sends it a line; one that has ended gets none."""
        assert self._channel is not None
        with contextlib.suppress(OSError):
            _tell(self._channel, text)

    def read_line(self, timeout_s: float) -> str | None:
        """What it reports next; None once it has ended. Raises TimeoutExpired."""
        while b"\n" not in self._buffer:
            heard = self._listener if self._channel is None else self._channel
            if not select.select([heard], [], [], timeout_s)[0]:
                if self._channel is None and self.process.poll() is not None:
                    return None
                raise subprocess.TimeoutExpired(self.command, timeout_s)
            if self._channel is None:
                self._channel = self._listener.accept()[0]
                self._folder.cleanup()
            elif received := self._receive():
                self._buffer += received
            else:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def _receive(self) -> bytes:
        assert self._channel is not None
        try:
            return self._channel.recv(4096)
        except ConnectionError:
            return b""

    def close(self) -> None:
        """Ends it; a fork that still runs is stopped as by SIGTERM."""
        for one in (self._channel, self._listener):
            if one is not None:
                one.close()
        self._folder.cleanup()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_CLOSE_S)
            return
        self.process.kill()
        self.process.wait()


class Fork:
    """One run of a script, to be waited for as a `Popen` is."""

    def __init__(self, script: ForkingScript, request: str) -> None:
        self._script, self._request = script, request
        self.pid = script.process.pid
        """Of the launcher, which leads the group of all its processes."""
        self.returncode = EXIT_FAILED
        """The script's own; negative: the signal that killed it. Without a report from it, the launcher's."""
        self._is_over = False
        if script.can_fork:
            script.tell(request)

    def wait(self, timeout_s: float) -> int:
        """Raises TimeoutExpired."""
        while not self._is_over:
            line = self._script.read_line(timeout_s)
            if line in (_CAN, _CANNOT):
                self._script.can_fork = line == _CAN
                self._script.tell(self._request)
            elif line is None:  # killed, or started in the place of the process that cannot fork
                self.returncode = self._script.process.wait(timeout_s)
                self._is_over = True
            else:
                self.returncode = int(line.removeprefix(_ENDED))
                self._is_over = True
        return self.returncode


@contextlib.contextmanager
def _short(place: Path) -> Iterator[str]:
    """A name of at most 107 bytes, as sockets need it, for a place in a folder whose name may be longer."""
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{place.name}"
    finally:
        os.close(folder)


def _connected(place: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    with _short(place) as short:
        channel.connect(short)
    return channel


def _tell(channel: socket.socket, text: str) -> None:
    channel.sendall(f"{text}\n".encode())


def _lines(channel: socket.socket) -> Iterator[bytes]:
    """Each line that arrives, until the other side closes."""
    buffer = b""
    while received := channel.recv(4096):
        *lines, buffer = (buffer + received).split(b"\n")
        yield from lines
