"""Finds the newest intact checkpoint to resume from."""

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.run_folder import RunFolder
from vwmm.engine.checkpoints.checkpoint import UNUSED, Progress, older_checkpoints, read_meta, read_progress, set_aside
from vwmm.engine.tracking.metrics_file import last_step
from vwmm.system.errors import UserError

_MEMORY = Path("/dev/shm")  # noqa: S108 - who may read and write there is checked


@dataclass
class Found:
    """A state to go on from."""

    path: Path | None
    """Its folder; None: the run begins at its first step."""
    messages: list[str] = field(default_factory=list)
    """The damage found, and the steps it costs."""


def snapshot_place(run: RunFolder) -> Path:
    """Where a run's state after each step is kept: in memory if the system has such a place.

    A run that was removed and started again in the same place has another one.
    """
    key = hashlib.sha256(f"{run.path.resolve()}\n{run.identity()}".encode()).hexdigest()[:20]
    root = _MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir())
    return root / f"vwmm-{os.getuid()}-{key}" / "state"


def make_snapshot_folder(place: Path) -> None:
    """Makes the folder of a snapshot, for this user alone. Raises UserError where somebody else made it."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(place.parent):
        raise UserError(
            f"run.snapshots: {place.parent} belongs to somebody else: remove it, or set run.snapshots=false"
        )


def find_state(run: RunFolder, snapshot: Path | None) -> Found:
    """The newest intact state of a run, that of a snapshot included.

    A best checkpoint that is damaged is learned again: then only states from before it will do.
    """
    found = Found(None)
    reached = last_step(run.metrics)
    best_epoch = _intact_best(run, found.messages)
    candidates = [run.last, *older_checkpoints(run.last)]
    if snapshot is not None and snapshot.exists() and _is_own(snapshot.parent):
        candidates = [snapshot, *candidates]
    good: list[tuple[Path, Progress]] = []
    for path in candidates:
        if not path.exists():
            continue
        try:
            read_meta(path)
            good.append((path, read_progress(path)))
        except UserError as error:
            aside = set_aside(path)
            found.messages.append(f"{error}; set aside as {aside.name}")
    usable = [(path, state) for path, state in good if (state.best_epoch or 0) <= best_epoch]
    newest = max(usable, key=lambda pair: (pair[1].step, pair[1].epoch), default=None)
    found.path = None if newest is None else newest[0]
    start = 0 if newest is None else newest[1].step
    for path, state in good:
        if path == snapshot and path != found.path:
            shutil.rmtree(path, ignore_errors=True)
        elif state.step > start:  # it would be taken for the newest one as soon as the best is there again
            found.messages.append(f"{path} is of step {state.step}; set aside as {set_aside(path, UNUSED).name}")
    if found.messages:
        again = f"{reached - start} steps are done again" if reached > start else "no step is lost"
        found.messages.append(f"going on from step {start}: {again}")
    return found


def _intact_best(run: RunFolder, messages: list[str]) -> int:
    """The epoch of the best checkpoint; 0 where there is none that is intact."""
    for path in (run.best, *older_checkpoints(run.best)):
        if path.exists():
            try:
                epoch = int(read_meta(path)["progress"]["epoch"])
                if path != run.best:  # a crash came between two renames
                    os.replace(path, run.best)
                return epoch
            except UserError as error:
                messages.append(f"{error}; set aside as {set_aside(path).name}")
    return 0


def _is_own(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
