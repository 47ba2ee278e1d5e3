"""Claims: the cold path, the cache and the augmentation against MONAI's, on the same files, in one process.

64 cases of a vessel-wall volume (256 x 256 x 96, int16, .nii.gz) and two slices (512 x 512), brought to 128 x 128 x 64
and 128 x 128. One thread; the sides take turns; medians of CPU time; what they give is compared before it is timed.

    python benchmarks/input_pipeline.py [--cases 64] [--rounds 5] [--folder DIR] [--only cold,epoch,warm,augment,memory]
"""

import argparse
import gzip
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import torch
from scipy import ndimage

from benchmarks import _monai_side as monai_side
from vwmm.config.schema import Augmentation, Cache, Modality
from vwmm.data.augmentation.augment import augment_batch, sample_params
from vwmm.data.cache.build import Job, build
from vwmm.data.cache.store import Entry, Store
from vwmm.data.cohort.cases import Case
from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.data.transforms.preprocess import load_input

MODALITIES = {
    "vw_mri": Modality(dims=3, size=[128, 128, 64], orientation=None),
    "mri": Modality(dims=2, size=[128, 128]),
    "ct": Modality(dims=2, size=[128, 128]),
}
# The same with the volume (0.5 x 0.5 x 0.6 mm) turned to RAS and resampled to 0.5 mm first, the slices to 0.45 mm. What
# MONAI takes grows with the respaced image: coarser voxels make the ratio smaller, finer ones larger.
RESPACED = {
    "vw_mri": MODALITIES["vw_mri"].model_copy(update={"orientation": "RAS", "spacing_mm": [0.5, 0.5, 0.5]}),
    "mri": MODALITIES["mri"].model_copy(update={"spacing_mm": [0.45, 0.45]}),
    "ct": MODALITIES["ct"].model_copy(update={"spacing_mm": [0.45, 0.45]}),
}
SHAPES = {"vw_mri": (256, 256, 96), "mri": (512, 512), "ct": (512, 512)}
LPS_AFFINE = np.diag([-0.5, -0.5, 0.6, 1.0])
Mode = Literal["exact", "fast"]
MODES: tuple[Mode, ...] = ("exact", "fast")


def make_files(folder: Path, num_cases: int) -> list[dict[str, Path]]:
    """Smooth shapes under noise: they compress to two thirds, as real images do."""
    generator = np.random.default_rng(0)
    smooth = {
        name: ndimage.gaussian_filter(generator.standard_normal(shape), 6) * 2000 for name, shape in SHAPES.items()
    }

    def write(number: int, name: str) -> Path:
        path = folder / name / f"case_{number:04}.nii.gz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng((number, len(name))).standard_normal(SHAPES[name], np.float32) * 40
            voxels = (np.roll(smooth[name], number, axis=0) + noise + 500).astype(np.int16)
            image = nibabel.Nifti1Image(voxels, LPS_AFFINE)
            path.write_bytes(gzip.compress(image.to_bytes(), 1))
        return path

    with ThreadPoolExecutor(2) as pool:
        paths = pool.map(lambda pair: write(*pair), [(n, name) for n in range(num_cases) for name in SHAPES])
        found = iter(list(paths))
    return [{name: next(found) for name in SHAPES} for _ in range(num_cases)]


def make_dataset(
    items: list[dict[str, Path]], folder: Path, dtype: str = "float32", mode: Mode = "exact"
) -> CaseDataset:
    """vwmm's dataset of these files, its cache filled first."""
    cache = Cache.model_validate({"dir": str(folder), "dtype": dtype, "mode": mode})
    jobs = [Job(item[name], name) for item in items for name in MODALITIES]
    entries: dict[tuple[str, str], Entry] = {}
    for number, (job, entry) in enumerate(zip(jobs, build(cache, MODALITIES, jobs, num_workers=1), strict=True)):
        assert isinstance(entry, Entry), entry
        entries[f"{number // len(MODALITIES):04}", job.modality] = entry
    cases = [Case(f"{n:04}", f"{n:04}", "0", dict(item), line=n + 2) for n, item in enumerate(items)]
    return CaseDataset(cases, MODALITIES, entries, [0] * len(cases), Store(cache))


def ours(dataset: CaseDataset, batch_size: int, num_threads: int = 0) -> Iterator[Batch]:
    """All cases in order, float32."""
    wanted = [list(range(start, min(start + batch_size, len(dataset)))) for start in range(0, len(dataset), batch_size)]
    return load_batches(dataset, wanted, num_threads=num_threads)


