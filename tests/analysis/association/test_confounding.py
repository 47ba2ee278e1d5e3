"""The label against how the images were made."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from vwmm.analysis.association.confounding import associations, cramers_v

LABELS = ["a", "b"] * 40


def test_a_site_that_gives_the_label_away_is_suspicious_and_named() -> None:
    sites = ["one" if label == "a" else "two" for label in LABELS]

    (found,) = associations(LABELS, {"site": sites})

    assert found.is_suspicious
    assert found.strength == pytest.approx(1.0, abs=0.01)
    assert found.telling == "40 of the 40 patients with one are a (100%; of all 50%)"
    np.testing.assert_array_equal(found.counts, [[40, 0], [0, 40]])


def test_a_balanced_site_is_not() -> None:
    (found,) = associations(LABELS, {"site": ["one", "one", "two", "two"] * 20})

    assert (found.strength, found.probability, found.is_suspicious) == (0.0, 1.0, False)


def test_the_probability_agrees_with_the_chi_square_where_counts_are_large() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], 600).tolist()
    sites = [label if rng.random() < 0.08 else str(rng.choice(["a", "b", "c"])) for label in labels]

    (found,) = associations(labels, {"site": sites})

    assert found.probability == pytest.approx(chi2_contingency(found.counts, correction=False).pvalue, rel=0.35)


def test_a_strong_association_of_few_patients_is_not_enough_and_a_weak_one_of_many_is_not_either() -> None:
    (few,) = associations(["a"] * 5 + ["b"] * 5, {"site": ["x"] * 5 + ["y"] * 5})
    rng = np.random.default_rng(1)
    labels = rng.choice(["a", "b"], 6000).tolist()
    sites = [label if rng.random() < 0.1 else str(rng.choice(["a", "b"])) for label in labels]
    (many,) = associations(labels, {"site": sites})

    assert (few.is_suspicious, few.strength > 0.9) == (False, True)
    assert (many.is_suspicious, many.corrected < 1e-4) == (False, True)


def test_the_probabilities_are_corrected_over_all_tables() -> None:
    rng = np.random.default_rng(2)
    facts = {str(number): rng.choice(["x", "y"], 80).tolist() for number in range(5)}

    found = associations(LABELS, facts)

    lowest = min(found, key=lambda one: one.probability)
    assert lowest.corrected == pytest.approx(min(1, 5 * lowest.probability))
    assert all(one.corrected >= one.probability for one in found)


def test_rare_values_are_taken_together_and_absent_ones_left_out() -> None:
    values = ["x"] * 30 + [f"rare {number}" for number in range(10)] + [None] * 40

    (found,) = associations(LABELS, {"scanner": values})

    assert found.levels == ("x", "others")
    assert found.num_patients == 40
    assert associations(LABELS, {"scanner": ["x"] * 80, "none": [None] * 80}) == []


def test_many_small_sites_that_each_give_the_label_away_are_found_and_shown_together() -> None:
    sites = [f"site {number // 4:02}" for number in range(80)]
    labels = ["ab"[number // 4 % 2] for number in range(80)]

    (found,) = associations(labels, {"site": sites})

    assert (found.is_suspicious, len(found.levels)) == (True, 20)
    assert found.shown == [("others (20 values)", [40, 40])]


def test_large_values_are_shown_by_themselves() -> None:
    sites = ["x"] * 30 + ["y"] * 40 + ["z"] * 4 + ["w"] * 3 + ["one", "two", "three"]

    (found,) = associations(LABELS, {"site": sites})

    assert found.levels == ("w", "x", "y", "z", "others")
    assert [name for name, _ in found.shown] == ["x", "y", "others (3 values)"]
    assert sum(sum(row) for _, row in found.shown) == 80


def test_cramers_v_of_chance_is_near_zero() -> None:
    assert cramers_v(np.array([[10, 12], [11, 9]])) == 0.0
    assert cramers_v(np.zeros((2, 2), np.int64)) == 0.0
