"""Claim: where two models are equally good, each test of `vwmm compare` finds a difference in at most 5 of 100 cohorts
(within the simulation's error), and each 95 % interval of a difference holds the true one in 93 of 100 or more.

Two models score the same patients: the class moves both scores, by so much that their AUROCs are as asked for, and the
patients' own errors are shared by the models to the degree `together`. Cases of one patient share half of the variance.
Tests that use few discrete values (exact McNemar) reject, and intervals near 1 cover, on the safe side.

    python benchmarks/paired_tests.py [--draws 2000] [--only WORD]      (about eight minutes on one core)

Exits with 1 where a test that is printed rejects more often, or an interval covers less.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, ndtri

from vwmm.analysis.comparison.paired_tests import DIFFERENCES
from vwmm.analysis.statistics.metrics import accuracy, balanced_accuracy, macro_auroc

LOWEST, LEVEL, NUM_TRUE = 0.93, 0.05, 400_000
SHARED_BY_CASES = 0.5


@dataclass(frozen=True)
class Cell:
    """A population, and how many are drawn from it."""

    patients: tuple[int, ...]
    """Of each class."""
    aurocs: tuple[float, float]
    """Of both models, about."""
    together: float
    """Correlation of the models' errors."""
    cases: int = 1
    """Of each patient."""

    @property
    def name(self) -> str:
        """In the table."""
        cases = f", {self.cases} cases each" if self.cases > 1 else ""
        return f"{' + '.join(map(str, self.patients))}{cases}, AUROC {self.aurocs[0]:g} and {self.aurocs[1]:g}, " + (
            f"r {self.together:g}"
        )


@dataclass
class Tally:
    """What came of one metric in one cell."""

    tested: int = 0
    rejected: int = 0
    printed: int = 0
    covered: int = 0
    widths: list[float] = field(default_factory=list)


CELLS = [
    *(
        Cell(patients, aurocs, together)
        for patients in ((5, 45), (10, 20), (15, 15), (50, 50), (150, 150))
        for aurocs in ((0.6, 0.6), (0.8, 0.8), (0.95, 0.95), (0.9, 0.7))
        for together in (0.0, 0.5, 0.9)
    ),
    *(Cell(patients, (0.8, 0.8), 0.5, cases) for patients in ((15, 15), (50, 50)) for cases in (2, 5)),
    *(Cell(patients, aurocs, 0.5) for patients in ((10, 10, 10), (45, 20, 5), (50, 50, 50))
      for aurocs in ((0.8, 0.8), (0.9, 0.7))),
]  # fmt: skip


def draw(cell: Cell, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), both models' probabilities (N, K), and patients (N,)."""
    num_classes = len(cell.patients)
    of_patient = np.repeat(np.arange(num_classes), cell.patients)
    patients = np.repeat(np.arange(len(of_patient)), cell.cases)
    labels = of_patient[patients]
    width = 1 if num_classes == 2 else num_classes
    shape = (len(labels), width)

    def errors() -> np.ndarray:
        own = generator.normal(size=shape)
        if cell.cases == 1:
            return own
        shared = generator.normal(size=(len(of_patient), width))[patients]
        return np.sqrt(SHARED_BY_CASES) * shared + np.sqrt(1 - SHARED_BY_CASES) * own

    common, found = errors(), []
    for auroc in cell.aurocs:
        noise = np.sqrt(cell.together) * common + np.sqrt(1 - cell.together) * errors()
        shift = np.sqrt(2) * ndtri(auroc)
        if num_classes == 2:
            positive = expit(1.5 * (shift * (labels - 0.5) + noise[:, 0]))
            found.append(np.stack([1 - positive, positive], axis=1))
        else:
            logits = 1.5 * (shift * np.eye(num_classes)[labels] + noise)
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            found.append(powers / powers.sum(axis=1, keepdims=True))
    return labels, found[0], found[1], patients


def true_differences(cell: Cell) -> dict[str, float]:
    """From a very large cohort of the same shares; where the models are alike it is 0."""
    if cell.aurocs[0] == cell.aurocs[1]:
        return dict.fromkeys(DIFFERENCES, 0.0)
    times = NUM_TRUE // sum(cell.patients)
    large = Cell(tuple(times * number for number in cell.patients), cell.aurocs, cell.together)
    labels, a, b, _ = draw(large, np.random.default_rng(99))
    return {name: float(one(labels, a) or 0) - float(one(labels, b) or 0) for name, one in METRICS.items()}


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "auroc": macro_auroc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "brier": lambda labels, scores: -float(((scores - np.eye(scores.shape[1])[labels]) ** 2).sum(axis=1).mean()) / 2,
}


def simulate(cell: Cell, draws: int) -> dict[str, Tally]:
    """Each metric's tests and intervals in so many cohorts."""
    generator, truth = np.random.default_rng(0), true_differences(cell)
    tallies = {name: Tally() for name in DIFFERENCES}
    for _ in range(draws):
        cohort = draw(cell, generator)
        for name, compare in DIFFERENCES.items():
            found, tally = compare(*cohort), tallies[name]
            if found.p is not None:
                tally.tested += 1
                tally.rejected += found.p <= LEVEL
            if (interval := found.limits.interval) is not None:
                tally.printed += 1
                tally.covered += interval.low - 1e-9 <= truth[name] <= interval.high + 1e-9
                tally.widths.append(interval.high - interval.low)
    return tallies


def main(arguments: list[str]) -> int:
    """Prints a line for each cell and metric; 1 where a claim fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--only", default="")
    asked = parser.parse_args(arguments)
    error, failed = 2.58 * np.sqrt(LEVEL * (1 - LEVEL) / asked.draws), 0
    print(f"{asked.draws} cohorts a cell; a test may reject in {LEVEL + error:.3f}, an interval must cover in {LOWEST}")
    for cell in (cell for cell in CELLS if asked.only in cell.name):
        is_equal = cell.aurocs[0] == cell.aurocs[1]
        for name, tally in simulate(cell, asked.draws).items():
            if tally.printed < 0.05 * asked.draws:
                print(f"{cell.name:58} {name:18} none printed")
                continue
            rejects, covers = tally.rejected / max(1, tally.tested), tally.covered / tally.printed
            wrong = (is_equal and rejects > LEVEL + error) or covers < LOWEST
            failed += wrong
            power = "rejects" if is_equal else "finds  "
            print(
                f"{cell.name:58} {name:18} {power} {rejects:.3f}  covers {covers:.3f}  width "
                f"{np.mean(tally.widths):.3f}{'  FAILS' if wrong else ''}",
                flush=True,
            )
    print(f"{failed} of the claims fail" if failed else "all claims hold")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