def take_turns(sides: dict[str, Callable[[], Any]], rounds: int, *, parts: int = 1) -> dict[str, tuple[float, float]]:
    """Median (CPU seconds, wall seconds) of a part of each side, the sides taking turns; the first round warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            start = (time.process_time(), time.perf_counter())
            side()
            times[name].append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return {
        name: (
            statistics.median(cpu for cpu, _ in found[1:]) / parts,
            statistics.median(wall for _, wall in found[1:]) / parts,
        )
        for name, found in times.items()
    }


def cold(items: list[dict[str, Path]], rounds: int) -> None:
    """Decoding and transforming one patient's three images."""
    for title, modalities in (("recipe", MODALITIES), ("with orientation and spacing", RESPACED)):
        reference = monai_side.recipe(modalities)
        expected = reference(items[0])
        for mode in MODES:
            parts = [load_input(items[0][name], m, mode=mode) for name, m in modalities.items()]
            worst = max(np.abs(p - expected[n].numpy()).max() for p, n in zip(parts, modalities, strict=True))
            print(f"cold, {title}, {mode}: largest difference from MONAI {worst:.1e}")
        chosen = items[:: max(1, len(items) // 8)][:8]
        turn = {"count": 0}

        def next_item(turn: dict[str, int] = turn, chosen: list[dict[str, Path]] = chosen) -> dict[str, Path]:
            turn["count"] += 1
            return chosen[turn["count"] // 3 % len(chosen)]  # three sides see the same patient

        sides: dict[str, Callable[[], Any]] = {
            "MONAI": partial(_with, next_item, reference),
            **{mode: partial(_with, next_item, partial(load_patient, modalities, mode)) for mode in MODES},
        }
        times = take_turns(sides, rounds * len(chosen))
        for name, (cpu, _) in times.items():
            ratio = times["MONAI"][0] / cpu
            print(f"cold, {title}: {name:6} {cpu * 1e3:7.1f} ms CPU a patient, {ratio:5.2f} times MONAI")


def load_patient(modalities: dict[str, Modality], mode: Mode, item: dict[str, Path]) -> list[np.ndarray]:
    """All images of a patient, by vwmm."""
    return [load_input(path, modalities[name], mode=mode) for name, path in item.items()]


def _with(give: Callable[[], Any], take: Callable[[Any], Any]) -> Any:
    return take(give())


def first_epoch(items: list[dict[str, Path]], rounds: int) -> None:
    """The first epoch with the store being filled, and the second start."""
    times: dict[str, list[float]] = {"plain": [], "exact": [], "fast": [], "second start": []}
    steps = monai_side.recipe(MODALITIES)
    for _ in range(rounds):
        times["plain"].append(
            _seconds(partial(consume, partial(monai_side.batches, monai_side.plain(items, steps), 4)))
        )
        with tempfile.TemporaryDirectory() as folder:
            for mode in MODES:
                times[mode].append(_seconds(partial(_prepare_and_read, items, Path(folder) / mode, mode)))
            times["second start"].append(_seconds(partial(make_dataset, items, Path(folder) / "exact")))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, seconds in medians.items():
        print(
            f"first epoch: {name:12} {seconds:7.3f} s of {len(items)} cases, {seconds / medians['plain']:.3f} of plain"
        )
    print(f"second start / first (exact): {medians['second start'] / medians['exact']:.4f}")


def _prepare_and_read(items: list[dict[str, Path]], folder: Path, mode: Mode) -> int:
    return consume(partial(ours, make_dataset(items, folder, mode=mode), 4))


def consume(batches: Callable[[], Iterator[Any]]) -> int:
    """Takes all batches, as a training loop would."""
    return sum(len(batch.images["ct"] if isinstance(batch, Batch) else batch["ct"]) for batch in batches())


def _seconds(side: Callable[[], Any]) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def warm(items: list[dict[str, Path]], rounds: int, folder: Path) -> None:
    """Batches once everything is cached."""
    steps = monai_side.recipe(MODALITIES)
    cached = monai_side.cached(items, steps)
    persistent = monai_side.persistent(items, steps, folder / "persistent")
    datasets = {dtype: make_dataset(items, folder / "cache", dtype) for dtype in ("float32", "float16", "uint8")}
    for expected, found in zip(monai_side.batches(cached, 4), ours(datasets["float32"], 4), strict=True):
        for name in MODALITIES:
            assert torch.equal(expected[name].as_subclass(torch.Tensor), found.images[name]), name
    print(f"warm: float32 equals CacheDataset bit for bit, {len(items)} cases")
    for batch_size in (4, 8):
        sides: dict[str, Callable[[], Iterator[Any]]] = {
            "PersistentDataset": partial(monai_side.batches, persistent, batch_size),
            "CacheDataset": partial(monai_side.batches, cached, batch_size),
            **{f"vwmm {dtype}": partial(as_kept, dataset, batch_size) for dtype, dataset in datasets.items()},
            "vwmm float32, a thread": partial(ours, datasets["float32"], batch_size, 1),
        }
        # Three epochs a turn, as in training: the first of them finds the processor's caches full of another's data.
        times = take_turns({name: partial(_three_times, side) for name, side in sides.items()}, 2 * rounds, parts=3)
        slow, fast = times["PersistentDataset"][1], times["CacheDataset"][1]
        for name, (cpu, wall) in times.items():
            print(
                f"warm, batch {batch_size}: {name:22} {len(items) / wall:6.0f} cases/s, {cpu / len(items) * 1e3:6.3f} "
                f"ms CPU a case; {slow / wall:5.2f} times PersistentDataset, {fast / wall:5.2f} times CacheDataset"
            )


def _three_times(batches: Callable[[], Iterator[Any]]) -> None:
    for _ in range(3):
        consume(batches)


def as_kept(dataset: CaseDataset, batch_size: int) -> Iterator[Batch]:
    """Batches as they are handed to a device, which casts them."""
    buffer = (
        dataset.buffers.pop()
        if dataset.buffers and len(dataset.buffers[0].labels) == batch_size
        else dataset.empty(batch_size)
    )
    for start in range(0, len(dataset), batch_size):
        yield dataset.fill(buffer, range(start, min(start + batch_size, len(dataset))))
    dataset.buffers[:] = [buffer]


def augment(items: list[dict[str, Path]], rounds: int, folder: Path) -> None:
    """Warm batches with the default augmentation, on one core."""
    settings = {name: Augmentation() for name in MODALITIES}
    steps = monai_side.recipe(MODALITIES)
    whole = monai_side.Compose([*steps.transforms, *monai_side.augmentation(MODALITIES, Augmentation()).transforms])
    whole.set_random_state(0)
    cached = monai_side.cached(items, whole)
    dataset, epochs = make_dataset(items, folder / "cache"), iter(range(1, 10_000))

    def run() -> int:
        epoch, count = next(epochs), 0
        for batch in ours(dataset, 4):
            names = [dataset.cases[index].name for index in batch.indices.tolist()]
            draws = sample_params(names, MODALITIES, settings, seed=0, epoch=epoch)
            count += len(augment_batch(batch.images, batch.present, draws)["ct"])
        return count

    theirs = partial(consume, partial(monai_side.batches, cached, 4))
    times = take_turns({"MONAI on CacheDataset": theirs, "vwmm": run}, rounds)
    for name, (cpu, wall) in times.items():
        ratio = times["MONAI on CacheDataset"][0] / cpu
        print(
            f"augmented: {name:22} {cpu / len(items) * 1e3:6.1f} ms CPU a case, {len(items) / wall:6.1f} cases/s, "
            f"{ratio:.2f} times MONAI"
        )


def memory(items: list[dict[str, Path]], folder: Path) -> None:
    """Proportional set size, summed over processes that have each read every case."""
    make_dataset(items, folder / "cache")
    found: dict[tuple[int, int], float] = {}
    for num_cases in (len(items) // 4, len(items) // 2, len(items)):
        for num_processes in (1, 2, 4):
            found[num_cases, num_processes] = _pss_of(items[:num_cases], folder / "cache", num_processes)
    for num_cases in sorted({cases for cases, _ in found}):
        sums = ", ".join(f"{n} processes {found[num_cases, n]:.0f} MB" for n in (1, 2, 4))
        print(f"memory: {num_cases} cases: {sums}")
    cases = sorted({cases for cases, _ in found})
    per_process = [(found[n, 4] - found[n, 1]) / 3 for n in cases]
    slope = np.polyfit(cases, per_process, 1)[0]
    copy = sum(recipe_bytes(m) for m in MODALITIES.values()) / 1e6
    print(f"memory: each further process adds {slope:.4f} MB per case (a copy would add {copy:.2f})")


def recipe_bytes(modality: Modality) -> int:
    """Bytes of one image in float32."""
    return 4 * int(np.prod(modality.size))


def _pss_of(items: list[dict[str, Path]], cache: Path, num_processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(num_processes), context.Queue()
    readers = [context.Process(target=_read_all, args=(items, cache, barrier, results)) for _ in range(num_processes)]
    for reader in readers:
        reader.start()
    total = sum(results.get(timeout=600) for _ in readers)
    for reader in readers:
        reader.join()
    return total


def _read_all(items: list[dict[str, Path]], cache: Path, barrier: Any, results: Any) -> None:
    torch.set_num_threads(1)
    dataset = make_dataset(items, cache)
    for _ in range(2):
        consume(partial(ours, dataset, 4, 1))
    barrier.wait()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    results.put(sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3)
    barrier.wait()  # until everybody has measured, nobody leaves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps the files (0.6 GB) for the next time")
    parser.add_argument("--only", default="cold,epoch,warm,augment,memory")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = arguments.only.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        items = make_files(arguments.folder or folder / "files", arguments.cases)
        if "cold" in wanted:
            cold(items, arguments.rounds)
        if "epoch" in wanted:
            first_epoch(items, max(1, arguments.rounds // 2))
        if "warm" in wanted:
            warm(items, arguments.rounds, folder)
        if "augment" in wanted:
            augment(items, arguments.rounds, folder)
        if "memory" in wanted:
            memory(items, folder)


if __name__ == "__main__":
    main()
