"""Claim: a training starts in half of the CPU time of the commit before, and `vwmm train` in 1.2 times that.

Both sides are this repository: the tree as it is, and the commit --base, unpacked into a temporary folder. They take
turns with the same cohort and the same interpreter. What is measured is CPU time, user and system, of a command and of
all processes that it starts, however they end: from the first process to the end of the first optimizer step (of a
training, which is killed there with all its processes), or to the end of the command. The images are in the cache,
except in "predict, cache empty". A cross-validation, whose folds start as forks of one process, is compared with this
tree's own one that starts a program for each fold.

    python benchmarks/starts.py [--base COMMIT] [--rounds 5] [--only WORD]

Exits with 1 where one of the limits of this tree is not kept.
"""

import argparse
import ctypes
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "cf3c635"
PR_SET_CHILD_SUBREAPER = 36
FIRST_STEP = {"VWMM_FAULT": "step=1,phase=step,do=kill_all"}
NUM_TRAINED_ON, NUM_PREDICTED = 12, 300
MAX_RATIO, MAX_OF_LAUNCH, MAX_PREDICT_S, MAX_OF_SEPARATE = 0.5, 1.2, 5.0, 0.6
LAUNCH, TRAIN, PREDICT, EMPTY, FOLDS = (
    "accelerate launch, to the first step",
    "vwmm train, to the first step",
    "vwmm predict, 300 cases",
    "vwmm predict, 300 cases, cache empty",
    "vwmm cross_validate, 5 folds",
)
SEPARATE = (
    "import contextlib, sys; import vwmm.__main__ as vwmm, vwmm.cross_validate as folds\n"
    "folds.row_of_launches = contextlib.nullcontext\nvwmm.leave(vwmm.main(sys.argv[1:]))"
)


@dataclass(frozen=True)
class Start:
    """A command whose start is measured."""

    words: tuple[str, ...]
    """What follows the interpreter."""
    is_killed: bool = False
    """Whether it ends at its first step."""
    drops_cache: bool = False
    """Whether the predicted images are not in the cache."""


def cpu_seconds(start: Start, tree: Path, cwd: Path) -> float:
    """Of the command and all its descendants; raises RuntimeError where it fails."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "VWMM_"))}
    variables = clean | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"} | (FIRST_STEP if start.is_killed else {})
    words = [word.replace("TREE", str(tree)) for word in start.words]
    shutil.rmtree(cwd / "runs" / "start", ignore_errors=True)
    (cwd / "predictions.csv").unlink(missing_ok=True)
    if start.drops_cache and (cwd / "empty").exists():  # moved: ext4 searches long for inodes after many were freed
        (cwd / "empty").rename(cwd / f"full-{time.time_ns()}")
    before = _reaped()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *words], cwd=cwd, env=variables, stdout=output, stderr=output)
        code = process.wait()
        # What its launcher left behind has become a child of this process.
        while True:
            try:
                os.wait()
            except ChildProcessError:
                break
        output.seek(0)
        text = output.read().decode(errors="replace")
    if (code != 0) is not start.is_killed or (start.is_killed and "VWMM_FAULT: kill_all" not in text):
        raise RuntimeError(f"{' '.join(words)} ended with {code}:\n{text[-2000:]}")
    return _reaped() - before


def _reaped() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _toy(cwd: Path) -> tuple[str, ...]:
    """Arguments of a training of one epoch; makes its cohort."""
    if not (cwd / "trained_on").exists():
        _vwmm(cwd, "demo", "--out", "trained_on", "--cases", str(NUM_TRAINED_ON), "--size", "small")
    config = str(ROOT / "configs" / "demo.yaml")
    return ("--config", config, "data.csv=trained_on/cohort.csv", "train.epochs=1", "run.name=start")


def starts(cwd: Path) -> dict[str, Start]:
    """The commands, by what is printed; makes their cohorts, and the run that predicts."""
    toy = _toy(cwd)
    _vwmm(cwd, "demo", "--out", "predicted", "--cases", str(NUM_PREDICTED), "--size", "small")
    _vwmm(cwd, "train", *toy, "run.name=predicts")
    predict = ("-m", "vwmm", "predict", "runs/predicts", "predicted/cohort.csv", "--out", "predictions.csv")
    _vwmm(cwd, *predict[2:])
    return {
        LAUNCH: Start(("-m", "accelerate.commands.launch", "TREE/vwmm/train.py", *toy), is_killed=True),
        TRAIN: Start(("-m", "vwmm", "train", *toy), is_killed=True),
        "accelerate launch, to the end": Start(("-m", "accelerate.commands.launch", "TREE/vwmm/train.py", *toy)),
        "vwmm train, to the end": Start(("-m", "vwmm", "train", *toy)),
        PREDICT: Start(predict),
        EMPTY: Start((*predict, "cache.dir=empty"), drops_cache=True),
        "vwmm check": Start(("-m", "vwmm", "check", *toy)),
        "vwmm --help": Start(("-m", "vwmm", "--help")),
    }


def _vwmm(cwd: Path, *words: str) -> None:
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "vwmm", *words], cwd=cwd, env=variables, check=True, capture_output=True)


def measure_folds(cwd: Path, rounds: int) -> float:
    """Prints the cross-validation's line; its seconds divided by those with a start for each fold."""
    words = ("cross_validate", *_toy(cwd), "split.folds=5", "split.stratified=false")
    ways = {"-m": Start(("-m", "vwmm", *words)), "-c": Start(("-c", SEPARATE, *words))}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, start in (*ways.items(),) if turn % 2 else (*ways.items(),)[::-1]:
            used = cpu_seconds(start, ROOT, cwd)
            if turn:  # the first fills the cache
                seconds[way].append(used)
    forked, separate = (statistics.median(values) for values in seconds.values())
    line = f"{separate:6.2f} s -> {forked:6.2f} s   ratio {forked / separate:.2f}"
    print(f"{FOLDS:40}  {line} (a start for each fold -> forks)", flush=True)
    return forked / separate


