"""Damaged files and tables without end, each read in a process with limits; whatever is no refusal in words is kept.

    python -m tests.data.fuzzing --minutes 10 --seed 0

An input depends on the seed and its number alone. Exit code 1 where something was found.
"""

import argparse
import os
import re
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.conftest import texts
from tests.data.making_dicom import write_slices
from tests.data.mutating import FORMATS, mutated, mutated_table, valid
from vwmm.config.schema import Data, Modality
from vwmm.data.cache.content_index import content_hash, identify
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.readers.read import ImageError, check_header, read_image

MAX_BYTES = 2**31
MAX_S = 10.0
KINDS = [*FORMATS, "series", "table"]
TWO = {"mri": Modality(dims=2, size=[32, 32]), "ct": Modality(dims=2, size=[32, 32])}
# What a refusal may not hold: addresses, places of libraries, and what it would say of memory that was asked for.
_ODD = re.compile(
    r"0x[0-9a-f]{5,}|site-packages|Traceback|MemoryError|bad_alloc|[Uu]nable to allocate|Failed to allocate"
)


@dataclass
class Outcome:
    """What a fuzzing found."""

    count: int = 0
    """Inputs that were read."""
    seconds: float = 0.0
    """How long it took."""
    peak_bytes: int = 0
    """The largest resident memory of a reading process."""
    read: Counter[str] = field(default_factory=Counter)
    """Inputs that were read as images or cohorts all the same, by kind."""
    findings: dict[str, list[str]] = field(default_factory=dict)
    """What went wrong, with the names of the inputs."""


def fuzz(
    seed: int, *, folder: Path, count: int | None = None, minutes: float | None = None, kinds: list[str] = KINDS
) -> Outcome:
    """Reads inputs 0, 1, ... of a seed, `count` of them or for some minutes; keeps what is found in `folder`."""
    outcome, begin, number = Outcome(), time.monotonic(), 0
    while (count is None or number < count) and (minutes is None or time.monotonic() - begin < 60 * minutes):
        stop = number + 500 if count is None else min(number + 500, count)
        number = _batch(seed, number, stop, kinds, folder, outcome)
    outcome.count, outcome.seconds = number, time.monotonic() - begin
    return outcome


def _batch(seed: int, start: int, stop: int, kinds: list[str], folder: Path, outcome: Outcome) -> int:
    """A process reads inputs `start` to `stop`; returns the number of the next one, earlier than `stop` if it died."""
    with tempfile.TemporaryDirectory() as scratch:
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ends[0])
            _child(seed, range(start, stop), kinds, Path(scratch), ends[1])
        os.close(ends[1])
        number = start
        try:
            while number < stop:
                is_ready, _, _ = select.select([ends[0]], [], [], MAX_S)
                word = os.read(ends[0], 4) if is_ready else b""
                if len(word) < 4:
                    break
                length = struct.unpack("<I", word)[0]
                text = b""
                while len(text) < length and (more := os.read(ends[0], length - len(text))):
                    text += more
                peak, is_read, found = text.decode("utf-8", "replace").split("\n", 2)
                outcome.peak_bytes = max(outcome.peak_bytes, int(peak))
                outcome.read[kinds[number % len(kinds)]] += is_read == "True"
                if found:
                    _keep(seed, number, found, Path(scratch), folder, outcome)
                number += 1
            else:
                is_ready = [0]
        finally:
            os.close(ends[0])
            if not is_ready:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if number < stop:
            why = f"more than {MAX_S:g} s" if not is_ready else f"died of {_cause(status)}"
            if why != "died of exit 3":
                _keep(seed, number, f"{kinds[number % len(kinds)]}: {why}", Path(scratch), folder, outcome)
                number += 1
    return number


