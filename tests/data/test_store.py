"""The shared cache: found again, never torn, never another image's."""

import multiprocessing
import pickle
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.data.making import FLAT, SOLID, numbers, write_nifti, write_series
from vwmm.data import store
from vwmm.data.image import ImageError
from vwmm.data.store import Entry, Store, content_hash, open_array
from vwmm.data.transforms import load_input


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "images" / "a.nii.gz", numbers(10, 9, 8))


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_entry_is_the_transformed_image_and_is_found_the_second_time(cache: Store, image: Path) -> None:
    first = cache.entry(image, SOLID)
    second = Store(cache.folder).entry(image, SOLID)

    assert (first.was_built, second.was_built) == (True, False)
    assert (first.path, first.content_hash) == (second.path, second.content_hash)
    array = open_array(first.path)
    assert array.tobytes() == load_input(image, SOLID).tobytes()
    assert array.dtype == np.float32


def test_entries_are_memory_maps_that_cannot_be_written(cache: Store, image: Path) -> None:
    array = open_array(cache.entry(image, SOLID).path)

    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0


def test_a_changed_file_or_recipe_is_a_new_entry(cache: Store, image: Path) -> None:
    first = cache.entry(image, SOLID)
    other_recipe = cache.entry(image, SOLID.model_copy(update={"intensity": "none"}))
    write_nifti(image, numbers(10, 9, 8, seed=1))
    other_file = cache.entry(image, SOLID)

    assert other_recipe.was_built
    assert other_file.was_built
    assert len({first.path, other_recipe.path, other_file.path}) == 3
    np.testing.assert_array_equal(open_array(other_file.path), load_input(image, SOLID))


def test_the_same_content_under_another_name_is_the_same_entry(cache: Store, image: Path) -> None:
    first = cache.entry(image, SOLID)
    copy = Path(shutil.copy(image, image.with_name("copy.nii.gz")))

    assert cache.entry(copy, SOLID.model_copy(update={"column": "x"})) == Entry(first.content_hash, first.path, False)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def reshaped(path: Path) -> None:
    np.save(path, np.zeros((1, 6, 8, 4), np.float32))


def retyped(path: Path) -> None:
    np.save(path, np.zeros((1, 8, 6, 4), np.float64))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2, 3]))


def zipped(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(3))


@pytest.mark.parametrize("damage", [torn, emptied, reshaped, retyped, pickled, zipped])
def test_an_entry_that_is_not_whole_is_built_again(damage: Any, cache: Store, image: Path) -> None:
    path = cache.entry(image, SOLID).path
    damage(path)

    entry = cache.entry(image, SOLID)

    assert entry.was_built
    np.testing.assert_array_equal(open_array(entry.path), load_input(image, SOLID))
    assert files_in(cache.folder) == [path]


def test_an_aborted_write_leaves_nothing(cache: Store, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vwmm.config.run_folder.os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.entry(image, SOLID)

    assert files_in(cache.folder) == []
    assert cache.entry(image, SOLID).was_built


def test_an_image_that_cannot_be_used_leaves_nothing(cache: Store, image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-50])

    with pytest.raises(ImageError):
        cache.entry(image, SOLID)

    assert files_in(cache.folder) == []


def build_slowly(folder: str, image: str, start: Any, results: Any) -> None:
    """Builds an entry at the same time as another process, and reads it. Only the transforms are not the real ones."""
    expected = np.arange(8 * 6 * 4, dtype=np.float32).reshape(1, 8, 6, 4)

    def load_slowly(*_: object) -> np.ndarray:
        time.sleep(0.3)
        return expected

    with mock.patch.multiple(store, load_input=load_slowly, recipe_key=lambda _: "recipe"):
        start.wait(timeout=60)
        first = Store(Path(folder)).entry(Path(image), SOLID)
        again = Store(Path(folder)).entry(Path(image), SOLID)
    results.put((first.was_built, again.was_built, open_array(first.path).tobytes() == expected.tobytes()))


def test_two_processes_may_build_the_same_entry_at_once(cache: Store, image: Path) -> None:
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
    assert found == [(True, False, True)] * 2
    assert len(files_in(cache.folder)) == 1


def test_others_may_read_the_shared_cache(cache: Store, image: Path) -> None:
    assert cache.entry(image, SOLID).path.stat().st_mode & 0o044 == 0o044


def test_a_dicom_folder_is_known_by_its_files(cache: Store, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbers(12, 14, 3).clip(0))
    first = content_hash(folder)
    entry = cache.entry(folder, FLAT)

    next(folder.iterdir()).rename(folder / "another_name.dcm")
    assert content_hash(folder) == first
    assert not cache.entry(folder, FLAT).was_built
    shutil.rmtree(folder)
    write_series(folder, numbers(12, 14, 3, seed=1).clip(0))
    assert content_hash(folder) != first
    assert cache.entry(folder, FLAT).path != entry.path
