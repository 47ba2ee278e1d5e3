"""Claim: where a model is right equally often in all groups, the test of sub-groups rejects in at most 5 % of cohorts.

Cohorts are drawn with so many patients of each class; a case of class 0 is right with a chance of 0.9, of class 1 with
0.7; both cases of a patient tend to go the same way. Groups are drawn apart from that, in some cells so that class 1 is
frequent in one of them. `power`: in the last group both chances are less by 0.3.

    python benchmarks/subgroup_test.py [--draws 2000]      (about two minutes on one core)

Exits with 1 where the share of rejections is above 5 % by more than three standard errors.
"""

import argparse
import sys

import numpy as np
import pandas as pd

from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.subgroups import Grouping, compare_groups

SIZES = ((15, 15), (50, 50), (150, 150), (45, 5))
NUM_PERMUTATIONS = 199
CHANCES = np.array([0.9, 0.7])


def draw(
    generator: np.random.Generator, size: tuple[int, int], repeats: int, num_groups: int, *, is_mixed: bool, loss: float
) -> tuple[RecordedPredictions, Grouping]:
    """A cohort and its groups; is_mixed: class 1 is three times as frequent in the last group."""
    labels = np.repeat([0, 1], size)
    weights = np.ones((2, num_groups))
    weights[1, -1] = 3 if is_mixed else 1
    shares = weights / weights.sum(axis=1, keepdims=True)
    group = np.array([generator.choice(num_groups, p=shares[label]) for label in labels])
    patients = np.repeat(np.arange(len(labels)), repeats)
    chance = (CHANCES[labels] - loss * (group == num_groups - 1))[patients]
    same = generator.random(len(labels))[patients]
    right = np.where(generator.random(len(patients)) < 0.5, same, generator.random(len(patients))) < chance
    called = np.where(right, labels[patients], 1 - labels[patients])
    predictions = RecordedPredictions(
        labels[patients], np.eye(2)[called] * 0.8 + 0.1, patients, pd.DataFrame(index=range(len(patients)))
    )
    return predictions, Grouping("group", tuple("abcd"[:num_groups]), group[patients])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    draws, wrong = parser.parse_args().draws, 0
    highest = 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    print("  patients  cases each  groups  another mix  rejected  tested  power")
    for number, size in enumerate(SIZES):
        for repeats, num_groups, is_mixed in ((1, 2, False), (2, 2, False), (1, 4, True), (2, 2, True)):
            generator, shares, tested = np.random.default_rng((number, repeats, num_groups, is_mixed)), [], 0
            for loss in (0.0, 0.3):
                below = 0
                for _ in range(draws if loss == 0 else draws // 5):
                    drawn = draw(generator, size, repeats, num_groups, is_mixed=is_mixed, loss=loss)
                    p = compare_groups(drawn[0], [drawn[1]], num_permutations=NUM_PERMUTATIONS)[0].p
                    tested += p is not None and loss == 0
                    below += p is not None and p <= 0.05
                shares.append(below / (draws if loss == 0 else draws // 5))
            wrong += bool(shares[0] > highest)
            mix = "yes" if is_mixed else "no"
            print(f"{size[0]:4} + {size[1]:3}{repeats:12}{num_groups:8}{mix:>13}{shares[0]:10.3f}{tested / draws:8.2f}"
                  f"{shares[1]:7.2f}{'  TOO OFTEN' * bool(shares[0] > highest)}", flush=True)  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
