"""Sub-groups of the cases: by a column of the cohort, by its quantiles or bins, and by which images there are.

Whether the groups differ is tested by permutation over patients: the groups are dealt out anew among patients with
cases of the same classes, so that a group is not held for harder because a rare class is frequent in it. Exact for any
number of patients (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585: the drawn orders and the observed one).
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import ClassResult, Number, by_class, overall

NUM_PERMUTATIONS = 10_000
DEFAULT_QUANTILES, MOST_QUANTILES, MOST_GROUPS, MOST_PATTERNS = 3, 10, 12, 16
UNKNOWN = "not known"
PATTERN = "modalities present"
TEST = "permutation over patients within the classes, share of right predictions"
_CHUNK_NUMBERS = 2_000_000


@dataclass(frozen=True)
class GroupingRequest:
    """`COLUMN`, `COLUMN:3` for so many quantiles, or `COLUMN:40,60` for bins with these edges."""

    column: str
    quantiles: int | None = None
    edges: tuple[float, ...] = ()


@dataclass(frozen=True)
class Grouping:
    """Each case in one group."""

    name: str
    """The column, or `PATTERN`."""
    groups: tuple[str, ...]
    """Their names, in the order of the page."""
    group_of: np.ndarray
    """(N,) int64."""


@dataclass(frozen=True)
class GroupResult:
    """The cases of one group."""

    name: str
    cases: int
    patients: int
    numbers: dict[str, Number]
    """As `results.overall` has them."""
    classes: list[ClassResult]
    """As `results.by_class` has them."""


@dataclass(frozen=True)
class GroupTest:
    """Whether the share of right predictions differs between the groups."""

    p: float | None
    p_adjusted: float | None = None
    """After Holm's correction over all groupings."""
    reason: str = ""
    """Why there is no test."""


