"""Which runs use a cache, for `vwmm prepare --prune`."""

import hashlib
import os
from pathlib import Path

from vwmm.config.run_folder import write_whole


def note_use(cache_dir: Path, run: Path) -> None:
    """Notes that a run reads from this cache. Raises OSError."""
    path = _note(cache_dir, run)
    if not path.exists():
        write_whole(path, os.fsencode(run.absolute()) + b"\n")


def known_runs(cache_dir: Path) -> tuple[list[Path], dict[Path, Path]]:
    """The folders of the runs that use this cache, sorted, and those that cannot be seen, with their notes.

    Removes notes of deleted runs. A run without its parent folder does not count as deleted: its
    disk may not be mounted.
    """
    runs, unseen = [], {}
    for note in sorted((cache_dir / "uses").glob("*.txt")):
        run = Path(os.fsdecode(note.read_bytes().removesuffix(b"\n")))
        try:
            if run.is_dir():
                runs.append(run)
            elif run.parent.is_dir():
                note.unlink(missing_ok=True)
            else:
                unseen[run] = note
        except OSError:  # another user's folder
            unseen[run] = note
    return sorted(runs), unseen


def _note(cache_dir: Path, run: Path) -> Path:
    name = hashlib.sha256(os.fsencode(run.absolute())).hexdigest()[:32]
    return cache_dir / "uses" / f"{name}.txt"
