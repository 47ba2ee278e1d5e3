"""The shared cache: found again, never torn, never another image's."""

import contextlib
import errno
import multiprocessing
import pickle
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.data.making import FLAT, SOLID, make_store, numbers, only_entry, write_nifti
from vwmm.config.schema import Modality
from vwmm.data.cache import store
from vwmm.data.cache.store import Entry, LockedElsewhere, Store, StoreError
from vwmm.data.readers.image import ImageError
from vwmm.data.transforms.preprocess import load_input


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "images" / "a.nii.gz", numbers(10, 9, 8))


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return make_store(tmp_path / "cache")


def make(cache: Store, image: Path, modality: Modality = SOLID) -> Entry:
    return cache.entry(image, cache.recipe(modality))


def entries_in(cache: Store) -> list[Path]:
    """Everything in the store but its locks and its index."""
    return sorted(path for path in cache.folder.glob("??/*") if path.is_file())


def test_an_entry_is_the_transformed_image_and_is_found_the_second_time(cache: Store, image: Path) -> None:
    first = make(cache, image)
    second = make(make_store(cache.folder), image)

    assert (first.was_built, second.was_built) == (True, False)
    assert (first.path, first.content_hash, first.key) == (second.path, second.content_hash, second.key)
    array = np.load(first.path)
    assert array.tobytes() == load_input(image, SOLID).tobytes()
    assert array.dtype == np.float32


def test_a_changed_file_recipe_dtype_or_mode_is_a_new_entry(cache: Store, image: Path) -> None:
    entries = [
        make(cache, image),
        make(cache, image, SOLID.model_copy(update={"intensity": "none"})),
        make(make_store(cache.folder, dtype="float16"), image),
        make(make_store(cache.folder, mode="fast"), image),
    ]
    write_nifti(image, numbers(10, 9, 8, seed=1))
    entries.append(make(cache, image))

    assert all(entry.was_built for entry in entries)
    assert len({entry.path for entry in entries}) == len(entries)
    np.testing.assert_array_equal(np.load(entries[-1].path), load_input(image, SOLID))


def test_the_same_content_under_another_name_is_the_same_entry(cache: Store, image: Path) -> None:
    first = make(cache, image)
    copy = Path(shutil.copy(image, image.with_name("copy.nii.gz")))

    second = make(cache, copy, SOLID.model_copy(update={"column": "x"}))

    assert (second.path, second.was_built, second.image) == (first.path, False, copy)


def test_an_image_is_read_once_and_then_known_by_its_state(
    cache: Store, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vwmm.data.cache.content_index.RACY_S", -1.0)
    first = make(cache, image)
    monkeypatch.setattr(store, "content_hash", mock.Mock(side_effect=AssertionError("read again")))

    later = make_store(cache.folder)

    assert later.known_content(image) == first.content_hash
    assert not make(later, image).was_built


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def reshaped(path: Path) -> None:
    np.save(path, np.zeros((1, 6, 8, 4), np.float32))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2, 3]))


def removed(path: Path) -> None:
    path.unlink()


def another(path: Path) -> None:
    """A whole entry, in the place of this one."""
    other = make_store(path.parent / "other")
    shutil.copy(make(other, write_nifti(path.parent / "b.nii", numbers(10, 9, 8, seed=3))).path, path)
    shutil.rmtree(other.folder)
    (path.parent / "b.nii").unlink()


@pytest.mark.parametrize("damage", [torn, emptied, reshaped, pickled, removed, another])
def test_an_entry_that_is_not_whole_is_built_again(damage: Any, cache: Store, image: Path) -> None:
    path = make(cache, image).path
    damage(path)

    entry = make(cache, image)

    assert entry.was_built
    np.testing.assert_array_equal(np.load(entry.path), load_input(image, SOLID))
    assert entries_in(cache) == [path]


def test_an_image_that_cannot_be_used_leaves_nothing(cache: Store, image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-50])

    with pytest.raises(ImageError):
        make(cache, image)

    assert entries_in(cache) == []


