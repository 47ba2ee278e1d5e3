"""Which cases belong to which step: from the seed and the epoch, whatever the number of processes."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vwmm.data.loading.sampling import draw_present, evaluation_batches, micro_batches_of, num_steps, plan_epoch

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))


@given(sizes=SIZES)
def test_each_case_stands_once_in_an_epoch(sizes: tuple[int, int, int, int, int]) -> None:
    num_cases, micro, count, seed, epoch = sizes

    steps = plan_epoch(num_cases, micro * count, micro, seed=seed, epoch=epoch)

    assert sorted(case for step in steps for cases in step for case in cases) == list(range(num_cases))
    assert len(steps) == num_steps(num_cases, micro * count, micro)


@given(sizes=SIZES)
def test_no_micro_batch_holds_a_single_case(sizes: tuple[int, int, int, int, int]) -> None:
    num_cases, micro, count, seed, epoch = sizes

    steps = plan_epoch(num_cases, micro * count, micro, seed=seed, epoch=epoch)

    found = [len(cases) for step in steps for cases in step]
    assert all(size == micro for size in found[:-1] if micro == 1 or size != micro + 1)
    assert max(found) <= micro + 1
    assert found.count(micro + 1) <= 1
    if micro > 1 and num_cases > 1:
        assert min(found) > 1
    assert all(1 <= len(step) <= count for step in steps)
    assert all(len(step) == count for step in steps[:-1])


def test_the_plan_is_the_seeds_and_the_epochs() -> None:
    def plan(seed: int, epoch: int) -> list[list[list[int]]]:
        return plan_epoch(50, 8, 2, seed=seed, epoch=epoch)

    assert plan(1, 1) == plan(1, 1)
    assert plan(1, 1) != plan(1, 2)
    assert plan(1, 1) != plan(2, 1)
    assert plan(1, 2) != plan(2, 1)


def test_the_plan_is_the_same_forever() -> None:
    """A run that is continued after an upgrade must see the same cases."""
    assert plan_epoch(7, 4, 2, seed=0, epoch=1) == [[[2, 5], [4, 6]], [[0, 1, 3]]]


@given(num_micro_batches=st.integers(0, 20), num_processes=st.integers(1, 8))
def test_ranks_share_the_micro_batches_evenly(num_micro_batches: int, num_processes: int) -> None:
    shares = [
        micro_batches_of(num_micro_batches, rank=rank, num_processes=num_processes) for rank in range(num_processes)
    ]

    assert sorted(number for share in shares for number in share) == list(range(num_micro_batches))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_evaluation_batches_are_in_order_and_of_one_size() -> None:
    assert evaluation_batches(5, 2) == [[0, 1], [2, 3], [4, 4]]
    assert evaluation_batches(4, 2) == [[0, 1], [2, 3]]
    assert evaluation_batches(1, 4) == [[0, 0, 0, 0]]
    assert evaluation_batches(0, 4) == []


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30), chance=st.floats(0, 0.999)
)
def test_modality_dropout_adds_nothing_and_keeps_one(rows: list[list[bool]], chance: float) -> None:
    present = np.array(rows)

    kept = draw_present(present, chance, seed=0, epoch=1)

    assert not (kept & ~present).any()
    np.testing.assert_array_equal(kept.any(axis=1), present.any(axis=1))


def test_modality_dropout_has_its_chance_and_is_keyed() -> None:
    present = np.ones((4000, 3), bool)

    kept = draw_present(present, 0.3, seed=0, epoch=1)

    lost = 0.3 - 0.3**3 / 3  # of those that would lose all three, one is kept
    assert kept.mean() == pytest.approx(1 - lost, abs=0.015)
    assert np.ptp(kept.mean(axis=0)) < 0.04
    np.testing.assert_array_equal(kept, draw_present(present, 0.3, seed=0, epoch=1))
    assert (kept != draw_present(present, 0.3, seed=0, epoch=2)).any()
    assert (kept != draw_present(present, 0.3, seed=1, epoch=1)).any()
    np.testing.assert_array_equal(draw_present(present, 0, seed=0, epoch=1), present)


def test_no_global_random_number_is_drawn() -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()

    before = states()

    plan_epoch(50, 8, 2, seed=0, epoch=1)
    draw_present(np.ones((9, 3), bool), 0.5, seed=0, epoch=1)

    assert states() == before
