"""Filling the cache by several workers and processes, some of them killed: nothing is wrong, lost or done twice."""

import hashlib
import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.data.making import FLAT, SOLID, make_store, numbers, write_nifti
from vwmm.config.presets import PRESETS, cut_to_dims, with_preset
from vwmm.config.schema import Cache, Modality
from vwmm.data.cache import build as build_module
from vwmm.data.cache.build import Failure, Job, build
from vwmm.data.cache.store import Entry
from vwmm.data.transforms.preprocess import load_input
from vwmm.system.errors import RunError

MODALITIES = {"solid": SOLID, "flat": FLAT}
# How often each preset is tried with several threads: VWMM_REHEARSALS=20 is the long form.
REHEARSALS = int(os.environ.get("VWMM_REHEARSALS", "1"))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Six volumes, each used by two modalities, and the first one again under another name."""
    images = [write_nifti(tmp_path / f"{seed}.nii.gz", numbers(10, 9, 8, seed=seed)) for seed in range(6)]
    images.append(write_nifti(tmp_path / "copy.nii.gz", numbers(10, 9, 8, seed=0)))
    return [Job(image, name) for image in images for name in MODALITIES]


@pytest.mark.parametrize("kind", ["one", "threads", "processes"])
def test_every_image_is_built_once_and_in_order(
    kind: str, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "MAX_THREADS", 1 if kind == "processes" else 8)
    monkeypatch.setattr(build_module, "MIN_IMAGES_PER_PROCESS", 1)
    cache, calls = Cache(dir=str(tmp_path / "cache")), []

    results = build(
        cache, MODALITIES, jobs, num_workers=1 if kind == "one" else 2, each=lambda: calls.append(os.getpid())
    )

    assert len(calls) == len(jobs)
    for job, entry in zip(jobs, results, strict=True):
        assert isinstance(entry, Entry)
        assert entry.image == job.image
        np.testing.assert_array_equal(np.load(entry.path), load_input(job.image, MODALITIES[job.modality]))
    built = [entry for entry in results if isinstance(entry, Entry) and entry.was_built]
    assert len(built) == len({entry.key for entry in built}) == 12  # the copy is the same image
    again = build(cache, MODALITIES, jobs, num_workers=2)
    assert not any(entry.was_built for entry in again if isinstance(entry, Entry))


def test_every_image_that_fails_says_why(jobs: list[Job], tmp_path: Path) -> None:
    jobs[2].image.write_bytes(b"nonsense")
    jobs[4].image.unlink()

    results = build(Cache(dir=str(tmp_path / "cache")), MODALITIES, jobs, num_workers=2)

    failures = {number: result.reason for number, result in enumerate(results) if isinstance(result, Failure)}
    assert set(failures) == {2, 3, 4, 5}
    assert "not a gzip file" in failures[2]
    assert "No such file" in failures[4]


def test_an_image_that_no_library_expected_is_named(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vwmm.data.cache.store.load_input", mock.Mock(side_effect=np.linalg.LinAlgError("singular")))

    (result,) = build(Cache(dir=str(tmp_path / "cache")), MODALITIES, jobs[:1], num_workers=1)

    assert result == Failure("cannot be transformed: LinAlgError: singular")


def test_a_store_that_cannot_be_written_stops_everything_at_once(jobs: list[Job], tmp_path: Path) -> None:
    (tmp_path / "cache").touch()

    calls: list[int] = []
    results = build(Cache(dir=str(tmp_path / "cache")), MODALITIES, jobs, num_workers=1, each=lambda: calls.append(1))

    assert len(calls) == len(jobs)  # nobody waits for what will not come
    assert {result.is_cache_error for result in results if isinstance(result, Failure)} == {True}
    assert len(results) == len(jobs)


def build_and_log(folder: str, log: str) -> None:
    """A process that builds everything in a folder, noting in a log when it begins and has finished a transform."""
    jobs = [Job(image, "solid") for image in sorted(Path(folder).glob("*.nii"))]

    def note(event: str, image: Path) -> None:
        with open(log, "a") as stream:
            stream.write(f"{event} {os.getpid()} {image.name}\n")

    def load(image: Path, *arguments: object, **options: object) -> np.ndarray:
        note("begin", image)
        array = load_input(image, SOLID)
        time.sleep(0.02)
        note("end", image)
        return array

    with mock.patch("vwmm.data.cache.store.load_input", load):
        results = build(Cache(dir=f"{folder}/cache"), MODALITIES, jobs, num_workers=2)
    assert all(isinstance(result, Entry) for result in results)


@pytest.mark.parametrize("attempt", range(10))
def test_two_processes_finish_what_a_killed_third_began(attempt: int, tmp_path: Path) -> None:
    images = [write_nifti(tmp_path / f"{seed:02}.nii", numbers(10, 9, 8, seed=seed)) for seed in range(24)]
    log = tmp_path / "log.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.data.cache.test_build"])
    workers = [context.Process(target=build_and_log, args=(str(tmp_path), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    while not log.exists() or len(log.read_text().splitlines()) < 2:
        time.sleep(0.001)
    time.sleep(random.Random(attempt).uniform(0, 0.2))
    killed = workers[attempt % 3]
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers if worker is not killed] == [0, 0]

    store = make_store(tmp_path / "cache")
    recipe = store.recipe(SOLID)
    for image in images:
        entry = store.entry(image, recipe)
        assert not entry.was_built
        np.testing.assert_array_equal(np.load(entry.path), load_input(image, SOLID))
    begun = Counter(line.split()[2] for line in log.read_text().splitlines() if line.startswith("begin"))
    by_killed = [line.split() for line in log.read_text().splitlines() if f" {killed.pid} " in line]
    # In hand when it was killed: begun and not put in its place yet, one for each of its two threads.
    twice = [name for name, count in begun.items() if count > 1]
    assert set(begun) == {image.name for image in images}
    assert max(begun.values()) <= 2
    assert len(twice) <= 2
    assert set(twice) <= {name for _, _, name in by_killed[-4:]}
    assert not list(store.folder.glob("??/.*"))  # whoever built them again has taken the leftovers' place


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, jobs: list[Job]) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from unittest import mock\n"
        "from pathlib import Path\n"
        "from vwmm.config.schema import Cache, Modality\n"
        "from vwmm.data.cache import build\n"
        "def main():\n"
        "    build.MAX_THREADS = build.MIN_IMAGES_PER_PROCESS = 1\n"
        "    jobs = [build.Job(path, 'solid') for path in sorted(Path(sys.argv[1]).glob('*.nii.gz'))]\n"
        "    solid = Modality(dims=3, size=[8, 6, 4])\n"
        "    def stay(): print('built', flush=True); time.sleep(100)\n"
        "    build.build(Cache(dir=sys.argv[1] + '/cache'), {'solid': solid}, jobs, num_workers=2, each=stay)\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"built\n"
    parent.kill()
    parent.wait()

    deadline = time.monotonic() + 30
    while (left := group_of(parent.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def group_of(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def test_a_worker_that_dies_names_the_images_in_hand(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real pool; the worker kills itself, as the kernel would for want of memory."""
    monkeypatch.setattr(build_module, "MAX_THREADS", 1)
    monkeypatch.setattr(build_module, "MIN_IMAGES_PER_PROCESS", 1)
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]  # the next one sees the variable
    monkeypatch.setenv("VWMM_FAULT", "phase=cache,case=bad,do=kill")
    named = [Job(job.image, job.modality, "bad" if number == 5 else f"c{number}") for number, job in enumerate(jobs)]
    with pytest.raises(RunError, match=r"a worker process died.*case bad: flat .*2\.nii\.gz"):
        build(Cache(dir=str(tmp_path / "cache"), mode="exact"), MODALITIES, named, num_workers=2)


