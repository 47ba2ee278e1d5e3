"""Claim: CPU time and memory of each command grow linearly with the cohort.

Cohorts of real NIfTI files (24 x 24 x 12 and 32 x 32 voxels, all different, on average 2.6 images a case) of several
sizes. Both sides are this repository: the tree as it is, and the commit --base, unpacked into a temporary folder. They
take turns in one run. Measured are the CPU time, user and system, of a command with all processes that it starts, and
the largest sum of their memory (PSS, looked at five times a second). A training is killed at its first step, with all
images in the cache; so are they for `predict` and `evaluate`.

    python benchmarks/big_cohorts.py [--base COMMIT] [--cases 250,500] [--rounds 1] [--only WORD] [--nifti]

--base none measures this tree alone; --nifti only compares the reading of an uncompressed volume with nibabel's.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
BASE = "cb3b541"
PR_SET_CHILD_SUBREAPER = 36
FIRST_STEP = {"VWMM_FAULT": "step=1,phase=step,do=kill_all"}
SHAPES = {"vw_mri": (24, 24, 12), "mri": (32, 32), "ct": (32, 32)}
SHARE_MISSING = 0.2  # of mri and of ct
LOOK_S = 0.2
VOLUME, NIFTI_ROUNDS = (256, 256, 96), 31


@dataclass
class Used:
    """What a command took, round by round."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)

    def medians(self) -> tuple[float, float, float]:
        """CPU and wall seconds, MiB."""
        return statistics.median(self.cpu_s), statistics.median(self.wall_s), statistics.median(self.peak_mib)


def make_cohort(folder: Path, num_cases: int, seed: int) -> int:
    """Writes cohort.csv and its images; the number of images."""
    generator, rows, num_images = np.random.default_rng(seed), ["case,patient,label,site,vw_mri,mri,ct"], 0
    for name in SHAPES:
        (folder / name).mkdir(parents=True)
    for start in range(0, num_cases, 500):
        count = min(500, num_cases - start)
        voxels = {name: _anatomies(generator, count, shape, is_ct=name == "ct") for name, shape in SHAPES.items()}
        for number in range(count):
            cells = [f"c{start + number:06}", f"p{start + number:06}", "plaque" if number % 3 == 0 else "stable"]
            cells.append("ABCDE"[int(generator.integers(5))])
            for name in SHAPES:
                is_there = name == "vw_mri" or generator.random() >= SHARE_MISSING
                cells.append(f"{name}/{cells[0]}.nii" if is_there else "")
                if is_there:
                    (folder / cells[-1]).write_bytes(_nifti(SHAPES[name]) + voxels[name][number].tobytes(order="F"))
                    num_images += 1
            rows.append(",".join(cells))
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return num_images


