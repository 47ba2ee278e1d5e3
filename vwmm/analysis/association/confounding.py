"""Tests whether the label is associated with acquisition parameters.

The unit is the patient: one row for each patient and label. Values that few patients have are taken together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Values that fewer patients have than this become one: `others`. Many small sites may each give the label away.
MIN_PATIENTS = 2
OTHERS = "others"
MAX_LEVELS = 100
# Of these, so many are shown by themselves, and only those that so many patients have.
MAX_SHOWN, MIN_SHOWN = 30, 5
# A warning needs a probability below this after Holm's correction over all tables (so at most one clean cohort in 1,000
# is warned of), and an association of at least this strength (Cramér's V; Cohen 1988 calls 0.3 a medium one for two
# columns, 0.2 for three or more).
LEVEL, LEAST_V = 0.001, 0.2
# Tables drawn by chance; the smallest probability that these can give, times 20 tables, is 0.0002.
NUM_TABLES = 99_999
_FIRST_TABLES = 999
_TABLES_AT_ONCE = 9_900  # of 100 levels and 5 classes: 40 MB


@dataclass(frozen=True)
class Association:
    """The label against one acquisition fact."""

    name: str
    """Such as `site`."""
    levels: tuple[str, ...]
    """The values of the fact, with `others` last."""
    classes: tuple[str, ...]
    """The labels."""
    counts: np.ndarray
    """(levels, classes) int64: patients."""
    strength: float
    """Cramér's V, corrected for bias: 0 for none, 1 if the fact determines the label."""
    probability: float
    """Of a chi-square as large by chance."""
    corrected: float = 1.0
    """The same after Holm's correction."""

    @property
    def num_patients(self) -> int:
        """Patients in the table."""
        return int(self.counts.sum())

    @property
    def is_suspicious(self) -> bool:
        """Whether it is worth a warning."""
        return self.corrected < LEVEL and self.strength >= LEAST_V

    @property
    def shown(self) -> list[tuple[str, list[int]]]:
        """The rows for a person: the values that many patients have, and all others together."""
        totals = self.counts.sum(axis=1)
        largest = set(np.argsort(-totals, kind="stable")[:MAX_SHOWN].tolist())
        kept = [n for n, level in enumerate(self.levels) if n in largest and totals[n] >= MIN_SHOWN and level != OTHERS]
        rest = [n for n in range(len(self.levels)) if n not in kept]
        rows = [(self.levels[n], self.counts[n].tolist()) for n in kept]
        name = f"{OTHERS} ({len(rest)} values)" if len(rest) > 1 else OTHERS
        return [*rows, (name, self.counts[rest].sum(axis=0).tolist())] if rest else rows

    @property
    def telling(self) -> str:
        """The value with the most different labels, in words."""
        expected = np.outer(self.counts.sum(axis=1), self.counts.sum(axis=0)) / self.num_patients
        surprise = (self.counts - expected) / np.sqrt(expected)
        level, label = np.unravel_index(int(np.argmax(surprise)), surprise.shape)
        inside, total = self.counts[level, label], self.counts[level].sum()
        overall = self.counts[:, label].sum() / self.num_patients
        return (
            f"{inside} of the {total} patients with {self.levels[level]} are {self.classes[label]} "
            f"({inside / total:.0%}; of all {overall:.0%})"
        )


def associations(
    labels: Sequence[str], facts: Mapping[str, Sequence[str | None]], *, seed: int = 0
) -> list[Association]:
    """A table for each fact that has at least two values, with a test each.

    labels: (N,) texts. facts: each (N,) texts, or None for a row that the fact does not apply to.

    The test is the permutation test of Pearson's chi-square, tables of the same margins being drawn (Patefield 1981,
    AS 159): exact for any counts, where the chi-square distribution is not. The probabilities are corrected over all
    tables together (Holm 1979).
    """
    classes = tuple(sorted(set(labels)))
    found = []
    for number, (name, values) in enumerate(facts.items()):
        rows = [(value, label) for value, label in zip(values, labels, strict=True) if value is not None]
        levels, numbers = _levels([value for value, _ in rows])
        if len(levels) < 2 or len(classes) < 2:
            continue
        counts = np.zeros((len(levels), len(classes)), dtype=np.int64)
        np.add.at(counts, (numbers, [classes.index(label) for _, label in rows]), 1)
        probability = _probability(counts, np.random.SeedSequence((seed, number)))
        found.append(Association(name, levels, classes, counts, cramers_v(counts), probability))
    return _with_holm(found)


def cramers_v(counts: np.ndarray) -> float:
    """Cramér's V, corrected for bias (Bergsma 2013, doi:10.1016/j.jkss.2012.10.002)."""
    total = int(counts.sum())
    rows, columns = counts.shape
    if total < 2:
        return 0.0
    phi = max(0.0, float(_chi_square(counts[None])[0]) / total - (rows - 1) * (columns - 1) / (total - 1))
    narrow = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(phi / narrow))) if narrow > 0 else 0.0


def _levels(values: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """The values that count by themselves, `others`, and the number of each case's."""
    counts = Counter(values)
    kept = sorted(value for value, count in counts.most_common(MAX_LEVELS) if count >= MIN_PATIENTS)
    levels = (*kept, OTHERS) if len(kept) < len(counts) else tuple(kept)
    numbers = {value: number for number, value in enumerate(kept)}
    return levels, [numbers.get(value, len(kept)) for value in values]


def _probability(counts: np.ndarray, seeds: np.random.SeedSequence) -> float:
    """The share of tables drawn by chance with as large a chi-square, itself among them (Phipson and Smyth 2010)."""
    observed = float(_chi_square(counts[None])[0])
    generator = np.random.default_rng(seeds)
    from scipy.stats import random_table  # 0.4 s of CPU time, which a start without groups to compare is spared

    tables = random_table(counts.sum(axis=1), counts.sum(axis=0))
    exceeding = drawn = 0
    for number in (_FIRST_TABLES, *[_TABLES_AT_ONCE] * ((NUM_TABLES - _FIRST_TABLES) // _TABLES_AT_ONCE)):
        values = _chi_square(tables.rvs(size=number, random_state=generator))
        exceeding, drawn = exceeding + int((values >= observed - 1e-9).sum()), drawn + number
        if exceeding >= 10:  # it is no small one: the rest would only make it more exact
            break
    return (1 + exceeding) / (1 + drawn)


def _chi_square(tables: np.ndarray) -> np.ndarray:
    """(T,) of (T, rows, columns) counts with the same margins."""
    first = tables[0]
    expected = np.outer(first.sum(axis=1), first.sum(axis=0)) / max(int(first.sum()), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.where(expected > 0, (tables - expected) ** 2 / expected, 0.0)
    return np.asarray(parts.sum(axis=(1, 2)))


def _with_holm(found: Sequence[Association]) -> list[Association]:
    order = sorted(range(len(found)), key=lambda number: found[number].probability)
    corrected, highest = [1.0] * len(found), 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(found) - rank) * found[number].probability))
        corrected[number] = highest
    return [
        Association(one.name, one.levels, one.classes, one.counts, one.strength, one.probability, corrected[number])
        for number, one in enumerate(found)
    ]
