"""A corpus of malformed inputs through the user's command: each is named with its line and a reason, within limits."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, texts
from tests.data.fuzzing import KINDS, fuzz
from tests.data.making_malformed import SUFFIXES, Entry, write_images
from tests.data.making_malformed_tables import FINE, MALFORMED, NO_FILES, write_tables
from tests.data.mutating import valid
from vwmm.config.schema import Data, Modality
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.read_cases import survey_cohort

MAX_BYTES = 2**31
ONE = ["modalities.vw_mri=null", "modalities.ct=null", "modalities.mri.dims=2", "modalities.mri.size=[32,32]"]
# Nothing of this is for a user.
INNARDS = re.compile(r"Traceback|site-packages|0x[0-9a-f]{5}|Warning|\.py\b|[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
# What every command that reads a table does first.
CHECK_EACH = """
import json, signal, sys
from vwmm.check import counts
from vwmm.system.errors import UserError, format_problems
from vwmm.config.loading import load_config
from vwmm.data.checks.preflight import check_config
told = {}
for name in sys.argv[2:]:
    signal.alarm(30)
    try:
        cohort, assigned = check_config(load_config([], [f"data.csv={name}.csv", *sys.argv[1].split()]))
        told[name] = [0, "", f"{len(cohort.cases)} cases\\n" + "\\n".join(counts(cohort, assigned))]
    except UserError as error:
        told[name] = [2, format_problems(error.problems, limit=None), ""]
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    """Its exit code."""
    out: str
    """What it wrote for people and programs, both together."""
    peak_bytes: int
    """Its largest resident memory."""


def run_limited(
    arguments: list[str], cwd: Path, *, variables: Mapping[str, str] | None = None, timeout_s: float = 120
) -> Ended:
    """Python with a limit of time; its memory is measured."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(variables or {})}
    with (cwd.parent / "out.txt").open("w+") as out:
        process = subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, stdout=out, stderr=out)
        begin, peak_bytes = time.monotonic(), 0
        while process.poll() is None:
            if time.monotonic() - begin > timeout_s:
                process.kill()
                pytest.fail(f"{arguments[:3]} did not end within {timeout_s} s")
            peak_bytes = max(peak_bytes, memory_of(process.pid))
            time.sleep(0.01)
        out.seek(0)
        return Ended(process.returncode, out.read(), peak_bytes)


def memory_of(process: int) -> int:
    """The most bytes that were resident; its rusage would have those of this process, from which it was forked."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below a folder."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    folder = tmp_path_factory.mktemp("malformed") / "hospital"
    return folder, write_images(folder)


def problems_by_line(result: Path) -> dict[int, str]:
    """What check.json says of each line of cohort.csv."""
    findings = json.loads(result.read_text())["findings"]
    return {finding["line"]: f"{finding['file']}: {finding['found']}" for finding in findings}


def as_shown(path: str) -> str:
    """A path within a message: long ones are cut, control characters are written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in path)[:100]


def test_the_corpus_is_large() -> None:
    """Of images there are more than a hundred besides: the tests below count them."""
    assert len(MALFORMED) + len(NO_FILES) >= 60
    assert len(FINE) >= 15


def test_each_malformed_image_is_named_with_its_line_by_one_check(images: tuple[Path, list[Entry]]) -> None:
    folder, entries = images
    assert len(entries) >= 200
    before = snapshot(folder)

    ended = run_limited(["-m", "vwmm", "check", "data.csv=cohort.csv", "--out", "../checked", *ONE], folder)

    assert ended.code == 2, ended.out
    assert not INNARDS.search(ended.out), INNARDS.findall(ended.out)
    assert ended.peak_bytes < MAX_BYTES
    assert snapshot(folder) == before
    assert {path.name for path in folder.parent.iterdir()} == {"hospital", "outside", "checked", "out.txt"}
    assert sorted(path.name for path in (folder.parent / "checked").iterdir()) == ["check.json", "report.html"]
    problems, wrong = problems_by_line(folder.parent / "checked" / "check.json"), []
    for entry in entries:
        problem = problems.pop(entry.line, "NOT REFUSED")
        if as_shown(entry.path) not in problem or not re.search(entry.reason, problem):
            wrong.append(f"line {entry.line}: {entry.path[:60]!r}: expected {entry.reason!r}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert not problems
    page = (folder.parent / "checked" / "report.html").read_text()
    assert not re.search(r"Traceback|site-packages|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """What `vwmm check` says of every table: exit code, problems, summary."""
    folder = tmp_path_factory.mktemp("tables") / "hospital"
    write_tables(folder)
    before = snapshot(folder)

    ended = run_limited(["-c", CHECK_EACH, " ".join(ONE), *MALFORMED, *FINE, *NO_FILES], folder)

    assert ended.code == 0, ended.out[-2000:]
    assert snapshot(folder) == before
    assert ended.peak_bytes < MAX_BYTES
    (line,) = ended.out.splitlines()
    told: dict[str, tuple[int, str, str]] = json.loads(line)
    return told


@pytest.mark.parametrize("name", MALFORMED)
def test_each_malformed_table_is_named_with_its_line(name: str, told: dict[str, tuple[int, str, str]]) -> None:
    code, problems, _ = told[name]

    assert code == 2
    assert re.search(rf"^  - {name}\.csv(:| line \d+:)", problems, re.MULTILINE), problems
    assert re.search(MALFORMED[name][1], problems), problems
    assert not INNARDS.search(problems)
    assert max(len(line) for line in problems.splitlines()) < 400


@pytest.mark.parametrize("name", NO_FILES)
def test_a_path_that_is_no_table_is_named(name: str, told: dict[str, tuple[int, str, str]]) -> None:
    code, problems, _ = told[name]

    assert code == 2
    assert re.search(NO_FILES[name], problems), problems
    assert not INNARDS.search(problems)


@pytest.mark.parametrize("name", FINE)
def test_what_is_odd_but_fine_reads_right(name: str, told: dict[str, tuple[int, str, str]]) -> None:
    code, problems, summary = told[name]

    assert (code, problems) == (0, "")
    assert summary.startswith("4 cases\n")
    assert re.findall(r"^  (\w)\s+1\s+1$", summary, re.MULTILINE) == ["a", "b"]
    assert "mri: 4 images, 0 missing" in summary


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that everybody may look into, and no right to read what nobody may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def without_rights(function: Callable[[], list[str]]) -> list[str]:
    """The result of a function that is called as nobody, if we are root."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        return function()
    finally:
        if was_root:
            os.seteuid(0)