@pytest.mark.parametrize(("mode", "workers"), [("exact", (4,)), ("fast", (2,))])
def test_every_preset_gives_the_same_bytes_for_any_number_of_threads(
    mode: str, workers: tuple[int, ...], tmp_path: Path
) -> None:
    """Each in a process of its own, since the libraries are imported once in each."""
    script = """
import sys
from pathlib import Path
from tests.data.cache.test_build import entries_of_presets
print(entries_of_presets(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""
    expected = entries_of_presets(tmp_path / "1", mode, 1)
    for number in range(REHEARSALS):
        for count in workers if REHEARSALS == 1 else (1, 2, 4):
            arguments = [str(tmp_path / f"{number}-{count}"), mode, str(count)]
            done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT)
            assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def entries_of_presets(folder: Path, mode: str, num_workers: int) -> str:
    """A digest of what all presets make of twelve images, in fast mode by crop_pad as well."""
    generator = np.random.default_rng(0)
    jobs, modalities = [], {}
    for preset in PRESETS:
        for fit in ("resize", "crop_pad") if mode == "fast" else ("resize",):
            fields = {"dims": 3, "size": [12, 12, 8], "preset": preset, "fit": fit}
            modalities[f"{preset}_{fit}"] = Modality.model_validate(cut_to_dims(with_preset(fields)))
    for number in range(12):
        voxels = generator.normal(20, 5, (24, 24, 12))
        voxels[6:18, 6:18, 3:9] += 600
        for kind, lowest in (("ct", -560), ("mr", 0)):
            path = folder / "images" / f"{number}_{kind}.nii.gz"
            write_nifti(path, (voxels.clip(0) + lowest).astype(np.int16), np.diag([0.8, 0.8, 2.0, 1.0]))
            jobs += [Job(path, name) for name in modalities if ("ct" in name) == (kind == "ct")]
    cache = Cache.model_validate({"dir": str(folder / "cache"), "mode": mode})
    results = build(cache, modalities, jobs, num_workers=num_workers)
    failures = [result.reason for result in results if isinstance(result, Failure)]
    assert not failures, failures
    digest = hashlib.sha256()
    for entry in results:
        assert isinstance(entry, Entry)
        digest.update(np.load(entry.path).tobytes())
    return digest.hexdigest()