def parse_grouping(text: str) -> GroupingRequest:
    """The value of --by. Raises ValueError in words."""
    column, colon, bins = text.rpartition(":")
    if not colon:
        return GroupingRequest(text)
    if not re.fullmatch(r"\s*[-+.\deE]+\s*(,\s*[-+.\deE]*\s*)*", bins):
        return GroupingRequest(text)  # a column may have a colon in its name
    if re.fullmatch(r"\d+", bins.strip()) and 2 <= int(bins) <= MOST_QUANTILES:
        return GroupingRequest(column, quantiles=int(bins))
    try:
        edges = tuple(float(part) for part in bins.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{bins!r} are no numbers; expected {column}:40,60 for the edges of bins") from None
    if not edges or not all(map(math.isfinite, edges)) or list(edges) != sorted(set(edges)):
        raise ValueError(f"the edges {bins} do not rise; expected {column}:40,60")
    return GroupingRequest(column, edges=edges)


def group_column(request: GroupingRequest, cells: Sequence[str], places: Sequence[str]) -> Grouping:
    """The groups of a column. Raises ValueError in words.

    cells: of each case, its text, empty if not known; places: of each case, where its cell is, for messages.
    """
    texts = [cell.strip() for cell in cells]
    distinct = sorted({text for text in texts if text})
    if not distinct:
        raise ValueError("is empty in all these cases")
    numbers = [_number(text) for text in distinct]
    is_numeric = all(number is not None for number in numbers)
    if request.edges or request.quantiles:
        if not is_numeric:
            where = next(place for text, place in zip(texts, places, strict=True) if text and _number(text) is None)
            raise ValueError(f"has a cell that is no number ({where}), so that there are no bins")
        return _binned(request, texts)
    if is_numeric and len(distinct) > MOST_QUANTILES // 2:
        return _binned(replace(request, quantiles=DEFAULT_QUANTILES), texts)
    if len(distinct) > MOST_GROUPS:
        raise ValueError(f"has {len(distinct)} different texts, more than {MOST_GROUPS}: this gives no sub-groups")
    if is_numeric:
        distinct.sort(key=float)
    return _named(request.column, distinct, texts)


def group_pattern(present: pd.DataFrame) -> Grouping:
    """The groups of cases with the same images, the largest first. present: (N, M) bool, a column per modality."""
    flags = present.to_numpy(dtype=bool)
    columns = present.columns.to_numpy(dtype=str)
    names = ["all" if row.all() else " + ".join(columns[row]) or "none" for row in flags]
    counts = pd.Series(names, dtype=str).value_counts(sort=True)
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    if len(order) > MOST_PATTERNS:
        kept = set(order[: MOST_PATTERNS - 1])
        names = [name if name in kept else "other combinations" for name in names]
        order = [*order[: MOST_PATTERNS - 1], "other combinations"]
    return _named(PATTERN, order, names)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _binned(request: GroupingRequest, texts: Sequence[str]) -> Grouping:
    """By given bins [edge, next edge), or by quantiles, whose edges are values that occur: (edge, next edge]."""
    numbers = np.array([float(text) if text else math.nan for text in texts])
    known = np.isfinite(numbers)
    edges = np.array(request.edges)
    if request.quantiles:
        shares = np.arange(1, request.quantiles) / request.quantiles
        edges = np.unique(np.quantile(numbers[known], shares, method="inverted_cdf"))
        edges = edges[edges < numbers[known].max()]
        names = [f"above {low:g} to {high:g}" for low, high in pairwise(edges)]
        ends = ("up to {:g}", "above {:g}")
    else:
        names = [f"{low:g} to below {high:g}" for low, high in pairwise(edges)]
        ends = ("below {:g}", "{:g} and above")
    names = [ends[0].format(edges[0]), *names, ends[1].format(edges[-1])] if len(edges) else ["all"]
    place = np.searchsorted(edges, numbers, "left" if request.quantiles else "right")
    return _named(request.column, names, [names[at] if has else "" for at, has in zip(place, known, strict=True)])


def _named(name: str, order: Sequence[str], texts: Sequence[str]) -> Grouping:
    """Groups that have a case, in this order; what is empty is a group of its own. Raises ValueError for one group."""
    there = set(texts)
    groups = [group for group in order if group in there] + [UNKNOWN] * ("" in there)
    if len(groups) < 2 and name != PATTERN:
        raise ValueError(f"has one value only in these cases ({groups[0]}): there are no groups to compare")
    index = {group: number for number, group in enumerate(groups)} | ({"": len(groups) - 1} if "" in there else {})
    return Grouping(name, tuple(groups), np.array([index[text] for text in texts], dtype=np.int64))


def results_by_group(predictions: RecordedPredictions, classes: Sequence[str], grouping: Grouping) -> list[GroupResult]:
    """The metrics of each group by itself."""
    found = list[GroupResult]()
    for number, name in enumerate(grouping.groups):
        part = predictions.part(grouping.group_of == number)
        patients = len(np.unique(part.patients))
        found.append(GroupResult(name, len(part.labels), patients, overall(part), by_class(part, classes)))
    return found


def compare_groups(
    predictions: RecordedPredictions, groupings: Sequence[Grouping], *, num_permutations: int = NUM_PERMUTATIONS
) -> list[GroupTest]:
    """The test of each grouping, corrected over all of them (Holm 1979); cases that are not known are left out."""
    found = [_test(predictions, grouping, num_permutations) for grouping in groupings]
    values = [test.p for test in found if test.p is not None]
    adjusted = iter(holm(values))
    return [test if test.p is None else replace(test, p_adjusted=next(adjusted)) for test in found]


def holm(values: Sequence[float]) -> list[float]:
    """Probabilities after Holm's correction, in the same order."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def _test(predictions: RecordedPredictions, grouping: Grouping, num_permutations: int) -> GroupTest:
    known = np.array([group != UNKNOWN for group in grouping.groups])[grouping.group_of]
    part, group_of = predictions.part(known), grouping.group_of[known]
    names, patient_of = np.unique(part.patients, return_inverse=True)
    group = np.full(len(names), -1)
    group[patient_of] = group_of
    if (group[patient_of] != group_of).any():
        return GroupTest(None, reason="some patients have cases in several groups")
    if len(np.unique(group)) < 2:
        return GroupTest(None, reason="one group only")
    num_classes, num_groups = part.probabilities.shape[1], len(grouping.groups)
    cases = np.zeros((len(names), num_classes))
    np.add.at(cases, (patient_of, part.labels), 1)
    right = np.zeros_like(cases)
    np.add.at(right, (patient_of, part.labels), part.predicted == part.labels)
    strata = np.unique(cases > 0, axis=0, return_inverse=True)[1].ravel()
    if not _can_vary(right, cases, strata, group):
        return GroupTest(None, reason="all orders of the groups give the same: too few cases, or all right or wrong")
    observed = _statistic(right, cases, group[None], num_groups)[0]
    reached = sum(
        int((_statistic(right, cases, drawn, num_groups) >= observed - 1e-9).sum())
        for drawn in _shuffled(group, strata, num_permutations)
    )
    return GroupTest((1 + reached) / (1 + num_permutations))


def _can_vary(right: np.ndarray, cases: np.ndarray, strata: np.ndarray, group: np.ndarray) -> bool:
    """Whether patients of one stratum are in several groups and differ in what was right."""
    return any(
        len(np.unique(group[strata == one])) > 1
        and len(np.unique(np.hstack([right, cases])[strata == one], axis=0)) > 1
        for one in np.unique(strata)
    )


def _shuffled(group: np.ndarray, strata: np.ndarray, number: int) -> Iterator[np.ndarray]:
    """(R, P) int64, in parts: the groups dealt out anew within each stratum."""
    generator, chunk = np.random.default_rng(0), max(1, _CHUNK_NUMBERS // len(group))
    for start in range(0, number, chunk):
        drawn = np.empty((min(chunk, number - start), len(group)), dtype=np.int64)
        for one in np.unique(strata):
            inside = np.flatnonzero(strata == one)
            drawn[:, inside] = generator.permuted(np.tile(group[inside], (len(drawn), 1)), axis=1)
        yield drawn


def _statistic(right: np.ndarray, cases: np.ndarray, drawn: np.ndarray, num_groups: int) -> np.ndarray:
    """(R,) float64: over classes and groups, n (share - overall share)^2 / overall variance. right, cases: (P, C)."""
    totals, shares = cases.sum(axis=0), right.sum(axis=0) / np.maximum(1, cases.sum(axis=0))
    variance = shares * (1 - shares)
    excess = (right - shares * cases) / np.sqrt(np.where(variance > 0, variance, np.inf))  # (P, C)
    excess[:, totals == 0] = 0
    found = np.zeros(len(drawn))
    for group in range(num_groups):
        inside = (drawn == group).astype(np.float64)  # (R, P)
        found += ((inside @ excess) ** 2 / np.maximum(1, inside @ cases)).sum(axis=1)
    return found
