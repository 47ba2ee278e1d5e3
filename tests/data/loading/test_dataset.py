"""Batches from the store: shapes, masks, dtypes, and the order asked for."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.making import make_case, make_store, put_array
from vwmm.config.schema import Modality
from vwmm.data.loading.dataset import Batch, CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.system.errors import UserError

MODALITIES = {"solid": Modality(dims=3, size=[5, 4, 3]), "flat": Modality(dims=2, size=[4, 3])}


def voxels(number: int, name: str) -> np.ndarray:
    generator = np.random.default_rng((number, len(name)))
    return generator.normal(3, 2, (1, *MODALITIES[name].size)).astype(np.float32)


def make_dataset(folder: Path, dtype: str = "float32") -> CaseDataset:
    """Six cases; every second one lacks `flat`, the last one `solid`."""
    store = make_store(folder, dtype=dtype)
    recipes = {name: store.recipe(modality) for name, modality in MODALITIES.items()}
    cases, entries = [], {}
    for number in range(6):
        has = {"solid": number != 5, "flat": number % 2 == 0 or number == 5}
        case = make_case(f"c{number}", images={name: Path("x") if there else None for name, there in has.items()})
        cases.append(case)
        for name, recipe in recipes.items():
            if has[name]:
                entries[case.name, name] = put_array(store, recipe, voxels(number, name), f"{number}{name}")
    return CaseDataset(cases, MODALITIES, entries, [0, 1, 0, 1, 0, -1], store)


@pytest.fixture
def dataset(tmp_path: Path) -> CaseDataset:
    return make_dataset(tmp_path)


def test_a_batch_has_the_shapes_and_kinds_that_the_network_takes(dataset: CaseDataset) -> None:
    batch = dataset[[3, 0, 5]].cast()

    assert {name: tuple(image.shape) for name, image in batch.images.items()} == {
        "solid": (3, 1, 5, 4, 3),
        "flat": (3, 1, 4, 3),
    }
    assert {image.dtype for image in batch.images.values()} == {torch.float32}
    assert (batch.present.dtype, batch.labels.dtype, batch.indices.dtype) == (torch.bool, torch.int64, torch.int64)
    assert batch.present.tolist() == [[True, False], [True, True], [False, True]]
    assert batch.labels.tolist() == [1, 0, -1]
    assert batch.indices.tolist() == [3, 0, 5]


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 0.0), ("float16", 4e-3), ("uint8", 3e-2)])
def test_missing_images_are_zeros_and_the_others_their_own_in_every_dtype(
    dtype: str, atol: float, tmp_path: Path
) -> None:
    dataset = make_dataset(tmp_path, dtype)
    buffer = dataset.empty(4)
    dataset.fill(buffer, [0, 1, 2, 4])  # what a buffer held before does not show

    for batch in (dataset[[3, 0, 5]], dataset.fill(buffer, [3, 0, 5])):
        assert {image.dtype for image in batch.images.values()} == {getattr(torch, dtype)}
        images = {name: image.numpy() for name, image in batch.cast().images.items()}
        np.testing.assert_allclose(images["solid"][0], voxels(3, "solid"), rtol=0, atol=atol)
        np.testing.assert_allclose(images["solid"][1], voxels(0, "solid"), rtol=0, atol=atol)
        np.testing.assert_allclose(images["flat"][2], voxels(5, "flat"), rtol=0, atol=atol)
        assert not images["solid"][2].any()
        assert not images["flat"][0].any()
        assert batch.present.tolist() == [[True, False], [True, True], [False, True]]
    image = dataset.image(3, "solid")
    assert image is not None
    np.testing.assert_allclose(image, voxels(3, "solid"), rtol=0, atol=atol)


def test_an_empty_batch_has_the_same_kinds(dataset: CaseDataset) -> None:
    batch = dataset[[]].cast()

    assert tuple(batch.images["solid"].shape) == (0, 1, 5, 4, 3)
    assert tuple(batch.present.shape) == (0, 2)
    assert (batch.labels.dtype, batch.indices.dtype, tuple(batch.labels.shape)) == (torch.int64, torch.int64, (0,))


def test_what_is_present_is_known_without_reading(dataset: CaseDataset) -> None:
    assert dataset.present().tolist() == [[True, True], [True, False]] * 2 + [[True, True], [False, True]]
    assert len(dataset) == 6
    assert dataset.image(1, "flat") is None


def test_writing_to_a_batch_does_not_reach_the_store(dataset: CaseDataset) -> None:
    dataset[[0]].images["solid"].zero_()

    np.testing.assert_array_equal(dataset[[0]].images["solid"][0], voxels(0, "solid"))


def test_a_batch_goes_to_a_device_whole(tmp_path: Path) -> None:
    moved: Batch = make_dataset(tmp_path, "uint8")[[1]].to(torch.device("meta"))

    tensors = (*moved.images.values(), *moved.levels.values(), moved.present, moved.labels)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.indices.tolist() == [1]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_batches_come_in_the_order_asked_for_and_draw_no_random_number(
    num_threads: int, dtype: str, tmp_path: Path
) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()

    dataset = make_dataset(tmp_path, dtype)
    wanted = [[5, 0], [3], [], [1, 2, 4], [0]] * 3
    before = states()

    for _ in range(2):
        seen = []
        for batch in load_batches(dataset, wanted, num_threads=num_threads):
            expected = dataset[batch.indices.tolist()].cast()
            torch.testing.assert_close(batch.images, expected.images, rtol=0, atol=0)
            torch.testing.assert_close(batch.present, expected.present)
            torch.testing.assert_close(batch.labels, expected.labels)
            seen.append(batch.indices.tolist())
        assert seen == wanted
    assert states() == before


def test_buffers_are_used_again_in_the_next_epoch(dataset: CaseDataset) -> None:
    def addresses() -> set[int]:
        return {batch.images["solid"].data_ptr() for batch in load_batches(dataset, [[0, 1], [2, 3], [4, 5]] * 3)}

    first = addresses()

    assert len(first) == 2
    assert addresses() == first


def test_a_loop_that_is_left_early_stops_reading(dataset: CaseDataset) -> None:
    batches = load_batches(dataset, [[0]] * 100, num_threads=2)
    next(batches)
    batches.close()

    assert len(list(load_batches(dataset, [[1]] * 3, num_threads=2))) == 3


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_a_cohort_that_is_kept_on_a_device_gives_the_same_batches(dtype: str, tmp_path: Path) -> None:
    dataset, resident = make_dataset(tmp_path, dtype), make_dataset(tmp_path, dtype)
    resident.keep_on(torch.device("cpu"), batch_size=4)

    assert resident.is_resident
    wanted = [[5, 0], [3], [], [1, 2, 4]]
    for expected, found in zip(wanted, load_batches(resident, wanted), strict=True):
        batch = dataset[expected].cast()
        torch.testing.assert_close(found.images, batch.images, rtol=0, atol=0)
        assert found.indices.tolist() == expected
        assert found.labels.tolist() == batch.labels.tolist()
        assert found.present.tolist() == batch.present.tolist()


def test_an_image_that_cannot_be_read_any_more_is_named(dataset: CaseDataset, tmp_path: Path) -> None:
    for path in tmp_path.glob("??/*.npy"):
        path.unlink()
    with pytest.raises(UserError, match="line 2, case c0: solid x: No such file"):
        list(load_batches(dataset, [[0]]))