def measure(base: str, rounds: int, only: str) -> dict[str, float]:
    """Prints a line per command; its seconds in this tree, and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        cwd, old = Path(folder) / "work", Path(folder) / "base"
        cwd.mkdir()
        old.mkdir()
        archive = subprocess.run(["git", "archive", base], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(old)], input=archive, check=True)
        found = {FOLDS: measure_folds(cwd, rounds)} if only in FOLDS else {}
        for name, start in (starts(cwd) if only not in FOLDS or not only else {}).items():
            if only not in name:
                continue
            seconds: dict[Path, list[float]] = {old: [], ROOT: []}
            for turn in range(rounds + 1):
                for tree in (old, ROOT) if turn % 2 else (ROOT, old):
                    used = cpu_seconds(start, tree, cwd)
                    if turn:  # the first writes bytecode and compiled loops
                        seconds[tree].append(used)
            before, now = (statistics.median(values) for values in seconds.values())
            print(f"{name:40}  {before:6.2f} s -> {now:6.2f} s   ratio {now / before:.2f}", flush=True)
            found[name] = now
            if name == LAUNCH:
                found["ratio"] = now / before
    return found


def main() -> int:
    """Prints the table; 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print(f"CPU seconds, {given.base} -> this tree, medians of {given.rounds}")
    found = measure(given.base, given.rounds, given.only)
    too_long = []
    if LAUNCH in found and found["ratio"] > MAX_RATIO:
        too_long.append(f"a start takes {found['ratio']:.2f} of before, more than {MAX_RATIO}")
    if LAUNCH in found and TRAIN in found:
        print(f"{'vwmm train / accelerate launch':40}  {found[TRAIN] / found[LAUNCH]:.2f}")
        if found[TRAIN] > MAX_OF_LAUNCH * found[LAUNCH]:
            too_long.append(f"`vwmm train` takes more than {MAX_OF_LAUNCH} times what `accelerate launch` takes")
    too_long += [
        f"{name} takes {found[name]:.1f} s, more than {MAX_PREDICT_S:.0f}"
        for name in (PREDICT, EMPTY)
        if found.get(name, 0.0) > MAX_PREDICT_S
    ]
    if found.get(FOLDS, 0.0) > MAX_OF_SEPARATE:
        too_long.append(f"folds take {found[FOLDS]:.2f} of separate starts, more than {MAX_OF_SEPARATE}")
    print("\n".join(too_long) or "all limits are kept")
    return bool(too_long)


if __name__ == "__main__":
    sys.exit(main())
