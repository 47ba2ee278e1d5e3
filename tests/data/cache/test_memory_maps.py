"""Reading entries: verified when first opened, built again when damaged, and shared by all processes."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.data.making import SOLID, make_store, numbers, write_nifti
from vwmm.data.cache import memory_maps
from vwmm.data.cache.memory_maps import EntryMaps
from vwmm.data.cache.store import Entry, Store
from vwmm.data.readers.image import ImageError
from vwmm.data.transforms.preprocess import load_input


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "a.nii", numbers(10, 9, 8))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "cache")


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_the_voxels_are_the_transformed_image(store: Store, image: Path) -> None:
    recipe = store.recipe(SOLID)
    maps, entry = EntryMaps(store), store.entry(image, recipe)

    voxels, levels = maps.voxels(entry, recipe)

    assert (str(voxels.dtype), voxels.shape) == ("float32", (1, 8, 6, 4))
    assert voxels.tobytes() == load_input(image, SOLID).tobytes()
    assert (levels.step, levels.lowest) == (1.0, 0.0)
    assert maps.voxels(entry, recipe)[0] is voxels


@pytest.mark.parametrize("damage", ["voxel", "trailer", "torn", "removed"])
def test_a_damaged_entry_is_built_again_and_said(damage: str, store: Store, image: Path) -> None:
    recipe = store.recipe(SOLID)
    entry = store.entry(image, recipe)
    if damage == "voxel":
        flip(entry.path, 400)
    elif damage == "trailer":
        flip(entry.path, -1)
    elif damage == "torn":
        entry.path.write_bytes(entry.path.read_bytes()[:-10])
    else:
        entry.path.unlink()
    told: list[Entry] = []

    voxels, _ = EntryMaps(store, on_damage=told.append).voxels(entry, recipe)

    np.testing.assert_array_equal(voxels, load_input(image, SOLID))
    assert told == [entry]
    assert not store.entry(image, recipe).was_built


def test_a_damaged_entry_of_a_changed_image_is_an_error(store: Store, image: Path) -> None:
    recipe = store.recipe(SOLID)
    entry = store.entry(image, recipe)
    entry.path.unlink()
    write_nifti(image, numbers(10, 9, 8, seed=1))

    with pytest.raises(ImageError, match="has changed since"):
        EntryMaps(store).voxels(entry, recipe)


@pytest.mark.parametrize("damage", ["voxel", "short"])
def test_what_is_damaged_while_it_is_open_is_built_again(damage: str, store: Store, image: Path) -> None:
    recipe = store.recipe(SOLID)
    maps, entry = EntryMaps(store), store.entry(image, recipe)
    maps.voxels(entry, recipe)
    if damage == "voxel":
        flip(entry.path, 400)
    else:
        os.truncate(entry.path, 100)

    np.testing.assert_array_equal(maps.voxels(entry, recipe)[0], load_input(image, SOLID))


def test_what_another_process_has_mended_is_not_built_again(
    store: Store, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = store.recipe(SOLID)
    entry = store.entry(image, recipe)
    monkeypatch.setattr("vwmm.data.cache.store.load_input", mock.Mock(side_effect=AssertionError("built again")))

    store.rebuild(entry, recipe)


def test_only_so_many_maps_are_open(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_maps, "MAX_MAPS", 2)
    recipe, maps = store.recipe(SOLID), EntryMaps(store)
    images = [write_nifti(tmp_path / f"{seed}.nii", numbers(10, 9, 8, seed=seed)) for seed in range(4)]
    entries = [store.entry(image, recipe) for image in images]

    for _ in range(2):
        for image, entry in zip(images, entries, strict=True):
            np.testing.assert_array_equal(maps.voxels(entry, recipe)[0], load_input(image, SOLID))
    own = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(store.folder) in line]
    assert len(own) == 2


def test_writing_to_the_voxels_does_not_reach_the_file(store: Store, image: Path) -> None:
    recipe = store.recipe(SOLID)
    entry = store.entry(image, recipe)
    EntryMaps(store).voxels(entry, recipe)[0][...] = 0

    np.testing.assert_array_equal(EntryMaps(store).voxels(entry, recipe)[0], load_input(image, SOLID))


def test_lack_of_memory_is_no_damage(store: Store, image: Path) -> None:
    """In a process of its own, whose address space may not grow."""
    recipe = store.recipe(SOLID)
    entry = store.entry(image, recipe)
    script = f"""
import resource
from pathlib import Path
from tests.conftest import ROOT
from tests.data.making import SOLID, make_store
from vwmm.data.cache.memory_maps import EntryMaps
store = make_store(Path({str(store.cache.dir)!r}))
recipe = store.recipe(SOLID)
entry = store.entry(Path({str(image)!r}), recipe)
maps = EntryMaps(store, on_damage=lambda entry: print("damaged"))
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), -1))
try:
    maps.voxels(entry, recipe)
except MemoryError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"{entry.path} cannot be mapped\n", done.stderr
