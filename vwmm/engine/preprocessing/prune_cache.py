"""Removes cache entries that no run needs."""

import csv
from collections.abc import Mapping

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Cache, Config, Modality
from vwmm.data.cache.content_index import content_hash
from vwmm.data.cache.store import Store
from vwmm.data.cache.users import known_runs
from vwmm.data.checks.preflight import image_problem
from vwmm.data.cohort.cases import Cohort
from vwmm.engine.console import LOG, amount
from vwmm.system.errors import UserError


def prune_cache(config: Config, cohort: Cohort | None) -> None:
    """Removes every entry that neither a run nor the given cohort needs. Raises UserError, and then removes nothing,
    but where the cache cannot be written."""
    store = Store(config.cache)
    try:
        _prune(store, config, cohort)
    except OSError as error:
        raise UserError(f"cache.dir: {store.folder} cannot be written: {error.strerror or error}") from error


def _prune(store: Store, config: Config, cohort: Cohort | None) -> None:
    runs, unseen = known_runs(store.folder)
    if unseen:
        raise UserError(
            [
                f"run {run} uses this cache and cannot be seen from here; if it is gone for good, remove {note}"
                for run, note in unseen.items()
            ]
        )
    if not runs and cohort is None:
        raise UserError(
            "--prune: no run is known to use this cache and no cohort is given, so everything would be removed; give "
            f"data.csv=..., or remove {store.folder} yourself"
        )
    if not store.locks.hold_alone():
        raise UserError(f"cache.dir: {store.folder} is being filled by another process; prune it when that is done")
    needed = set[str]()
    for run in runs:
        needed |= keys_of_run(RunFolder(run))
    if cohort is not None:
        needed |= keys_of_cohort(store, cohort, config.modalities)
    files, size = store.prune(needed)
    kept = ", ".join(run.name for run in runs) or "no run"
    also = "" if cohort is None else f" and {cohort.csv_path.name}"
    LOG.info("cache: %s: %d files removed, %s; kept what %s%s need", store.folder, files, amount(size), kept, also)


def keys_of_run(run: RunFolder) -> set[str]:
    """The entries that a run reads, from its split.csv and its configuration. Raises UserError."""
    try:
        config = load_config([run.config], [])
        with run.split.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (UserError, OSError) as error:
        raise UserError(
            f"run {run.path} uses this cache, and what it needs cannot be read: {str(error).splitlines()[0]}; if it is "
            "not needed any more, remove its folder"
        ) from error
    hashes = {name: [row.get(f"hash_{name}", "") for row in rows] for name in config.modalities}
    return _keys(config.cache, config.modalities, hashes)


def keys_of_cohort(store: Store, cohort: Cohort, modalities: Mapping[str, Modality]) -> set[str]:
    """The entries of a cohort; images that are not known yet are read. Raises UserError."""
    hashes: dict[str, list[str]] = {name: [] for name in modalities}
    problems = []
    for case in cohort.cases:
        for name in modalities:
            path = case.images[name]
            if path is None:
                continue
            try:
                hashes[name].append(store.known_content(path) or content_hash(path))
            except OSError as error:
                problems.append(image_problem(case, name, cohort, error.strerror or str(error), "unusable"))
    if problems:
        raise UserError(problems)
    return _keys(store.cache, modalities, hashes)


def _keys(cache: Cache, modalities: Mapping[str, Modality], hashes: Mapping[str, list[str]]) -> set[str]:
    store = Store(cache)
    recipes = {name: store.recipe(modality) for name, modality in modalities.items()}
    return {recipes[name].key(content) for name, contents in hashes.items() for content in contents if content}
