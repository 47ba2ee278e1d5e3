"""Scripts that start as forks of one process: what they get, and what becomes of those that fail."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vwmm.engine.launch.forks import Fork, ForkingScript

POLL_S, TIMEOUT_S = 0.05, 60.0
SCRIPT = """
    import os, random, signal, sys, threading, time
    from vwmm.engine.launch import forks

    def import_all():
        with open("imported", "a") as stream:
            stream.write(".")
        {import_all}

    arguments = forks.script_arguments(import_all)
    assert sys.argv[1:] == arguments
    with open(arguments[0], "w") as stream:
        print(os.getppid(), os.environ["OWN"], forks.SOCKET_VARIABLE in os.environ, random.random(), file=stream)
    if "sleep" in arguments:
        time.sleep(600)
    if "die" in arguments:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(int(arguments[1]))
"""


class Scripts:
    """Makes scripts in a folder, and starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, list[ForkingScript]()

    def start(self, import_all: str = "pass") -> ForkingScript:
        """A script that forks."""
        path = self.folder / "script.py"
        path.write_text(textwrap.dedent(SCRIPT).format(import_all=import_all))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            self.started.append(ForkingScript([sys.executable, str(path)], environment, lambda: None))
        finally:
            os.chdir(before)
        return self.started[-1]

    def words(self, name: str) -> list[str]:
        """What a fork has written."""
        end = time.monotonic() + TIMEOUT_S
        while not (self.folder / name).is_file() or not (text := (self.folder / name).read_text()).endswith("\n"):
            assert time.monotonic() < end
            time.sleep(0.01)
        return text.split()


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    made = Scripts(tmp_path)
    yield made
    for one in made.started:
        one.close()


def wait(fork: Fork) -> int:
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        try:
            return fork.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("it does not end")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_forks_get_their_own_words_and_variables_and_one_import(scripts: Scripts) -> None:
    script = scripts.start()
    codes = [wait(script.start([f"out-{n}", str(n)], {"OWN": f"value-{n}"})) for n in range(3)]
    assert codes == [0, 1, 2]
    parents, own, has_socket, drawn = zip(*(scripts.words(f"out-{n}") for n in range(3)), strict=True)
    assert set(parents) == {str(script.process.pid)}
    assert own == ("value-0", "value-1", "value-2")
    assert set(has_socket) == {"False"}
    assert len(set(drawn)) == 3, "each draws names of temporary files of its own"
    assert (scripts.folder / "imported").read_text() == "."
    assert script.can_fork
    assert script.is_ready()


def test_killed_fork_leaves_the_next_one_alone(scripts: Scripts) -> None:
    script = scripts.start()
    assert wait(script.start(["out-0", "0", "die"], {"OWN": "x"})) == -signal.SIGKILL
    assert wait(script.start(["out-1", "0"], {"OWN": "x"})) == 0


@pytest.mark.parametrize(
    "import_all",
    [
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "forks._GPU_DEVICES = ('/dev/zero',); globals()['device'] = open('/dev/zero')",
    ],
    ids=["thread", "gpu"],
)
def test_process_with_threads_or_a_gpu_becomes_the_script_instead(scripts: Scripts, import_all: str) -> None:
    script = scripts.start(import_all)
    assert wait(script.start(["out", "3"], {"OWN": "x"})) == 3
    assert script.can_fork is False
    assert scripts.words("out")[:3] == [str(os.getpid()), "x", "False"]
    assert not script.is_ready()


def test_fork_ends_with_the_process_that_forked_it(scripts: Scripts) -> None:
    script = scripts.start()
    fork = script.start(["out", "0", "sleep"], {"OWN": "x"})
    while not (scripts.folder / "out").exists():
        with pytest.raises(subprocess.TimeoutExpired):
            fork.wait(POLL_S)
    (child,) = Path(f"/proc/{script.process.pid}/task/{script.process.pid}/children").read_text().split()
    script.process.kill()
    assert wait(fork) == -signal.SIGKILL
    end = time.monotonic() + TIMEOUT_S
    while is_alive(int(child)):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not script.is_ready()


def test_closed_script_ends_and_leaves_no_folder(scripts: Scripts) -> None:
    script = scripts.start()
    assert wait(script.start(["out", "0"], {"OWN": "x"})) == 0
    script.close()
    assert script.process.returncode == 0
    assert not Path(script._folder.name).exists()


def test_script_that_cannot_start_is_reported_by_its_code(tmp_path: Path) -> None:
    script = ForkingScript([sys.executable, "-c", "raise SystemExit(5)"], dict(os.environ), lambda: None)
    assert wait(script.start(["x"], {})) == 5
    assert not script.is_ready()
    script.close()


def test_folder_for_temporary_files_may_have_a_long_name(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert wait(scripts.start().start(["out", "0"], {"OWN": "x"})) == 0
