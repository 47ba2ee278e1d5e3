"""What one rank computes of an epoch."""

from typing import Any

import numpy as np
import pytest

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
        own = [part for step in steps for part in step.passes if part.numbers]
        assert sorted(part.numbers[0] for part in own) == list(range(len(PLAN[number])))
        assert all(part.cases == PLAN[number][part.numbers[0]] for part in own)
        assert {step.number for step in steps} == {5 + number}
        assert all(step.cases == [case for cases in PLAN[number] for case in cases] for step in steps)
    assert ranks[0][0].num_images == [[2, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("dummies", "expected"), [("none", [[[1]], []]), ("idle", [[[1]], [[]]]), ("even", [[[1], []], [[]]])]
)
def test_dummies_let_a_rank_without_micro_batches_take_part(dummies: str, expected: list[list[list[int]]]) -> None:
    steps = steps_of(rank=1, num_processes=2, dummies=dummies)

    assert [[part.numbers for part in step.passes] for step in steps] == expected
    for step in steps:
        assert [part.is_last for part in step.passes] == [False] * (len(step.passes) - 1) + [True] * bool(step.passes)
        assert all(not part.cases for part in step.passes if not part.numbers)


def test_dropout_depends_on_seed_step_and_micro_batch_and_on_no_rank() -> None:
    alone = _dropout_seeds(steps_of())
    other_seed = _dropout_seeds(steps_of(seed=1))
    second = _dropout_seeds(steps_of(rank=1, num_processes=2)[:1])

    assert len({*alone, *other_seed}) == 8
    assert second == [alone[1]]
    assert _dropout_seeds(steps_of(at_once=3)) == alone


def _dropout_seeds(steps: list[TrainStep]) -> list[int]:
    return [seed for step in steps for part in step.passes for seed in part.micro_batches.dropout_seeds]


def test_pass_computes_several_micro_batches_and_knows_their_rows_and_images() -> None:
    first, second = steps_of(at_once=2)[0].passes

    assert (first.numbers, first.cases, first.micro_batches.sizes, first.is_last) == (
        [0, 1],
        [0, 1, 2, 3],
        (2, 2),
        False,
    )
    assert first.micro_batches.present.tolist() == [[True, True], [True, True], [True, False], [True, True]]
    assert (second.numbers, second.cases, second.is_last) == ([2], [4, 5], True)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_ranks_have_equally_many_passes_where_weights_are_sharded(at_once: int) -> None:
    counts = [
        [len(step.passes) for step in steps_of(rank=rank, num_processes=2, dummies="even", at_once=at_once)]
        for rank in range(2)
    ]

    assert counts[0] == counts[1]