def test_an_image_that_changes_while_it_is_read_is_refused(
    cache: Store, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_and_change(*_: object, **__: object) -> np.ndarray:
        image.write_bytes(image.read_bytes() + b"x")
        return np.zeros((1, 8, 6, 4), np.float32)

    monkeypatch.setattr(store, "load_input", load_and_change)
    with pytest.raises(ImageError, match="changed while it was read"):
        make(cache, image)
    assert entries_in(cache) == []


def test_a_full_disk_is_the_stores_fault_and_leaves_nothing(
    cache: Store, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vwmm.data.cache.entry._write_all", fail)
    with pytest.raises(StoreError, match="No space left"):
        make(cache, image)
    assert entries_in(cache) == []


def test_what_another_holds_is_left_to_it(cache: Store, image: Path) -> None:
    recipe = cache.recipe(SOLID)
    content = store.content_hash(image)

    with make_store(cache.folder).locks.try_hold(recipe.key(content)):
        assert cache.try_entry(image, recipe) == LockedElsewhere(content)
    found = cache.try_entry(image, recipe)
    assert isinstance(found, Entry)
    assert found.was_built


def test_what_a_killed_writer_left_is_overwritten(cache: Store, image: Path) -> None:
    path = make(cache, image).path
    path.rename(path.with_name(f".{path.stem}.building"))

    assert make(cache, image).was_built
    assert entries_in(cache) == [path]


def test_prune_keeps_what_is_needed_and_removes_the_rest(cache: Store, image: Path) -> None:
    kept, other = make(cache, image), make(cache, image, SOLID.model_copy(update={"intensity": "none"}))
    left = kept.path.with_name(f".{kept.key}.building")
    left.write_bytes(b"x" * 10)
    stranger = kept.path.with_name("mine.npy")
    stranger.touch()
    size = other.path.stat().st_size + 10

    with cache.locks.try_hold("e" * 32):
        being_built = cache.path("e" * 32)
        being_built.parent.mkdir(exist_ok=True)
        being_built.touch()
        assert cache.prune({kept.key}) == (2, size)

    assert sorted(entries_in(cache)) == sorted([kept.path, stranger, being_built])


def build_slowly(folder: str, image: str, start: Any, results: Any) -> None:
    """Builds an entry at the same time as another process, and reads it. Only the transforms are not the real ones."""
    expected = np.arange(8 * 6 * 4, dtype=np.float32).reshape(1, 8, 6, 4)

    def load_slowly(*_: object, **__: object) -> np.ndarray:
        time.sleep(0.3)
        return expected

    with mock.patch.multiple(store, load_input=load_slowly, recipe_key=lambda *_: "recipe"):
        start.wait(timeout=60)
        first = make(make_store(Path(folder)), Path(image))
    results.put((first.was_built, np.load(first.path).tobytes() == expected.tobytes()))


def test_two_processes_build_the_same_entry_once(cache: Store, image: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    start, results = context.Barrier(2), context.Queue()
    arguments = (str(cache.folder), str(image), start, results)
    workers = [context.Process(target=build_slowly, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in range(2)]
    for worker in workers:
        worker.join(timeout=60)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(found) == [(False, True), (True, True)]
    assert entries_in(cache) == [only_entry(cache.folder)]


def test_others_may_read_the_shared_cache(cache: Store, image: Path) -> None:
    assert make(cache, image).path.stat().st_mode & 0o044 == 0o044


def test_a_cache_that_cannot_be_written_is_still_read(cache: Store, image: Path) -> None:
    path = make(cache, image).path
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(cache.folder / "index")
    (cache.folder / "index").touch()  # root may write anywhere; a file in the folder's place stops even root

    later = make_store(cache.folder)
    assert not make(later, image).was_built
    assert path.exists()


def test_one_modalitys_recipe_leaves_the_others_entries(cache: Store, image: Path) -> None:
    solid, flat = make(cache, image), make(cache, image, FLAT)

    windowed = make(cache, image, FLAT.model_copy(update={"window_hu": [0.0, 500.0]}))

    assert windowed.was_built
    assert windowed.path != flat.path
    assert not make(cache, image).was_built
    assert make(cache, image).path == solid.path