def _anatomies(generator: np.random.Generator, count: int, shape: tuple[int, ...], *, is_ct: bool) -> np.ndarray:
    """(count, ...) int16: structures of several voxels, each image's own, and noise; no outline that all share."""
    values = generator.standard_normal((count, *(max(4, length // 3) for length in shape)))
    for axis, length in enumerate(shape, 1):
        places = np.linspace(0, values.shape[axis] - 1, length)
        weights = np.clip(1 - np.abs(places[:, None] - np.arange(values.shape[axis])), 0, None)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    noise = generator.normal(0, 5, values.shape)
    mean, spread, lowest = (-200, 300, -1024) if is_ct else (500, 120, 0)
    return np.rint(mean + spread * values + noise).clip(lowest, 3000).astype("<i2")


def _nifti(shape: tuple[int, ...]) -> bytes:
    """What stands before the voxels."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([0.5, 0.5, 1.0, 1.0]), code="scanner")
    header.set_xyzt_units("mm")
    header["magic"], header["vox_offset"], header["scl_slope"], header["scl_inter"] = b"n+1", 352, 1, 0
    return bytes(header.binaryblock) + bytes(4)


def commands(folder: Path) -> dict[str, tuple[str, ...]]:
    """The commands, by what is printed, in an order in which each finds what it needs."""
    sizes = ("modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "modalities.ct.size=[32,32]")
    config = ("--config", str(ROOT / "configs" / "demo.yaml"), f"data.csv={folder}/cohort.csv", *sizes)
    new = ("runs/first", f"{folder}/cohort.csv")
    return {
        "check": ("check", *config, "--out", "checked", "cache.dir=unused"),
        "split": ("split", f"data.csv={folder}/cohort.csv", "split.test_fraction=0.2", "--out", "split.csv", "--force"),
        "prepare": ("prepare", *config, "cache.dir=empty"),
        "train, to the first step": ("train", *config, "cache.dir=full", "run.name=start", "run.dir=runs"),
        "predict": ("predict", *new, "--out", "predictions.csv", "cache.dir=full"),
        "evaluate": ("evaluate", *new, "--new-patients", "--out", "evaluated", "cache.dir=full"),
    }


def run(words: tuple[str, ...], tree: Path, cwd: Path, used: Used | None) -> None:
    """Runs a command of `vwmm` and notes what it took; raises RuntimeError where it fails."""
    is_killed = "run.name=start" in words
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ACCELERATE_", "VWMM_"))}
    variables = clean | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"} | (FIRST_STEP if is_killed else {})
    for name in ("empty", "unused", "evaluated", "checked", "runs/start"):
        shutil.rmtree(cwd / name, ignore_errors=True)
    (cwd / "predictions.csv").unlink(missing_ok=True)
    before, began, peak = _reaped(), time.monotonic(), [0.0]
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", "vwmm", *words]
        process = subprocess.Popen(command, cwd=cwd, env=variables, stdout=output, stderr=output)
        done = threading.Event()
        looking = threading.Thread(target=_look, args=(peak, done))
        looking.start()
        code = process.wait()
        wall = time.monotonic() - began
        done.set()
        looking.join()
        with contextlib.suppress(ChildProcessError):
            while True:  # what its launcher left behind has become a child of this process
                os.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if "VWMM_FAULT: kill_all" not in text if is_killed else code != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {code}:\n{text[-2000:]}")
    if used is not None:
        used.cpu_s.append(_reaped() - before)
        used.wall_s.append(wall)
        used.peak_mib.append(peak[0] / 2**20)


def _reaped() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _look(peak: list[float], done: threading.Event) -> None:
    """Keeps the largest sum of the memory of all descendants; a page that several share counts once."""
    while not done.wait(LOOK_S):
        total = 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        peak[0] = max(peak[0], total)


def measure(sides: Mapping[str, Path], cwd: Path, num_cases: int, rounds: int, only: str) -> None:
    """Prints a line per command and side."""
    folder = cwd / f"cohort-{num_cases}"
    num_images = make_cohort(folder, num_cases, seed=num_cases)
    shutil.rmtree(cwd / "full", ignore_errors=True)
    own = commands(folder)
    time.sleep(2.5)  # the cache remembers no file that is younger than the grain of its clock
    if any(only in name for name in ("train, to the first step", "predict", "evaluate")):
        run((*own["prepare"][:-1], "cache.dir=full"), ROOT, cwd, None)
    for name, words in own.items():
        if only not in name:
            continue
        used = {side: Used() for side in sides}
        for turn in range(rounds):
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                run(words, sides[side], cwd, used[side])
        for side, one in used.items():
            cpu, wall, peak = one.medians()
            print(
                f"{num_cases:7,} {num_images:8,}  {name:25} {side:9} {cpu:8.2f} {1000 * cpu / num_cases:10.2f} "
                f"{1000 * cpu / num_images:9.2f} {wall:8.1f} {peak:9,.0f}",
                flush=True,
            )
    shutil.rmtree(folder)


def compare_nifti(folder: Path) -> None:
    """Prints how long an uncompressed volume takes to read here and by nibabel, both into memory as float32."""
    import nibabel

    from vwmm.data.readers.read import read_image

    path, generator = folder / "volume.nii", np.random.default_rng(0)
    path.write_bytes(_nifti(VOLUME) + generator.integers(0, 4000, VOLUME, dtype=np.int16).tobytes())

    def by_nibabel() -> np.ndarray:
        return np.asarray(nibabel.load(path, mmap=False).get_fdata(dtype=np.float32))

    def by_vwmm() -> np.ndarray:
        return read_image(path).voxels.astype(np.float32)

    np.testing.assert_array_equal(by_nibabel(), by_vwmm())
    times: dict[Callable[[], np.ndarray], list[float]] = {by_nibabel: [], by_vwmm: []}
    for turn in range(NIFTI_ROUNDS):
        for read in times if turn % 2 else reversed(times):
            began = time.process_time()
            read()
            times[read].append(1000 * (time.process_time() - began))
    theirs, ours = (statistics.median(own) for own in times.values())
    print(
        f"uncompressed NIfTI, {path.stat().st_size / 1e6:.1f} MB: nibabel {theirs:.2f} ms CPU, vwmm, which checks each "
        f"voxel, {ours:.2f} ms: ratio {ours / theirs:.2f}",
        flush=True,
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--cases", default="250,500", help="numbers of cases")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="commands whose name has this")
    parser.add_argument("--nifti", action="store_true")
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        cwd = Path(name) / "work"
        cwd.mkdir()
        compare_nifti(cwd)
        if given.nifti:
            return
        sides = {"this tree": ROOT}
        if given.base != "none":
            old = Path(name) / "base"
            old.mkdir()
            archive = subprocess.run(["git", "archive", given.base], cwd=ROOT, check=True, capture_output=True).stdout
            subprocess.run(["tar", "-x", "-C", str(old)], input=archive, check=True)
            sides = {given.base: old} | sides
        make_cohort(cwd / "first", 60, seed=0)
        first = commands(cwd / "first")["train, to the first step"]
        run((*first[:-2], "run.name=first", "train.epochs=1"), ROOT, cwd, None)
        head = ("cases", "images", "command", "side", "CPU s", "/1k cases", "ms/image", "wall s", "peak MiB")
        print("{:>7} {:>8}  {:25} {:9} {:>8} {:>10} {:>9} {:>8} {:>9}".format(*head))
        for num_cases in map(int, given.cases.split(",")):
            measure(sides, cwd, num_cases, given.rounds, given.only)


if __name__ == "__main__":
    main()
