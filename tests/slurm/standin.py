#!/usr/bin/env python3
"""Stands for Python and vwmm in a job: starts in no time, and needs seconds to save.

STANDIN=save (the default) waits until it is told to stop, saves, and ends with 75; `save-at-TERM` hears nothing else,
and `save-for-minutes` takes longer. `0,1` ends with 0 on the first node and with 1 on the second; `75+6` ends after six
seconds, and `kill` is killed with all that the task is. A second start ends with 0, but for `1!`.
"""

import os
import signal
import sys
import time

SAVING_S = 6.0
SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TOO_LONG_S = 200.0


def say(text: str) -> None:
    print(f"node {os.environ['SLURM_NODEID']} {text}", flush=True)


def save(numbers: tuple[int, ...], saving_s: float) -> int:
    """Until a signal comes, and then what a checkpoint takes."""
    told: list[int] = []
    for number in numbers:
        signal.signal(number, lambda number, _: told.append(number))
    say("listens")
    end = time.monotonic() + TOO_LONG_S
    while not told and time.monotonic() < end:
        time.sleep(0.05)
    end = time.monotonic() + saving_s
    while time.monotonic() < end:
        time.sleep(0.05)
    say(f"saved, told {signal.Signals(told[0]).name}")
    return 75


def end_as(told: str) -> int:
    """`75`, `75+6` or `kill`."""
    code, _, after_s = told.removesuffix("!").partition("+")
    time.sleep(float(after_s or 0))
    if code == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    say(f"ends with {code}")
    return int(code)


def main() -> int:
    if sys.argv[1] == "-c":  # job.bash asks for a free port
        exec(sys.argv[2])
        return 0
    names = ("VWMM_NUM_PROCESSES", "CUDA_VISIBLE_DEVICES")
    say(" ".join(["runs", *sys.argv[1:], *(f"{name}={os.environ.get(name)}" for name in names)]))
    ways = os.environ.get("STANDIN", "save").split(",")
    way = ways[int(os.environ["SLURM_NODEID"]) % len(ways)]
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) and not way.endswith("!"):
        say("goes on")
        return 0
    if way.startswith("save"):
        numbers = (signal.SIGTERM,) if way == "save-at-TERM" else SIGNALS
        return save(numbers, TOO_LONG_S if way == "save-for-minutes" else SAVING_S)
    return end_as(way)


if __name__ == "__main__":
    sys.exit(main())
