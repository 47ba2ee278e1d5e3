"""Opens the run folder and records what repeats the run."""

import contextlib
import json
import logging
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from vwmm import __version__
from vwmm.config.printing import to_yaml
from vwmm.config.run_folder import RunFolder, choose_run_folder, finished_before, open_in_place, write_whole
from vwmm.config.schema import Cache, Config
from vwmm.config.split_record import SplitRecord
from vwmm.data.cache.users import note_use
from vwmm.data.checks.near_duplicate_record import across_parts, find_near_pairs
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.split_file import hash_hashes
from vwmm.data.cohort.splits import split_hash, split_table
from vwmm.engine.checkpoints.checkpoint import Checkpoint
from vwmm.engine.checkpoints.resume import find_state, snapshot_place
from vwmm.engine.checkpoints.room import room_problems
from vwmm.engine.checkpoints.run_watch import RunWatch
from vwmm.engine.console import LOG, log_to_file
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.distributed.watchdog import Failure
from vwmm.engine.launch.outcome import register_run
from vwmm.engine.preprocessing.fill_cache import Images
from vwmm.engine.runs.provenance import git_commit
from vwmm.engine.training.pass_size import micro_batches_at_once
from vwmm.system.errors import StoppedEarly, UserError

VERSIONS_OF = (
    "torch",
    "monai",
    "numba",
    "accelerate",
    "numpy",
    "pandas",
    "scikit-learn",
    "pydantic",
    "safetensors",
    "wandb",
)


@dataclass(frozen=True)
class OpenRun:
    """A run's folder, which is locked for it."""

    folder: RunFolder
    """The folder."""
    checkpoint: Checkpoint | None
    """What the run resumes from; None: it begins."""
    watch: RunWatch | None
    """Looks after the folder; None on ranks that do not write."""


@contextmanager
def open_run(
    runtime: Runtime,
    config: Config,
    cohort: Cohort,
    assigned: Mapping[str, str],
    split: SplitRecord,
    images: Images,
    num_parameters: int,
) -> Iterator[OpenRun]:
    """The run's folder, locked until the block ends, with what is needed to repeat the run.

    num_parameters: of the model, which is to fit on the disk. Raises UserError where the folder is in use, or belongs
    to a run of another configuration, cohort or split.
    """
    environment = describe_environment(runtime, config, cohort, assigned, num_parameters)
    environment |= {"split": split.to_json(), "cache": _describe_cache(config.cache, images)}
    run, lock = _claim_folder(runtime, config, cohort, assigned, images, num_parameters)
    handler = log_to_file(run.log) if runtime.is_main_process else None
    watch: RunWatch | None = None
    if lock is not None and handler is not None and handler.stream is not None:
        watch = RunWatch(run, lock)
        watch.follow(run.log, handler.stream.fileno())
    try:
        checkpoint = runtime.broadcast_from_main(lambda: _claim_state(config, run))
        runtime.watchdog.report_failures_to(partial(_note_failure, run, watch))
        if watch is not None:
            _write_head(run, watch, config, cohort, assigned, images, environment)
            register_run(run)
            if (note := finished_before(run, config)) is not None:
                LOG.info("note: %s", note)
        runtime.wait()
        images.store.locks.let_go()  # from here on pruning knows what the run needs
        yield OpenRun(run, checkpoint, watch)
        runtime.wait()
    except StoppedEarly as stop:
        if watch is not None and watch.is_ours():
            run.write_status("preempted", str(stop), **run.position())
            _log_only(f"stopped: {stop}", handler)
        raise
    finally:
        if handler is not None:
            LOG.removeHandler(handler)
            handler.close()
        if watch is not None:
            watch.close()


def _claim_folder(
    runtime: Runtime,
    config: Config,
    cohort: Cohort,
    assigned: Mapping[str, str],
    images: Images,
    num_parameters: int,
) -> tuple[RunFolder, IO[str] | None]:
    """The run's folder, and on the main process its lock."""
    locks: list[IO[str]] = []

    def claim() -> str:
        folder = choose_run_folder(config)
        if problems := room_problems(folder, config, num_parameters):
            raise UserError(problems)
        check_same_cohort(folder, cohort, assigned, images.hashes(cohort))
        locks.append(folder.lock())
        return str(folder.path)

    run = RunFolder(Path(runtime.broadcast_from_main(claim)))
    return run, locks[0] if locks else None


def _describe_cache(cache: Cache, images: Images) -> dict[str, Any]:
    built = images.num_built
    return {"mode": cache.mode, "dtype": cache.dtype, "found": len(images.entries) - built, "built": built}


def _claim_state(config: Config, run: RunFolder) -> Checkpoint | None:
    """The checkpoint to resume from; reports damage. Raises UserError after too many starts without progress."""
    snapshot = snapshot_place(run) if config.run.snapshots else None
    found = find_state(run, snapshot)
    found.settle()
    for message in found.messages:
        LOG.info("%s", message)
    step = 0 if found.checkpoint is None else found.checkpoint.progress.step
    _count_start(run, step, config.run.max_stops_without_progress)
    return found.checkpoint