def test_what_may_not_be_read_is_named(unprivileged: Path) -> None:
    write_tables(unprivileged / "tables")
    table, folder = unprivileged / "tables" / "plain.csv", unprivileged / "tables" / "series"
    shutil.copy(folder.parent / "1.png", folder.parent / "2.png")
    folder.mkdir()
    (folder.parent / "shut").mkdir()
    table.write_text(table.read_text().replace("p1,a,1", "p1,a,2").replace("p2,a,1.png", "p2,a,series").replace(
        "p3,b,1.png", "p3,b,shut/1.png"))  # fmt: skip
    for path in (folder, folder.parent / "2.png", folder.parent / "shut"):
        path.chmod(0)
    data, modalities = Data(csv=str(table)), {"mri": Modality(dims=2, size=[32, 32])}

    def problems() -> list[str]:
        cohort, found = survey_cohort(data, modalities)
        return texts(found + ([] if cohort is None else check_images(cohort, modalities)))

    assert without_rights(problems) == [
        "plain.csv line 4: case c3: mri shut/1.png: Permission denied",
        "plain.csv line 2: case c1: mri 2.png: cannot be read as picture: Permission denied",
        "plain.csv line 3: case c2: mri series: cannot be read as dicom series: Permission denied",
    ]
    table.chmod(0)
    assert without_rights(problems) == [f"data.csv: {table} cannot be read: Permission denied"]


def test_letters_that_a_machine_cannot_write_are_no_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    write_tables(folder)
    (folder / "a.csv").write_text((folder / "plain.csv").read_text().replace("p1,a,1", "p1,a,\u00e4"), encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    ended = run_limited(["-m", "vwmm", "check", "data.csv=a.csv", *ONE], folder, variables=plain)

    assert ended.code == 2
    assert "mri \\xe4.png: no name of a file; is the language of this machine set to UTF-8?" in ended.out
    assert not INNARDS.search(ended.out)


@pytest.mark.parametrize("name", [name for name in SUFFIXES if name not in ("a.nii", "a.nii.gz")])
def test_what_follows_an_image_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hospital" / name
    path.parent.mkdir()
    path.write_bytes(valid(name))
    with path.open("ab") as stream:
        stream.truncate(2**36)  # zeros without room on the disk
    script = "import sys, pathlib; from vwmm.data.readers.read import *; p = pathlib.Path(sys.argv[1])"

    ended = run_limited(["-c", f"{script}; print(check_header(p) == read_image(p).voxels.shape)", str(path)], tmp_path)

    assert (ended.code, ended.out) == (0, "True\n")
    assert ended.peak_bytes < 2**29


def test_a_few_hundred_mutated_inputs_give_no_finding(tmp_path: Path) -> None:
    outcome = fuzz(0, folder=tmp_path, count=25 * len(KINDS))

    assert not outcome.findings
    assert outcome.count == 25 * len(KINDS)
    assert set(outcome.read) == set(KINDS)
    assert sum(outcome.read.values()) > 25
    assert outcome.peak_bytes < MAX_BYTES


def test_the_fuzzer_finds_what_is_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(path: Path) -> None:
        size = path.stat().st_size
        if size % 4 == 0:
            raise KeyError("put there")
        if size % 4 == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if size % 4 == 2:
            print("a line", flush=True)

    monkeypatch.setattr("tests.data.fuzzing.check_header", fault)

    outcome = fuzz(0, folder=tmp_path, count=40, kinds=["a.nii"])

    found = " ".join(outcome.findings)
    assert "a.nii: KeyError: " in found
    assert "a.nii: died of signal 9" in found
    assert "a.nii: printed: a line" in found
    assert list(tmp_path.glob("*/a.nii"))


def test_memory_is_measured(tmp_path: Path) -> None:
    ended = run_limited(["-c", "import time; x = bytearray(300_000_000); time.sleep(0.3)"], tmp_path)

    assert 300_000_000 < ended.peak_bytes < 400_000_000
