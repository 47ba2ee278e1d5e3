"""Claim: a step whose micro-batches are computed at once takes at most 1 / 1.8 (16 in twos) of the time it took.

One side is the tree of this file, the other an earlier commit (`--base`), each a training run of its own; they train
epochs in turns. Times are the process's CPU time with one thread; the ratio is that of the medians, with the quotients
of the single rounds around it. Peak memory is that of the whole process.

    python benchmarks/fused_step.py [--base COMMIT] [--rounds 9] [--full]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "cf3c635"  # the last commit that computed each micro-batch by itself
THIN = [
    "modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "modalities.ct.size=[32,32]",
    "model.backbone=densenet_thin", "model.hidden=[64]", "model.dropout=0.2", "train.epochs=1000",
    "augment.all.enabled=false",  # a cost of the input, with a benchmark of its own
]  # fmt: skip
SETTINGS = {
    "thin, 16 in twos": (64, [*THIN, "train.batch_size=16", "train.micro_batch_size=2"]),
    "thin, 8 in fours": (64, [*THIN, "train.batch_size=8", "train.micro_batch_size=4"]),
    "thin, 32 in fours": (64, [*THIN, "train.batch_size=32", "train.micro_batch_size=4"]),
}
FULL = {
    "full size, 4 in twos": (4, ["train.batch_size=4", "train.micro_batch_size=2", "train.epochs=1000", *THIN[-1:]])
}


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """A checkout of a commit beside this one."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


@dataclass(frozen=True)
class Measured:
    """What one side's training runs came to."""

    seconds: list[float]
    """CPU time of a step, a value for each round."""
    peak_mib: float
    """Peak memory of the process."""


def measure(choices: Mapping[str, tuple[Path, list[str]]], num_cases: int, rounds: int) -> dict[str, Measured]:
    """Both sides in turns, each a tree and its keys; the first round warms up."""
    sides = {}
    for name, (tree, overrides) in choices.items():
        command = [sys.executable, str(ROOT / "benchmarks" / "_step_side.py"), str(num_cases), *overrides]
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        sides[name] = subprocess.Popen(
            command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in sides}
    memory = {}
    for number in range(rounds + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            side = sides[name]
            assert side.stdin is not None
            assert side.stdout is not None
            print("go", file=side.stdin, flush=True)
            seconds, kilobytes = side.stdout.readline().split()
            memory[name] = int(kilobytes) / 1024
            times[name] += [float(seconds)] * (number > 0)
    for side in sides.values():
        side.communicate()
    return {name: Measured(times[name], memory[name]) for name in sides}


def report(measured: Mapping[str, Measured]) -> None:
    """One line for two sides: times, memory, the ratio of the medians and the quotients of the rounds."""
    (first, a), (second, b) = measured.items()
    before, now = statistics.median(a.seconds), statistics.median(b.seconds)
    quotients = sorted(x / y for x, y in zip(a.seconds, b.seconds, strict=True))
    print(
        f"  a step: {first} {before * 1e3:.1f} ms, {second} {now * 1e3:.1f} ms of CPU: ratio {before / now:.2f} "
        f"(rounds {quotients[0]:.2f} to {quotients[-1]:.2f}, n = {len(quotients)}); peak memory {a.peak_mib:.0f} and "
        f"{b.peak_mib:.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Prints one line for each setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--full", action="store_true", help="the default model and images as well (minutes)")
    arguments = parser.parse_args()
    with tree_of(arguments.base) as base:
        for title, (num_cases, overrides) in {**SETTINGS, **(FULL if arguments.full else {})}.items():
            print(title)
            choices = {"before": (base, overrides), "now": (ROOT, overrides)}
            report(measure(choices, num_cases, arguments.rounds))


if __name__ == "__main__":
    main()
