"""Batches from the store: shapes, masks, order, and no random number drawn."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.making import make_case
from vwmm.config.schema import Modality
from vwmm.data.dataset import Batch, CaseDataset, load_batches
from vwmm.data.store import Entry

MODALITIES = {"solid": Modality(dims=3, size=[5, 4, 3]), "flat": Modality(dims=2, size=[4, 3])}


@pytest.fixture
def dataset(tmp_path: Path) -> CaseDataset:
    """Six cases; every second one lacks `flat`, the last one `solid`. Voxels are the case's number."""
    cases, entries = [], {}
    for number in range(6):
        has = {"solid": number != 5, "flat": number % 2 == 0 or number == 5}
        case = make_case(f"c{number}", images={name: Path("x") if there else None for name, there in has.items()})
        cases.append(case)
        for name, modality in MODALITIES.items():
            path = tmp_path / f"{case.name}_{name}.npy"
            np.save(path, np.full((1, *modality.size), number + 1, np.float32))
            if has[name]:
                entries[case.name, name] = Entry("hash", path, was_built=True)
    return CaseDataset(cases, MODALITIES, entries, [0, 1, 0, 1, 0, -1])


def test_a_batch_has_the_shapes_and_kinds_that_the_network_takes(dataset: CaseDataset) -> None:
    batch = dataset[[3, 0, 5]]

    assert {name: tuple(image.shape) for name, image in batch.images.items()} == {
        "solid": (3, 1, 5, 4, 3),
        "flat": (3, 1, 4, 3),
    }
    assert {image.dtype for image in batch.images.values()} == {torch.float32}
    assert (batch.present.dtype, batch.labels.dtype, batch.indices.dtype) == (torch.bool, torch.int64, torch.int64)
    assert batch.present.tolist() == [[True, False], [True, True], [False, True]]
    assert batch.labels.tolist() == [1, 0, -1]
    assert batch.indices.tolist() == [3, 0, 5]


def test_missing_images_are_zeros_and_the_others_their_own(dataset: CaseDataset) -> None:
    batch = dataset[[3, 0, 5]]

    torch.testing.assert_close(batch.images["solid"].mean(dim=(1, 2, 3, 4)), torch.tensor([4.0, 1.0, 0.0]))
    torch.testing.assert_close(batch.images["flat"].mean(dim=(1, 2, 3)), torch.tensor([0.0, 1.0, 6.0]))


def test_an_empty_batch_has_the_same_kinds(dataset: CaseDataset) -> None:
    batch = dataset[[]]

    assert tuple(batch.images["solid"].shape) == (0, 1, 5, 4, 3)
    assert tuple(batch.present.shape) == (0, 2)
    assert (batch.labels.dtype, batch.indices.dtype, tuple(batch.labels.shape)) == (torch.int64, torch.int64, (0,))


def test_what_is_present_is_known_without_reading(dataset: CaseDataset) -> None:
    assert dataset.present().tolist() == [[True, True], [True, False]] * 2 + [[True, True], [False, True]]
    assert CaseDataset([], MODALITIES, {}, []).present().shape == (0, 2)
    assert len(dataset) == 6
    assert dataset.image(1, "flat") is None
    image = dataset.image(1, "solid")
    assert isinstance(image, np.memmap)
    assert image.shape == (1, 5, 4, 3)


def test_writing_to_a_batch_does_not_reach_the_store(dataset: CaseDataset) -> None:
    dataset[[0]].images["solid"].zero_()

    assert dataset[[0]].images["solid"].mean() == 1


def test_a_batch_goes_to_a_device_whole(dataset: CaseDataset) -> None:
    moved: Batch = dataset[[1]].to(torch.device("meta"))

    assert {tensor.device.type for tensor in (*moved.images.values(), moved.present, moved.labels)} == {"meta"}
    assert moved.indices.tolist() == [1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_in_the_order_asked_for_and_draw_no_random_number(num_workers: int, dataset: CaseDataset) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()

    wanted = [[5, 0], [3], [], [1, 2, 4], [0]]
    before = states()

    batches = list(load_batches(dataset, wanted, num_workers=num_workers))

    assert [batch.indices.tolist() for batch in batches] == wanted
    for batch, indices in zip(batches, wanted, strict=True):
        torch.testing.assert_close(batch.images, dataset[indices].images)
        torch.testing.assert_close(batch.present, dataset[indices].present)
    assert states() == before
