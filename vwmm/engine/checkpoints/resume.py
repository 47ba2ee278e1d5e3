"""Finds the newest intact checkpoint to resume from."""

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.run_folder import RunFolder
from vwmm.engine.checkpoints.checkpoint import (
    DAMAGED,
    UNUSED,
    Checkpoint,
    free_name,
    older_checkpoints,
    read_checkpoint,
)
from vwmm.engine.tracking.metrics_file import last_step
from vwmm.system.errors import UserError

_MEMORY = Path("/dev/shm")  # noqa: S108 - who may read and write there is checked


@dataclass
class Found:
    """A state to resume from, and what is to be cleared away before."""

    checkpoint: Checkpoint | None
    """The state; None: the run begins at its first step."""
    messages: list[str] = field(default_factory=list)
    """The damage found, and the steps it costs."""
    renames: list[tuple[Path, Path]] = field(default_factory=list)
    """Checkpoints that are damaged or must not be used, and the names under which they are never loaded."""
    outdated: Path | None = None
    """A snapshot in memory that is older than the state."""

    def set_aside(self, path: Path, why: str, prefix: str = DAMAGED) -> None:
        """A checkpoint that is not to be found again."""
        name = free_name(path, prefix)
        self.renames.append((path, name))
        self.messages.append(f"{why}; set aside as {name.name}")

    def settle(self) -> None:
        """Renames and removes what must not be found again."""
        for path, name in self.renames:
            os.replace(path, name)
        if self.outdated is not None:
            shutil.rmtree(self.outdated, ignore_errors=True)


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
    """The newest intact state of a run, that of a snapshot included. Changes nothing on the disk: see `Found.settle`.

    A best checkpoint that is damaged is learned again: then only states from before it will do.
    """
    found = Found(None)
    reached = last_step(run.metrics)
    best_epoch = _intact_best(run, found)
    candidates = [run.last, *older_checkpoints(run.last)]
    if snapshot is not None and snapshot.exists() and _is_own(snapshot.parent):
        candidates = [snapshot, *candidates]
    intact = [one for path in candidates if path.exists() and (one := _read(path, found)) is not None]
    usable = [one for one in intact if (one.progress.best_epoch or 0) <= best_epoch]
    found.checkpoint = max(usable, key=lambda one: (one.progress.step, one.progress.epoch), default=None)
    start = 0 if found.checkpoint is None else found.checkpoint.progress.step
    for one in intact:
        if one.path == snapshot and one is not found.checkpoint:
            found.outdated = one.path
        elif one.progress.step > start:  # it would be taken for the newest one as soon as the best is there again
            found.set_aside(one.path, f"{one.path} is of step {one.progress.step}", UNUSED)
    if found.messages:
        lost = reached - start
        again = {0: "no step is lost", 1: "1 step is done again"}.get(max(0, lost), f"{lost} steps are done again")
        found.messages.append(f"resuming from step {start}: {again}")
    return found


def _read(path: Path, found: Found) -> Checkpoint | None:
    try:
        return read_checkpoint(path)
    except UserError as error:
        found.set_aside(path, str(error))
        return None


def _intact_best(run: RunFolder, found: Found) -> int:
    """The epoch of the best checkpoint; 0 where there is none that is intact."""
    for path in (run.best, *older_checkpoints(run.best)):
        if path.exists() and (best := _read(path, found)) is not None:
            if path != run.best:  # a crash came between two renames
                found.renames.append((path, run.best))
            return best.progress.epoch
    return 0


def _is_own(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
