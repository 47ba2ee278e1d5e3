"""How well the label is told without looking at an image."""

import numpy as np
import pytest

from vwmm.analysis.association.shortcut import shortcut_score

LABELS = ["a", "b", "b", "a"] * 15
PATIENTS = [str(number) for number in range(60)]


def test_a_day_for_each_class_is_a_shortcut() -> None:
    days = [20000.0 + (label == "b") for label in LABELS]

    found = shortcut_score(LABELS, PATIENTS, {"file date": days, "site": ["x", "y", "y", "x", "z"] * 12})

    assert found is not None
    assert found.is_suspicious
    assert (found.score, found.chance, found.auroc) == (1.0, 0.5, 1.0)
    assert found.telling == ("file date",)


def test_files_that_were_written_in_the_order_of_the_cases_are_none() -> None:
    days = [20000.0 + number // 25 for number in range(60)]

    found = shortcut_score(LABELS, PATIENTS, {"file date": days})

    assert found is not None
    assert not found.is_suspicious


def test_two_facts_together_may_tell_what_neither_tells_alone() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    labels = ["ab"[value] for value in (first ^ second).tolist()]

    found = shortcut_score(
        labels, PATIENTS, {"x": first.astype(float).tolist(), "y": [f"s{value}" for value in second]}
    )

    assert found is not None
    assert found.is_suspicious


def test_a_patient_is_not_predicted_from_its_own_other_visits() -> None:
    patients = [str(number // 4) for number in range(60)]
    numbers = [float(int(patient) * 7919 % 101) for patient in patients]
    drawn = np.random.default_rng(3).integers(0, 2, 15)
    labels = ["ab"[drawn[int(patient)]] for patient in patients]

    grouped = shortcut_score(labels, patients, {"x": numbers})
    alone = shortcut_score(labels, PATIENTS, {"x": numbers})

    assert grouped is not None
    assert alone is not None
    assert grouped.score < alone.score - 0.2


@pytest.mark.parametrize("facts", [{}, {"site": ["x"] * 60}, {"x": [float("nan")] * 60}])
def test_where_nothing_differs_nothing_can_be_said(facts: dict[str, list[object]]) -> None:
    assert shortcut_score(LABELS, PATIENTS, facts) is None


def test_a_class_of_few_patients_is_not_judged() -> None:
    labels = ["b"] * 3 + ["a"] * 57

    assert shortcut_score(labels, PATIENTS, {"x": [float(number) for number in range(60)]}) is None