def _cause(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def _keep(seed: int, number: int, found: str, scratch: Path, folder: Path, outcome: Outcome) -> None:
    name = f"{seed}-{number}"
    known = outcome.findings.setdefault(found, [])
    known.append(name)
    if len(known) <= 3:
        shutil.copytree(scratch / str(number), folder / name, symlinks=True, dirs_exist_ok=True,
                        ignore=lambda where, names: ["pipe"])  # fmt: skip


def _child(seed: int, numbers: range, kinds: list[str], scratch: Path, pipe: int) -> None:
    """Reads inputs and tells of each; never returns."""
    code = 0
    try:
        said = os.open(scratch / "said", os.O_CREAT | os.O_RDWR)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, errors="backslashreplace", closefd=False)
        warnings.simplefilter("always")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MAX_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in numbers:
            kind = kinds[number % len(kinds)]
            path = make_input(kind, np.random.default_rng([seed, number]), scratch / str(number))
            is_read, found = examine(kind, path)
            if os.fstat(said).st_size and not found:
                found = f"{kind}: printed: {(scratch / 'said').read_text(errors='replace')[:500]}"
            os.ftruncate(said, 0)
            os.lseek(said, 0, os.SEEK_SET)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if peak > MAX_BYTES and not found:
                found = f"{kind}: {peak:,} bytes of memory"
            text = f"{peak}\n{is_read}\n{found}".encode("utf-8", "backslashreplace")
            os.write(pipe, struct.pack("<I", len(text)) + text)
            if not found:
                shutil.rmtree(scratch / str(number))
            if peak > MAX_BYTES:
                code = 3
                break
    except BaseException:
        code = 4
        traceback.print_exc()
    os._exit(code)


def make_input(kind: str, rng: np.random.Generator, folder: Path) -> Path:
    """Writes an input of a kind; returns the path that is to be read."""
    folder.mkdir(parents=True)
    if kind == "table":
        for name in ("1.png", "2.png", "dir/3.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(valid("a.png"))
        (folder / "circle").symlink_to("circle")
        (folder / "out").symlink_to("/")
        os.mkfifo(folder / "pipe")
        (folder / "cohort.csv").write_bytes(mutated_table(rng))
        return folder / "cohort.csv"
    if kind == "series":
        series = folder / "series"
        paths = write_slices(series, count=3)
        damaged = mutated("a.dcm", rng)
        (paths[int(rng.integers(3))] if rng.random() < 0.7 else series / "more").write_bytes(damaged)
        return series
    path = folder / kind
    content = mutated(kind, rng)
    if kind == "a.mhd" and rng.random() < 0.5:
        (folder / "a.raw").write_bytes(content)
        content = valid("a.mha").partition(b"LOCAL")[0] + b"a.raw\n"
    path.write_bytes(content)
    return path


def examine(kind: str, path: Path) -> tuple[bool, str]:
    """Whether an input could be read, and what was wrong with how it was refused; empty: nothing."""
    try:
        refusals = _refusals_of_table(path) if kind == "table" else _refusals_of_image(path)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        return False, f"{kind}: {error.__class__.__name__}: {str(error)[:100]!a} at {where}"
    for text in refusals:
        if not all(c.isprintable() for c in text):
            return False, f"{kind}: not to be printed: {text[:300]!a}"
        if len(text) > 700:
            return False, f"{kind}: too long: {text[:300]!a}"
        if odd := _ODD.search(text):
            return False, f"{kind}: {odd[0]!a} in: {text[:300]!a}"
        if kind != "table" and str(path.parent) in text:
            return False, f"{kind}: its own path in: {text[:300]!a}"
    return not refusals, ""


def _refusals_of_image(path: Path) -> list[str]:
    functions: list[Callable[[Path], object]] = [check_header, read_image]
    refusals = []
    for function in functions:
        try:
            function(path)
        except ImageError as error:
            refusals.append(str(error))
    identify(path)
    content_hash(path)
    return refusals


def _refusals_of_table(path: Path) -> list[str]:
    cohort, problems = survey_cohort(Data(csv=str(path)), TWO)
    if cohort is not None:
        problems = problems + check_images(cohort, TWO, num_threads=1)
    assert all(text.startswith("cohort.csv") for text in texts(problems)), problems
    return texts(problems)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    outcome = fuzz(options.seed, folder=folder, minutes=options.minutes, kinds=options.kinds)
    for found, names in sorted(outcome.findings.items(), key=lambda item: -len(item[1])):
        print(f"{len(names)} times ({', '.join(names[:3])}): {found}")
    print(
        f"seed {options.seed}: {outcome.count:,} inputs in {outcome.seconds:,.0f} s, "
        f"{outcome.peak_bytes / 2**20:,.0f} MiB at most, {sum(outcome.read.values()):,} readable all the same, "
        f"{len(outcome.findings)} findings in {folder}"
    )
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
