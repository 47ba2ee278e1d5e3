"""Claim: the demonstration, from start to report, takes at most 0.60 of the CPU time of a plain script.

One side is `accelerate launch vwmm/train.py` on the demonstration cohort, with an empty cache: checks, cache, training,
validation, checkpoints, report. The other is `_plain_script.py` under the same launcher: MONAI's CacheDataset, the same
networks, batch size and epochs, validation, and a saved state when it is the best; once as in MONAI's tutorials, and
once by a user who knows that metadata of tensors costs time in every layer. Without augmentation, then with the same
kinds of it. CPU time of all processes, in turns; the ratios are those of the medians.

    python benchmarks/end_to_end.py [--rounds 3] [--epochs 25] [--cases 300]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "launch" / "cpu.yaml")]


def cpu_seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """User and system time of a command and all that it started and waited for; the last line it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, text=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("epoch", "result"))]
    assert lines, done.stdout + done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, lines[-1]


def main() -> None:
    """Prints both sides and their ratio, without and with augmentation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--cases", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        demo = [sys.executable, "-m", "vwmm", "demo", "--out", str(folder / "demo"), "--cases", str(arguments.cases)]
        subprocess.run(demo, cwd=ROOT, check=True, capture_output=True)
        table = str(folder / "demo" / "cohort.csv")
        for augment in (False, True):
            times: dict[str, list[float]] = {"plain": [], "plain without metadata": [], "vwmm": []}
            for number in range(arguments.rounds):
                kind = f"{augment}-{number}"
                script = str(ROOT / "benchmarks" / "_plain_script.py")
                plain = [*LAUNCH, script, table, str(arguments.epochs), *["--augment"] * augment]
                commands = {
                    "plain": plain,
                    "plain without metadata": [*plain, "--no-metadata"],
                    "vwmm": [
                        *LAUNCH, str(ROOT / "vwmm" / "train.py"), f"data.csv={table}", "--config",
                        str(ROOT / "configs" / "demo.yaml"), f"train.epochs={arguments.epochs}", f"run.name={kind}",
                        f"cache.dir={folder / f'cache-{kind}'}", f"augment.all.enabled={str(augment).lower()}",
                    ],
                }  # fmt: skip
                for side in list(commands)[:: 1 if number % 2 else -1]:
                    seconds, line = cpu_seconds(commands[side], folder)
                    times[side].append(seconds)
                    print(f"  {side}: {seconds:.1f} s; {line}", flush=True)
            medians = {side: statistics.median(values) for side, values in times.items()}
            words = "with" if augment else "without"
            print(f"{words} augmentation, {arguments.epochs} epochs, CPU s, medians of {arguments.rounds}:")
            for side, seconds in medians.items():
                print(f"  {side} {seconds:.1f}; vwmm takes {medians['vwmm'] / seconds:.2f} of it", flush=True)


if __name__ == "__main__":
    main()
