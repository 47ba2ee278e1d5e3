"""The sampler: which cases form each step, from (seed, epoch) alone.

A step's batch is made of micro-batches, each computed whole on one rank. The plan does not know how many ranks there
are, so their number cannot change it.
"""

import numpy as np

from vwmm.system.problems import Problem

# Keep these draws apart from others that use the same seed.
_ORDER = 1
_MODALITY_DROPOUT = 3


def plan_epoch(
    num_cases: int, batch_size: int, micro_batch_size: int, *, seed: int, epoch: int
) -> list[list[list[int]]]:
    """Steps of an epoch, each a list of micro-batches, each a list of case indices.

    Every case stands in it once. A single case that would be left over joins the micro-batch before it (batch norm
    cannot normalise one value by itself), so the last micro-batch may be larger by one.
    """
    seeds = np.random.SeedSequence((_ORDER, seed, epoch))
    order = np.random.Generator(np.random.PCG64(seeds)).permutation(num_cases).tolist()
    steps = [
        [
            order[first : first + micro_batch_size]
            for first in range(start, min(start + batch_size, num_cases), micro_batch_size)
        ]
        for start in range(0, num_cases, batch_size)
    ]
    if micro_batch_size > 1 and num_cases > 1 and len(steps[-1][-1]) == 1:
        single = steps[-1].pop()
        if not steps[-1]:
            steps.pop()
        steps[-1][-1] = steps[-1][-1] + single
    return steps


def num_steps(num_cases: int, batch_size: int, micro_batch_size: int) -> int:
    """Optimizer steps of one epoch."""
    return len(plan_epoch(num_cases, batch_size, micro_batch_size, seed=0, epoch=0))


def micro_batch_problems(batch_size: int, micro_batch_size: int, num_processes: int) -> list[Problem]:
    """Why so many processes cannot share a step."""
    num_micro_batches = batch_size // micro_batch_size
    if num_processes <= num_micro_batches:
        return []
    found = (
        f"{num_processes} processes cannot share train.batch_size={batch_size} in micro-batches of "
        f"{micro_batch_size}: that makes {num_micro_batches}. Use at most {num_micro_batches} processes, "
        f"or train.batch_size={num_processes * micro_batch_size} (which changes the result)"
    )
    return [Problem(found)]


def micro_batches_of(num_micro_batches: int, *, rank: int, num_processes: int) -> list[int]:
    """The micro-batches of a step that one rank computes: every `num_processes`-th."""
    return list(range(rank, num_micro_batches, num_processes))


def evaluation_batches(num_cases: int, batch_size: int) -> list[list[int]]:
    """Batches in case order, all of the same size: the last one is filled up by repeating its last case."""
    batches = [list(range(start, min(start + batch_size, num_cases))) for start in range(0, num_cases, batch_size)]
    return [batch + [batch[-1]] * (batch_size - len(batch)) for batch in batches]


def draw_present(present: np.ndarray, chance: float, *, seed: int, epoch: int) -> np.ndarray:
    """Modality dropout: (N, M) bool, which of the `present` images are used in this epoch; each case keeps one.

    Drawn from (seed, epoch) for all cases in their order, so every process knows what every other one sees.
    """
    if chance == 0:
        return present
    seeds = np.random.SeedSequence((_MODALITY_DROPOUT, seed, epoch))
    draws = np.random.Generator(np.random.PCG64(seeds)).random(present.shape)
    kept = present & (draws >= chance)
    lost_all = ~kept.any(axis=1)
    kept[lost_all, np.where(present, draws, -1.0)[lost_all].argmax(axis=1)] = True
    return kept & present
