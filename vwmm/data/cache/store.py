"""The cache: each image transformed once, memory-mapped by every process.

An entry's name is made of the image's content and of everything that changes a value, so a changed file or recipe is a
new entry and the old one is never read by mistake. The holder of an entry's lock builds it; the others continue with
something else and find it later.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vwmm.config.schema import Cache, Modality
from vwmm.data.cache.content_index import Identity, IdentityIndex, content_hash, identify
from vwmm.data.cache.entry import Dtype, EntryError, Layout, is_whole, verify, write_entry
from vwmm.data.cache.locks import KeyLocks
from vwmm.data.readers.image import ImageError
from vwmm.data.transforms.preprocess import load_input, recipe_key

# Part of every key: raise it when the file's format changes.
FORMAT_VERSION = 2
WAIT_S = 0.02
_SUFFIX, _UNFINISHED = ".npy", ".building"


class StoreError(OSError):
    """The cache itself cannot be written: the disk is full, for example."""


@dataclass(frozen=True)
class Recipe:
    """How the images of one modality are transformed and kept."""

    modality: Modality
    """The fixed transforms."""
    dtype: Dtype
    """How the voxels are kept."""
    text: str = field(repr=False)
    """Everything that changes a value."""

    @cached_property
    def layout(self) -> Layout:
        """Shape and dtype of the entries."""
        return Layout((1, *self.modality.size), self.dtype)

    def key(self, content: str) -> str:
        """The name of the entry of an image with this content hash."""
        return hashlib.sha256(f"{content} {self.text}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """One transformed image in the store."""

    content_hash: str
    """Hash of the image that it was made from."""
    key: str
    """The entry's name."""
    path: Path
    """Its file."""
    image: Path
    """The image."""
    was_built: bool
    """Whether it was made by this call, or found."""


@dataclass(frozen=True)
class LockedElsewhere:
    """An entry that another process or thread is making just now."""

    content_hash: str
    """Hash of the image."""


class Store:
    """A folder of transformed images. Any number of processes, on any number of nodes, may read and build at once."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.folder = Path(cache.dir)
        self.index = IdentityIndex(self.folder / "index")
        self.locks = KeyLocks(self.folder / ".locks")

    def recipe(self, modality: Modality) -> Recipe:
        """The recipe of a modality in this store."""
        text = f"{FORMAT_VERSION} {self.cache.dtype} {recipe_key(modality, self.cache.mode)}"
        return Recipe(modality, self.cache.dtype, text)

    def path(self, key: str) -> Path:
        """Where the entry of this key is, or will be."""
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def known_content(self, image: Path) -> str | None:
        """The image's content hash, if it can be known without reading the image. Raises OSError."""
        return self.index.get(identify(image))

    def find(self, image: Path, recipe: Recipe, content: str) -> Entry | None:
        """The entry of an image with this content hash, if it is there."""
        key = recipe.key(content)
        path = self.path(key)
        return Entry(content, key, path, image, was_built=False) if is_whole(path, recipe.layout, key) else None

    def entry(self, image: Path, recipe: Recipe) -> Entry:
        """The entry, made first where it is not there; waits where another process is making it.

        Raises ImageError, StoreError, OSError.
        """
        found = self.try_entry(image, recipe)
        while isinstance(found, LockedElsewhere):
            time.sleep(WAIT_S)
            found = self.try_entry(image, recipe, content=found.content_hash)
        return found

    def try_entry(self, image: Path, recipe: Recipe, *, content: str | None = None) -> "Entry | LockedElsewhere":
        """Like `entry`, but does not wait. content: the image's content hash, if it has been found already."""
        identity = identify(image)
        content = content or self.index.get(identity) or content_hash(image)
        if (found := self.find(image, recipe, content)) is not None:
            self._remember(image, identity, content)
            return found
        with self._holding(recipe.key(content)) as is_mine:
            if not is_mine:
                return LockedElsewhere(content)
            # It may have been finished between the first look and the lock.
            return self.find(image, recipe, content) or self._build(image, recipe, content, identity)

    def rebuild(self, entry: Entry, recipe: Recipe) -> None:
        """Rebuilds an entry with damaged voxels. Raises ImageError, StoreError, OSError."""
        identity = identify(entry.image)
        if (self.index.get(identity) or content_hash(entry.image)) != entry.content_hash:
            raise ImageError(
                "the cached image is damaged, and the file that it was made from has changed since: start again",
                "unusable",
            )
        with self._holding(entry.key) as is_mine:
            if not is_mine:
                time.sleep(WAIT_S)  # another process rebuilds it
            elif not _is_intact(entry, recipe):
                self._build(entry.image, recipe, entry.content_hash, identity)

    def _build(self, image: Path, recipe: Recipe, content: str, identity: Identity) -> Entry:
        array, key = load_input(image, recipe.modality, mode=self.cache.mode), recipe.key(content)
        self._remember(image, identity, content)
        path = self.path(key)
        # Only the lock's holder writes, so that what a killed process left is overwritten by the next.
        writer = key if self.locks.are_supported else f"{key}.{os.uname().nodename}-{os.getpid()}"
        try:
            write_entry(path, array, key=key, dtype=recipe.dtype, temporary=path.with_name(f".{writer}{_UNFINISHED}"))
        except EntryError as error:
            raise ImageError(str(error)) from error
        except OSError as error:
            raise StoreError(error.errno, error.strerror) from error
        return Entry(content, key, path, image, was_built=True)

    def _remember(self, image: Path, before: Identity, content: str) -> None:
        """Notes the content; ImageError where the image was changed while it was read."""
        if identify(image) != before:
            raise ImageError("the file was changed while it was read; start again when it is complete", "unusable")
        # A cache that cannot be written is still read; the image is hashed again next time.
        with contextlib.suppress(OSError):
            self.index.put(before, content)

    @contextlib.contextmanager
    def _holding(self, key: str) -> Iterator[bool]:
        with contextlib.ExitStack() as stack:
            try:
                is_mine = stack.enter_context(self.locks.try_hold(key))
            except OSError as error:
                raise StoreError(error.errno, error.strerror) from error
            yield is_mine

    def prune(self, needed: Collection[str]) -> tuple[int, int]:
        """Removes entries with keys not needed, and leftovers of killed processes; (files, bytes) removed."""
        files, size = 0, 0
        for path in self._files():
            if path.name.endswith(_SUFFIX) and path.name.removesuffix(_SUFFIX) in needed:
                continue
            key = path.name.lstrip(".")[:32]
            with self._holding(key) as is_mine:
                if is_mine and path.exists():  # else somebody is building it, or has removed it
                    size += path.stat().st_size
                    path.unlink()
                    files += 1
        self.index.compact()
        return files, size

    def _files(self) -> list[Path]:
        """Entries, whole or unfinished."""
        found = sorted(self.folder.glob("[0-9a-f][0-9a-f]/*")) + sorted(self.folder.glob("[0-9a-f][0-9a-f]/.*"))
        return [path for path in found if path.name.endswith((_SUFFIX, _UNFINISHED)) and _is_key(path.name)]


def _is_intact(entry: Entry, recipe: Recipe) -> bool:
    try:
        verify(memoryview(entry.path.read_bytes()), recipe.layout, entry.key)
    except (OSError, EntryError):
        return False
    return True


def _is_key(name: str) -> bool:
    """Whether a file's name is one that the store gives: nothing else is ever removed."""
    return re.fullmatch(r"\.?[0-9a-f]{32}\..*", name) is not None
