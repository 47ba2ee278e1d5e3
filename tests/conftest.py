"""One synthetic cohort and one trained run for all tests, and the ways to start vwmm as a user does."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.warm_start import WarmPopen
from vwmm.system.problems import Problem
from vwmm.system.signals import SIGNALS, STOP

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

# A model and images that train in seconds on one core.
TINY = [
    "modalities.vw_mri.size=[32,32,32]",
    "modalities.mri.size=[32,32]",
    "modalities.ct.size=[32,32]",
    "model.backbone=densenet_thin",
    "model.hidden=[16]",
    "model.dropout=0.2",
    "train.epochs=2",
    "train.batch_size=8",
    "train.lr=0.002",
]


def texts(problems: Iterable[Problem]) -> list[str]:
    """The problems as the lines that are printed."""
    return [problem.text for problem in problems]


# Those with the longest tests come first: the last workers then do not wait for one file.
LONGEST = ("tests/launch", "tests/faults", "tests/slurm", "tests/commands")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the files; within one the order stays."""
    places = {item.nodeid: item.nodeid.split("::")[0] for item in items}
    items.sort(key=lambda item: next((n for n, f in enumerate(LONGEST) if places[item.nodeid].startswith(f)), 9))


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A command that a test ran in this process no longer listens to signals when the test ends."""
    before, handlers = dict(vars(STOP)), {number: signal.getsignal(number) for number in SIGNALS}
    yield
    if vars(STOP) != before:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        vars(STOP).clear()
        vars(STOP).update(before)


def run_command(
    *arguments: str | Path, cwd: Path, launcher: Sequence[str] = (), timeout_s: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`vwmm ARGUMENTS`, or with a launcher `accelerate launch LAUNCHER ARGUMENTS`, in a process of its own."""
    start = ["accelerate.commands.launch", *launcher] if launcher else ["vwmm"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "WANDB_", "VWMM_"))}
    variables = {**clean, "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **environment}
    process = WarmPopen(
        [sys.executable, "-m", *start, *map(str, arguments)],
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # each process says where it is
        stdout, stderr = process.communicate(timeout=60)
        pytest.fail(f"{arguments} did not end within {timeout_s} s:\n{stdout}\n{stderr}")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def without_origin(page: str) -> str:
    """A page without what differs from command to command: date, version, commit and command."""
    head, tail = page.split('<dl class="origin">')
    return head + tail.split("</dl>", 1)[1]


def read_metrics(run: Path, event: str) -> list[dict[str, Any]]:
    """The records of one kind in a run's metrics.jsonl."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["event"] == event]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """What `make` makes in a folder, once for all workers of pytest-xdist: they read it, and change nothing in it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = shared / f"{name}.made"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder = shared / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            made.write_text(str(make(folder)))
    return Path(made.read_text())


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of 36 synthetic cases on disk, some images missing: NIfTI and DICOM files."""
    from vwmm.data.synthetic.phantom import make_cohort

    def make(folder: Path) -> Path:
        return make_cohort(folder / "demo", cases=36, missing=0.15, sites=2, seed=3)

    return made_once(tmp_path_factory, "cohort", make)


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path
    """The run folder."""
    cwd: Path
    """Where it was started."""
    process: subprocess.CompletedProcess[str]
    """How it went."""


@pytest.fixture(scope="session")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`vwmm train` of the tiny recipe on one process, with W&B offline."""
    cwd = tmp_path_factory.mktemp("trained")
    process = run_command(
        "train", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *TINY, "run.name=tiny",
        "tracking.trackers=[wandb]", "tracking.mode=offline", cwd=cwd,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return Trained(cwd / "runs" / "tiny", cwd, process)
