"""Draws that look at the hospital: in proportion, or whole."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vwmm.data.cohort.site_splits import deal_evenly, draw_evenly, draw_sites, fold_sites
from vwmm.system.errors import UserError

CELLS = st.lists(st.integers(0, 12), min_size=6, max_size=6)


def population(cells: list[int]) -> tuple[list[str], list[str], list[str]]:
    """Patients, labels and sites: so many in each of two labels by three sites, in no order."""
    members = [("ab"[n // 3], "XYZ"[n % 3]) for n, count in enumerate(cells) for _ in range(count)]
    members = [members[n] for n in np.random.default_rng(0).permutation(len(members))]
    return [f"p{n:03}" for n in range(len(members))], [m[0] for m in members], [m[1] for m in members]


@given(cells=CELLS, share=st.floats(0.05, 0.9), seed=st.integers(0, 50))
@settings(max_examples=80, deadline=None)
def test_each_site_of_each_label_is_drawn_in_proportion(cells: list[int], share: float, seed: int) -> None:
    patients, labels, sites = population(cells)
    sizes = Counter(labels)
    if len(sizes) < 2 or min(sizes.values()) < 2:
        return
    wanted = min(max(round(share * len(patients)), 2), len(patients) - 2)

    drawn = draw_evenly(patients, labels, sites, wanted, np.random.default_rng(seed))

    assert len(set(drawn)) == len(drawn) == wanted
    of_patient = dict(zip(patients, zip(labels, sites, strict=True), strict=True))
    found = Counter(of_patient[name] for name in drawn)
    by_label = Counter(of_patient[name][0] for name in drawn)
    for label, size in sizes.items():
        assert 1 <= by_label[label] < size
    for cell, size in Counter(of_patient.values()).items():
        expected = size * by_label[cell[0]] / sizes[cell[0]]
        assert abs(found[cell] - expected) < 1


@given(cells=CELLS, folds=st.integers(2, 6), seed=st.integers(0, 50))
@settings(max_examples=80, deadline=None)
def test_folds_differ_by_one_patient_at_most(cells: list[int], folds: int, seed: int) -> None:
    patients, labels, sites = population(cells)

    fold_of = deal_evenly(patients, labels, sites, folds, np.random.default_rng(seed))

    for key in ([()] * len(patients), labels, list(zip(labels, sites, strict=True))):
        for value in set(key):
            members = [name for name, found in zip(patients, key, strict=True) if found == value]
            sizes = [sum(fold_of[name] == fold for name in members) for fold in range(folds)]
            assert max(sizes) - min(sizes) <= 1


def test_sites_are_chosen_that_leave_each_label_on_both_sides() -> None:
    labels = ["a"] * 30 + ["b"] * 10 + ["a"] * 9 + ["b"] * 1 + ["a"] * 10
    sites = ["big"] * 40 + ["mixed"] * 10 + ["pure"] * 10

    for seed in range(20):
        assert draw_sites(labels, sites, 10, np.random.default_rng(seed), left=1) == {"mixed"}
        assert draw_sites(labels, sites, 50, np.random.default_rng(seed), left=1) == {"big", "pure"}


def test_among_many_equal_sites_the_seed_decides() -> None:
    sites = [f"site {n % 12:02}" for n in range(120)]

    drawn = {tuple(sorted(draw_sites(["a", "b"] * 60, sites, 24, np.random.default_rng(n), left=1))) for n in range(9)}

    assert {len(found) for found in drawn} == {2}
    assert len(drawn) > 4


@given(cells=CELLS, folds=st.integers(2, 3), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_site_is_in_one_fold_or_the_folds_are_refused(cells: list[int], folds: int, seed: int) -> None:
    patients, labels, sites = population(cells)
    try:
        fold_of = fold_sites(patients, labels, sites, folds, seed) if patients else {}
    except UserError:
        return
    assert len({(site, fold_of[name]) for name, site in zip(patients, sites, strict=True)}) == len(set(sites))
    assert not patients or set(fold_of.values()) == set(range(folds))


def test_more_folds_than_sites_are_refused() -> None:
    with pytest.raises(UserError, match="there are 2 sites, fewer than folds"):
        fold_sites(["p1", "p2", "p3"], ["a", "a", "b"], ["X", "Y", "X"], 3, 0)
