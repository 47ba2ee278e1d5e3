"""What one rank computes of an epoch."""

from typing import Any

import numpy as np
import pytest

from vwmm.data.loading.sampling import DUMMY_MICRO_BATCH
from vwmm.engine.training.epoch import Epoch, TrainStep

PLAN = [[[0, 1], [2, 3], [4, 5]], [[6, 7]]]  # a step of three micro-batches, and one of one


def steps_of(**settings: Any) -> list[TrainStep]:
    present = np.ones((8, 2), dtype=bool)
    present[2, 1] = False
    none: Any = None
    return list(Epoch(none, PLAN, present=present, augment=none, first_step=5, **{"seed": 0} | settings).steps())


@pytest.mark.parametrize("num_processes", [1, 2, 3, 5])
def test_ranks_share_a_step_and_know_all_of_it(num_processes: int) -> None:
    ranks = [steps_of(rank=rank, num_processes=num_processes) for rank in range(num_processes)]

    for number, steps in enumerate(zip(*ranks, strict=True)):
        own = [part for step in steps for part in step.own if part.number != DUMMY_MICRO_BATCH]
        assert sorted(part.number for part in own) == list(range(len(PLAN[number])))
        assert all(part.cases == PLAN[number][part.number] for part in own)
        assert {step.number for step in steps} == {5 + number}
        assert all(step.cases == [case for cases in PLAN[number] for case in cases] for step in steps)
    assert ranks[0][0].num_images == [[2, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("dummies", "expected"), [("none", [[1], []]), ("idle", [[1], [-1]]), ("even", [[1, -1], [-1]])]
)
def test_dummies_let_a_rank_without_micro_batches_take_part(dummies: str, expected: list[list[int]]) -> None:
    steps = steps_of(rank=1, num_processes=2, dummies=dummies)

    assert [[part.number for part in step.own] for step in steps] == expected
    for step in steps:
        assert [part.is_last for part in step.own] == [False] * (len(step.own) - 1) + [True] * bool(step.own)
        assert all(not part.cases for part in step.own if part.number == DUMMY_MICRO_BATCH)


def test_dropout_depends_on_seed_step_and_micro_batch_and_on_no_rank() -> None:
    alone = [part.dropout_seed for step in steps_of() for part in step.own]
    other_seed = [part.dropout_seed for step in steps_of(seed=1) for part in step.own]
    second = [part.dropout_seed for part in steps_of(rank=1, num_processes=2)[0].own]

    assert len({*alone, *other_seed}) == 8
    assert second == [alone[1]]
