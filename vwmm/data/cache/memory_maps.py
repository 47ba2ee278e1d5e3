"""Opens cache entries as memory maps; damaged ones are rebuilt.

Each process verifies an entry's checksum when it first opens it, and again when its file has changed since. One that is
damaged is built again from its image.
"""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vwmm.data.cache.entry import EntryError, Levels, verify
from vwmm.data.cache.store import Entry, Recipe, Store

# Linux allows a process 65,530 maps (vm.max_map_count); the rest is opened again each time.
MAX_MAPS = 16_384
_ATTEMPTS = 100
_NO_MEMORY = os.strerror(errno.ENOMEM)
Stamp = tuple[int, int, int]


class EntryMaps:
    """The open entries of one process."""

    def __init__(self, store: Store, *, on_damage: Callable[[Entry], None] | None = None) -> None:
        """on_damage: called with each entry that must be rebuilt."""
        self._store = store
        self._on_damage = on_damage
        self._open: OrderedDict[str, tuple[np.ndarray, Levels]] = OrderedDict()
        self._verified: dict[str, Levels] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._guard = threading.Lock()

    def voxels(self, entry: Entry, recipe: Recipe) -> tuple[np.ndarray, Levels]:
        """(1, *size) in the recipe's dtype, not to be written, and its levels. Raises ImageError, OSError."""
        stamp = _stamp(entry.path)
        found = self._open.get(entry.key)
        # Reading behind the end of a file that was cut short would kill the process.
        if found is None or self._stamps.get(entry.key) != stamp:
            found = self._map(entry, recipe)
            with self._guard:
                self._open[entry.key] = found
                if len(self._open) > MAX_MAPS:
                    self._open.popitem(last=False)
        return found

    def _map(self, entry: Entry, recipe: Recipe) -> tuple[np.ndarray, Levels]:
        for _ in range(_ATTEMPTS):
            try:
                return self._map_whole(entry, recipe)
            except (EntryError, RuntimeError, OSError) as error:  # RuntimeError: torch's, for a file gone or short
                if _NO_MEMORY in str(error):
                    raise MemoryError(f"{entry.path} cannot be mapped") from error
                if self._on_damage is not None:
                    self._on_damage(entry)
                self._store.rebuild(entry, recipe)
        raise OSError(f"{entry.path}: damaged again each time that it is built")

    def _map_whole(self, entry: Entry, recipe: Recipe) -> tuple[np.ndarray, Levels]:
        layout, stamp = recipe.layout, _stamp(entry.path)
        # Private: writing to it would change neither the file nor what other processes see.
        whole = torch.from_file(str(entry.path), shared=False, size=layout.file_bytes, dtype=torch.uint8)
        levels = self._verified.get(entry.key)
        if levels is None or self._stamps.get(entry.key) != stamp:
            levels = self._verified[entry.key] = verify(whole.numpy().data, layout, entry.key)
        self._stamps[entry.key] = stamp
        start = len(layout.header)
        voxels = whole.numpy()[start : start + layout.voxel_bytes].view(layout.dtype).reshape(layout.shape)
        return voxels, levels


def _stamp(path: Path) -> Stamp | None:
    """Values that change with the file; None if it is gone."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns
