"""Preprocesses the cohort on all ranks and builds the datasets."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from vwmm.config.schema import Cache, Modality
from vwmm.data.cache.build import Failure, Job, Result, build
from vwmm.data.cache.content_index import content_hash
from vwmm.data.cache.store import Entry, Recipe, Store
from vwmm.data.checks.preflight import image_problem
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.console import LOG, ProgressBar, amount
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.distributed.watchdog import Watchdog
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem
from vwmm.system.signals import STOP
from vwmm.system.threads import map_hiding_waits

_LOOKING_THREADS = 8
_POLL_S = 0.2
# Left free beside the cache, for run folders and others.
_SPARE_BYTES = 64 * 2**20
# Of a GPU's free memory, what the cohort may take; weights, activations and gradients need the rest.
_DEVICE_SHARE = 0.5
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Images:
    """The transformed images of a cohort."""

    entries: Mapping[tuple[str, str], Entry]
    """By (case's name, modality)."""
    store: Store
    """Where they are."""

    def hashes(self, cohort: Cohort) -> dict[str, dict[str, str]]:
        """Content hash of each image, by case and modality."""
        table: dict[str, dict[str, str]] = {case.name: {} for case in cohort.cases}
        for (case, modality), entry in self.entries.items():
            table[case][modality] = entry.content_hash
        return table

    @property
    def num_built(self) -> int:
        """How many were transformed just now; the others were found."""
        return sum(entry.was_built for entry in self.entries.values())


def prepare_images(
    runtime: Runtime,
    cohort: Cohort,
    modalities: Mapping[str, Modality],
    cache: Cache,
    *,
    shard: tuple[int, int] = (0, 1),
) -> Images:
    """Transforms what is not in the store yet, each process a share; raises UserError with every image that fails.

    shard: (number from 0, how many): only this share of the cohort's images is prepared.
    """
    # By modality, so that every n-th of them is a fair share: volumes take longer than slices.
    images = [(case, name) for name in modalities for case in cohort.cases if case.images[name] is not None]
    images = images[shard[0] :: shard[1]]
    store = Store(cache)
    recipes = {name: store.recipe(modality) for name, modality in modalities.items()}

    def num_bytes_of(results: Sequence[Result | None]) -> int:
        missing = [name for (_, name), result in zip(images, results, strict=True) if result is None]
        return sum(recipes[name].layout.file_bytes for name in missing)

    store.locks.hold_together()  # no process may remove entries until the run is known to need them
    # 1. What is there already, as far as can be known without reading the images.
    results = runtime.map_over_ranks(images, _Look(store, recipes, runtime.watchdog, reads=False))
    if runtime.broadcast_from_main(lambda: num_bytes_of(results) + _SPARE_BYTES > _disk(store.folder).free):
        results = runtime.map_over_ranks(images, _Look(store, recipes, runtime.watchdog, reads=True))
    runtime.stop_if_asked()
    todo = [number for number, result in enumerate(results) if result is None]
    num_found = sum(isinstance(result, Entry) for result in results)
    voxel_bytes = sum(recipes[name].layout.voxel_bytes for _, name in images)
    LOG.info("%s", _forecast(store, len(images), num_found, num_bytes_of(results), voxel_bytes))

    # 2. The rest.
    if todo:
        runtime.broadcast_from_main(lambda: _check_free_bytes(store.folder, len(todo), num_bytes_of(results)))
        for number, result in zip(todo, _build(runtime, cache, modalities, [images[n] for n in todo]), strict=True):
            results[number] = result
        runtime.stop_if_asked()
    prepared = _all_entries(store, cohort, images, results)
    built = prepared.num_built
    total = len(prepared.entries)
    LOG.info("cache: %d of %d images found, %d transformed now", total - built, total, built)
    if not store.locks.are_supported:
        LOG.info("cache: %s has no file locks: processes that build at once may do the same work twice", store.folder)
    return prepared


def _all_entries(
    store: Store, cohort: Cohort, images: Sequence[tuple[Case, str]], results: Sequence[Result | None]
) -> Images:
    """The entries of the images. Raises UserError with every image that has none."""
    problems = [
        Problem(f"{store.folder} cannot be written: {result.reason}", key="cache.dir")
        if result.is_cache_error
        else image_problem(*image, cohort, result.reason, result.kind)
        for image, result in zip(images, results, strict=True)
        if isinstance(result, Failure)
    ]
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    entries = {
        (case.name, name): entry
        for (case, name), entry in zip(images, results, strict=True)
        if isinstance(entry, Entry)
    }
    return Images(entries, store)


class _Look:
    """Finds the entries that are there; None for those that are not."""

    def __init__(self, store: Store, recipes: Mapping[str, Recipe], watchdog: Watchdog, *, reads: bool) -> None:
        """reads: whether to read images with unknown content hashes."""
        self.store, self.recipes, self.watchdog, self.reads = store, recipes, watchdog, reads

    def __call__(self, images: Sequence[tuple[Case, str]]) -> list[Result | None]:
        return list(map_hiding_waits(self._look, images, _LOOKING_THREADS))

    def _look(self, image: tuple[Case, str]) -> Result | None:
        case, name = image
        path = case.images[name]
        assert path is not None
        if STOP.is_asked:
            return None
        self.watchdog.enter_phase("look")
        try:
            content = self.store.known_content(path) or (content_hash(path) if self.reads else None)
        except OSError as error:
            return Failure(error.strerror or str(error))
        return None if content is None else self.store.find(path, self.recipes[name], content)


def _build(
    runtime: Runtime, cache: Cache, modalities: Mapping[str, Modality], images: Sequence[tuple[Case, str]]
) -> list[Result]:
    """Transforms images, each process its share, all its workers at once; one bar counts for all processes."""
    count = runtime.count_together()
    with ProgressBar("images", len(images), "image", is_main_process=runtime.is_main_process) as bar:

        def build_share(share: Sequence[tuple[Case, str]]) -> list[Result]:
            jobs = [Job(path, name, case.name) for case, name in share if (path := case.images[name]) is not None]
            workers = cache.workers or runtime.num_cores
            num_threads = torch.get_num_threads()

            def after_image() -> None:
                runtime.watchdog.enter_phase("cache")
                bar.to(count(1))

            done = build(cache, modalities, jobs, num_workers=workers, each=after_image)
            torch.set_num_threads(num_threads)  # its setting is in part global, and the workers' threads change it
            while runtime.is_main_process and not STOP.is_asked and (total := count(0)) < len(images):
                bar.to(total)
                runtime.watchdog.enter_phase("wait", waits=True)
                time.sleep(_POLL_S)
            return done

        return runtime.map_over_ranks(images, build_share)


def _check_free_bytes(cache_dir: Path, num_images: int, needed: int) -> None:
    """Errors of the cache itself are reported once, not for each image."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir):
            pass
    except OSError as error:
        raise UserError(f"cache.dir: {cache_dir} cannot be written: {error.strerror or error}") from error
    free = _disk(cache_dir).free
    if needed + _SPARE_BYTES > free:
        raise UserError(
            f"cache.dir: {cache_dir} has {amount(free)} free, {num_images} images need {amount(needed)}, and "
            f"{amount(_SPARE_BYTES)} are to stay free: make room (`vwmm prepare --prune` removes what no run needs), "
            "choose another cache.dir, or keep less of each voxel: cache.dtype=float16 halves it, uint8 quarters it"
        )


def _forecast(store: Store, num_images: int, num_there: int, disk: int, memory: int) -> str:
    """What the work will take, before it begins."""
    available = available_memory()
    lines = [f"cache: {store.folder}: {num_there} of {num_images} images are there"]
    if disk:
        lines.append(f"disk: {amount(disk)} for the others at most, {amount(_disk(store.folder).free)} free")
    lines.append(f"memory: {amount(memory)} once per machine, {amount(available)} available")
    text = "; ".join(lines)
    if memory > available:
        text += (
            "\ncache: the images do not fit into memory, so each epoch reads them from the disk; cache.dtype=float16 "
            "halves them, uint8 quarters them"
        )
    return text


def available_memory() -> int:
    """Bytes of memory that cached files may take; the limit of a container or of a Slurm job counts (cgroup 2)."""
    limits, group = [int(psutil.virtual_memory().available)], _CGROUPS / _own_group()
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):  # no such file, or `max`: no limit
            limits.append(int((folder / "memory.max").read_text()))
    return min(limits)


def _own_group() -> Path:
    """This process's control group, relative to the root of all of them."""
    try:
        return Path(Path("/proc/self/cgroup").read_text().rpartition("::/")[2].strip())
    except OSError:
        return Path()


def _disk(folder: Path) -> "shutil._ntuple_diskusage":
    """Room on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder)


def build_dataset(
    runtime: Runtime,
    cases: Sequence[Case],
    classes: Sequence[str],
    modalities: Mapping[str, Modality],
    images: Images,
    *,
    kind: type[CaseDataset] = CaseDataset,
) -> CaseDataset:
    """The dataset of some of the cases; -1 for a case without a label. Raises UserError if the GPU is too small for
    `cache.on_device`."""
    labels = [-1 if case.label is None else list(classes).index(case.label) for case in cases]
    dataset = kind(cases, modalities, images.entries, labels, images.store, on_damage=_say_damaged)
    if images.store.cache.on_device:
        _keep_on_device(runtime, dataset)
    return dataset


def _keep_on_device(runtime: Runtime, dataset: CaseDataset) -> None:
    if runtime.device.type != "cuda":
        LOG.info("cache.on_device: there is no GPU here; the cache is read from memory as usual")
        return
    free, total = torch.cuda.mem_get_info(runtime.device)
    if dataset.num_bytes > free * _DEVICE_SHARE:
        raise UserError(
            f"cache.on_device: {len(dataset)} cases take {amount(dataset.num_bytes)}, the GPU has {amount(free)} of "
            f"{amount(total)} free and needs some to train: use cache.on_device=false, or a smaller cache.dtype"
        )
    dataset.keep_on(runtime.device)


def _say_damaged(entry: Entry) -> None:
    LOG.info("cache: %s was damaged or absent; it is rebuilt", entry.path.name)