def _count_start(run: RunFolder, step: int, limit: int) -> None:
    """Counts the starts in a row that were stopped before they made a step; one too many is an error."""
    count = 0
    if run.state() in ("preempted", "running"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            before = json.loads(run.starts.read_text())
            count = int(before["count"]) if before["step"] == step else 0
    if count >= limit:
        run.starts.unlink(missing_ok=True)  # who starts it again by hand, after having read this, has all tries again
        raise UserError(
            f"run {run.path} was stopped {count} times in a row before it had made one step after step {step}: give it "
            "more time, prepare the cache ahead of it (`vwmm prepare`), or raise run.max_stops_without_progress"
        )
    write_whole(run.starts, json.dumps({"step": step, "count": count + 1}) + "\n")


def _note_failure(run: RunFolder, watch: RunWatch | None, failure: Failure) -> None:
    """status.json and train.log of a run that fails, by the rank that reports it; not in a folder of others."""
    if not (run.config.exists() if watch is None else watch.is_ours()):
        return
    run.write_status("invalid" if failure.is_invalid else "failed", failure.reason, **run.position())
    with open_in_place(run.log, "a", encoding="utf-8") as stream:
        stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} stopped: {failure.message}\n")


def _log_only(text: str, handler: logging.Handler | None) -> None:
    """Into train.log only: on the screen the message follows anyway."""
    if handler is not None:
        handler.emit(LOG.makeRecord(LOG.name, logging.INFO, "", 0, text, (), None))


def describe_environment(
    runtime: Runtime, config: Config, cohort: Cohort, assigned: Mapping[str, str], num_parameters: int
) -> dict[str, Any]:
    """The content of environment.json."""
    parts = list(assigned.values())
    return {
        "vwmm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "git_commit": git_commit(),
        "command_line": " ".join(sys.argv),
        "arguments": sys.argv[1:],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **runtime.describe(),
        "batch_size": config.train.batch_size,
        "micro_batch_size": config.train.micro_batch_size,
        "micro_batches_at_once": micro_batches_at_once(config.train, config.modalities, runtime.device),
        "cohort_hash": cohort.content_hash(),
        "split_hash": split_hash(cohort, assigned),
        "num_parameters": num_parameters,
        "classes": list(cohort.classes),
        "modalities": list(config.modalities),
        "num_cases": {part: parts.count(part) for part in ("train", "val", "test")},
    }


def _write_head(
    run: RunFolder,
    watch: RunWatch,
    config: Config,
    cohort: Cohort,
    assigned: Mapping[str, str],
    images: Images,
    environment: dict[str, Any],
) -> None:
    hashes = images.hashes(cohort)
    environment = environment | {"images_hash": hash_hashes(hashes), "earlier_starts": _earlier_starts(run)}
    if near := find_near_pairs(Path(config.cache.dir), cohort, hashes):
        environment["near_duplicates"] = {"pairs": len(near), "across_parts": len(across_parts(near, assigned))}
    run.write_status("running", **({"epoch": 0, "step": 0} | run.position()))
    with contextlib.suppress(OSError):  # a cache that cannot be written cannot be pruned either
        note_use(images.store.folder, run.path)
    texts = {
        run.config: to_yaml(config),
        run.environment: json.dumps(environment, indent=2) + "\n",
        run.split: split_table(cohort, assigned, hashes),
    }
    for path, text in texts.items():
        write_whole(path, text)
    watch.keep(texts)


def _earlier_starts(run: RunFolder) -> list[dict[str, Any]]:
    """When, by how many processes and with which vwmm the run was computed before this start."""
    before = run.read_environment()
    try:
        told = {key: before[key] for key in ("started", "num_processes", "devices", "git_commit")}
        told["micro_batches_at_once"] = before.get("micro_batches_at_once")
        return [*before.get("earlier_starts", []), told]
    except (KeyError, TypeError):
        return []


def check_same_cohort(
    run: RunFolder, cohort: Cohort, assigned: Mapping[str, str], hashes: Mapping[str, Mapping[str, str]]
) -> None:
    """A run is only resumed with the same cases, split and images.

    A split.csv that has been altered is written again where environment.json tells that the cohort is the same.
    """
    table = split_table(cohort, assigned, hashes)
    try:
        before = run.split.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    if before == table:
        return
    recorded = run.read_environment()
    same = {"split_hash": split_hash(cohort, assigned), "images_hash": hash_hashes(hashes)}
    if all(recorded.get(key) == value for key, value in same.items()):
        LOG.info("%s is not what this run wrote, but its cohort is the same: it is written again", run.split)
        return
    changed = sorted({line.split(",")[0] for line in set(before.splitlines()) ^ set(table.splitlines())})
    shown = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
    raise UserError(
        f"run {run.path} is unfinished, and {len(changed)} of its cases have changed since in label, split or image "
        f"({shown}); to start a new run: run.resume=never, or another run.name"
    )


def versions() -> dict[str, str | None]:
    """Of the libraries that compute."""
    return {name: _version(name) for name in VERSIONS_OF}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
