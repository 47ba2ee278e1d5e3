"""Fault injection for tests (VWMM_FAULT).

    VWMM_FAULT="rank=1,step=37,phase=backward,do=kill" vwmm train ...
    VWMM_FAULT="phase=save,step=40,do=full;step=60,do=term" vwmm train ...

Each fault is a list of conditions and what to do when all of them hold; several are separated by semicolons.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vwmm.system.errors import UserError

VARIABLE = "VWMM_FAULT"
PHASES = (
    "cache", "resume", "read", "forward", "backward", "reduce", "update", "step", "copy", "save", "validate", "report",
    "wait", "look",
)  # fmt: skip
ACTIONS = {
    "kill": "SIGKILL to this process",
    "kill_launcher": "SIGKILL to its parent, the launcher",
    "kill_all": "SIGKILL to the launcher, this process and its siblings",
    "term": "SIGTERM to this process",
    "usr1": "SIGUSR1 to this process",
    "int": "SIGINT to this process",
    "stop": "SIGSTOP to this process: it hangs, its threads included",
    "hang": "sleeps for ever in this thread",
    "raise": "raises RuntimeError",
    "full": "raises OSError, as a full disk does",
    "nan": "makes what is computed in this phase NaN (forward: the loss; backward: a gradient)",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is to go wrong."""

    do: str
    """What happens: one of ACTIONS."""
    phase: str = "step"
    """Where: one of PHASES."""
    rank: int | None = None
    """On which process; None: on every one."""
    step: int | None = None
    """In which step; None: the first time that the phase is reached."""
    case: str | None = None
    """While which case is read (phase=read) or cached (phase=cache)."""
    once: Path | None = None
    """A file that is made when it happens; while it exists, it does not happen again."""


def parse_faults(text: str) -> list[Fault]:
    """The faults in a value of VWMM_FAULT. Raises UserError."""
    faults, problems = [], []
    for part in filter(None, (word.strip() for word in text.split(";"))):
        fields = dict(word.partition("=")[::2] for word in part.split(","))
        unknown = set(fields) - set(Fault.__dataclass_fields__)
        numbers = [fields[key] for key in ("rank", "step") if key in fields]
        if unknown:
            problems.append(f"{VARIABLE}: {part}: unknown {', '.join(sorted(unknown))}; expected rank, step, phase, do")
        elif fields.get("do") not in ACTIONS:
            problems.append(f"{VARIABLE}: {part}: expected do={'|'.join(ACTIONS)}")
        elif fields.get("phase", "step") not in PHASES:
            problems.append(f"{VARIABLE}: {part}: expected phase={'|'.join(PHASES)}")
        elif not all(number.isascii() and number.isdigit() for number in numbers):
            problems.append(f"{VARIABLE}: {part}: rank and step are numbers")
        elif "once" in fields and not Path(fields["once"]).absolute().parent.is_dir():
            problems.append(f"{VARIABLE}: {part}: the folder of once={fields['once']} does not exist")
        else:
            faults.append(
                Fault(
                    do=fields["do"],
                    phase=fields.get("phase", "step"),
                    rank=int(fields["rank"]) if "rank" in fields else None,
                    step=int(fields["step"]) if "step" in fields else None,
                    case=fields.get("case"),
                    once=Path(fields["once"]) if "once" in fields else None,
                )
            )
    if problems:
        raise UserError(problems)
    return faults


class FaultInjector:
    """Injects the faults that the environment sets."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._waiting = parse_faults(environment.get(VARIABLE, ""))
        self._rank = int(environment.get("RANK", "0"))

    @property
    def make_nan(self) -> bool:
        """Whether one of the faults makes something NaN."""
        return any(fault.do == "nan" for fault in self._waiting)

    def at(self, phase: str, *, step: int | None = None, case: str | None = None) -> bool:
        """Called wherever something can go wrong; whether what is computed here is to be NaN."""
        if not self._waiting:
            return False
        for fault in self._waiting:
            if (
                fault.phase == phase
                and fault.rank in (None, self._rank)
                and fault.step in (None, step)
                and fault.case in (None, case)
                and not (fault.once is not None and fault.once.exists())
            ):
                self._waiting.remove(fault)
                if fault.once is not None:
                    fault.once.touch()
                return _do(fault, f"{phase}, step {step}")
        return False


def _do(fault: Fault, place: str) -> bool:
    print(f"{VARIABLE}: {fault.do} on process {os.environ.get('RANK', '0')} in {place}", file=sys.stderr, flush=True)
    if fault.do == "nan":
        return True
    if fault.do == "raise":
        raise RuntimeError(f"a rehearsed fault in {place}")
    if fault.do == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fault.do == "hang":
        while True:
            time.sleep(3600)
    signals = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "usr1": signal.SIGUSR1, "int": signal.SIGINT}
    if fault.do in ("kill_launcher", "kill_all"):
        siblings = _children(os.getppid()) if fault.do == "kill_all" else []
        os.kill(os.getppid(), signal.SIGKILL)
        for process in siblings:
            os.kill(process, signal.SIGKILL)
    else:
        os.kill(os.getpid(), signals.get(fault.do, signal.SIGSTOP))
    return False


def _children(parent: int) -> list[int]:
    """This process last."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    found = [int(word) for task in tasks for word in task.read_text().split()]
    return [process for process in found if process != os.getpid()] + [os.getpid()]


FAULTS = FaultInjector(os.environ)
