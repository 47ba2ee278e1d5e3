"""The numbers of an evaluation where something is not defined."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import ORIGIN
from tests.analysis.pictures import with_pictures
from vwmm.analysis.pages.evaluation_report import Evaluated, describe, evaluate_table

FACTS = {"run": "first", "epoch": 3, "is_test": False, "num_test_cases": 0, "times_evaluated": 1}


def evaluate(labels: list[str], scores: list[float], sites: list[str] | None = None, **facts: Any) -> Evaluated:
    """Two classes; scores: the probability of `b`."""
    table = pd.DataFrame(
        {
            "case": [f"c{n}" for n in range(len(labels))],
            "patient": [f"p{n}" for n in range(len(labels))],
            "label": labels,
            "p_a": [repr(1 - score) for score in scores],
            "p_b": [repr(score) for score in scores],
            "present_ct": "1",
        }
    )
    return evaluate_table(table, ["a", "b"], ["ct"], sites or [], FACTS | facts, origin=ORIGIN)


def test_the_headline_compares_with_always_answering_the_commonest_class() -> None:
    found = evaluate(["a"] * 12 + ["b"], [0.1] * 13)

    end = "would be right in 12 (92.3 %): by accuracy the model is no better."
    assert f"Always predicting the most frequent class, a, {end}" in found.page


def test_a_class_that_does_not_occur_has_no_sensitivity_but_a_specificity() -> None:
    found = evaluate(["a"] * 6, [0.1, 0.2, 0.3, 0.4, 0.6, 0.7])

    row = found.summary["by_class"][1]
    nothing = {"value": None, "n": 0, "interval": None, "right": 0, "no_value": "no such case"}
    assert row["sensitivity"] == nothing
    assert row["specificity"]["value"] == pytest.approx(4 / 6)
    auroc = {"value": None, "n": 6, "events": 0, "interval": None, "no_value": "a class has no case"}
    assert found.summary["metrics"]["auroc"] == auroc
    assert "No case is b: what needs every class is not defined." in found.page
    assert found.summary["metrics"]["accuracy"]["n"] == 6
    assert "NaN" not in str(found.summary)
    assert ">\u2013 <" in found.page


def test_sites_are_judged_apart_and_one_without_a_name_as_well() -> None:
    labels = ["a", "b"] * 8
    scores = np.linspace(0.2, 0.8, 8).tolist() * 2
    found = evaluate(labels, scores, ["X"] * 8 + [""] * 8)

    assert [(row["site"], row["cases"]) for row in found.summary["by_site"]] == [("", 8), ("X", 8)]
    assert found.summary["by_site"][0]["auroc"] == found.summary["by_site"][1]["auroc"]
    assert "not known" in found.page
    assert len(describe(found.summary).splitlines()) == 4
    assert evaluate(labels, scores).summary["by_site"] == []


@pytest.mark.parametrize(("own", "times", "said"), [(0, 1, None), (4, 1, "4 of the cases are test cases"), (0, 2, "2")])
def test_the_page_says_what_takes_from_its_weight(own: int, times: int, said: str | None) -> None:
    page = evaluate(["a", "b"], [0.2, 0.8], num_test_cases=own, times_evaluated=times).page

    assert ("This is evaluation 2" in page) == (times == 2)
    assert said is None or said in page


def test_a_hostile_name_is_text() -> None:
    page = evaluate(["a", "b"], [0.2, 0.8], ["<script>x</script>"] * 2, run="<b>run</b>").page

    assert "<script>" not in page
    assert "<b>" not in page


def test_the_calibration_stands_in_the_page_and_in_the_summary() -> None:
    scores = np.linspace(0.01, 0.99, 60)
    found = evaluate(["a", "b"] * 30, scores.tolist())

    calibration = found.summary["calibration"]
    assert (calibration["of"], len(calibration["groups"])) == ("b", 6)
    assert [group["came_true"]["n"] for group in calibration["groups"]] == [10] * 6
    assert calibration["excess"]["value"] == pytest.approx(scores.mean() - 0.5)
    expected = np.mean((scores - np.arange(60) % 2) ** 2)
    assert found.summary["metrics"]["brier"]["value"] == pytest.approx(expected)
    assert "Calibration (N = 60 cases)" in with_pictures(found.page)
    assert "Brier score" in found.page


def scored(sensitivity: tuple[int, int], specificity: tuple[int, int]) -> Evaluated:
    """So many of so many cases of `b` and of `a` right."""
    (hits, positives), (left_out, negatives) = sensitivity, specificity
    scores = [0.9] * hits + [0.1] * (positives - hits) + [0.2] * left_out + [0.8] * (negatives - left_out)
    return evaluate(["b"] * positives + ["a"] * negatives, scores)


def test_balanced_accuracy_of_few_cases_of_a_class_has_the_interval_of_mover() -> None:
    found = scored((5, 5), (40, 45))

    interval = found.summary["metrics"]["balanced_accuracy"]["interval"]
    assert interval == pytest.approx([0.719, 0.976], abs=5e-4)
    assert "71.9 to 97.6 %" in found.page
    assert "MOVER of Wilson" in found.page


def test_a_perfect_auroc_has_an_interval() -> None:
    found = evaluate(["a"] * 10 + ["b"] * 10, np.linspace(0.1, 0.9, 20).tolist())

    assert found.summary["metrics"]["auroc"]["interval"] == pytest.approx([0.800, 1.0], abs=5e-4)
    assert found.summary["by_class"][1]["auroc"]["interval"] == pytest.approx([0.800, 1.0], abs=5e-4)
    assert "Newcombe 5" in found.page


def test_a_number_without_an_interval_says_why() -> None:
    found = scored((5, 5), (40, 45))

    loss, row = found.summary["metrics"]["loss"], found.summary["by_class"][1]
    assert (loss["interval"], loss["no_interval"]) == (None, "a few large losses decide it")
    assert (row["sensitivity"]["interval"], row["sensitivity"]["no_interval"]) == (None, "fewer than 10 patients")
    assert "no_interval" not in found.summary["metrics"]["accuracy"]
    assert "no interval: a few large losses decide it" in found.page
    assert "no interval: fewer than 10 patients" in found.page
    assert "docs/statistics.md" in found.page


def test_a_second_case_of_one_patient_hardly_changes_the_intervals() -> None:
    labels, scores = ["a", "b"] * 30, (np.linspace(0.2, 0.8, 60) + np.tile([-0.15, 0.15], 30)).tolist()
    table = pd.DataFrame({"case": range(60), "patient": [f"p{n}" for n in range(60)], "label": labels})
    table = table.assign(p_a=[repr(1 - s) for s in scores], p_b=[repr(s) for s in scores], present_ct="1").astype(str)
    repeated = pd.concat([table, table.tail(1).assign(case="again")])

    once, twice = (evaluate_table(t, ["a", "b"], ["ct"], [], FACTS, origin=ORIGIN).summary for t in (table, repeated))

    for name in ("accuracy", "balanced_accuracy", "auroc", "brier"):
        width, other = (np.ptp(found["metrics"][name]["interval"]) for found in (once, twice))
        assert other == pytest.approx(width, rel=0.06), name


def test_probabilities_that_have_become_1_keep_their_order() -> None:
    far = np.array([40.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0])  # all of them have p = 1.0
    labels = ["a"] * 5 + ["b"] * 5
    others = np.exp(-far) / (1 + np.exp(-far))
    table = pd.DataFrame({"case": range(10), "patient": range(10), "label": labels, "present_ct": "1"}).astype(str)
    table = table.assign(p_a=[repr(float(p)) for p in others], p_b=[repr(float(1 - p)) for p in others])
    assert set(table["p_b"]) == {"1.0"}

    found = evaluate_table(table, ["a", "b"], ["ct"], [], FACTS, origin=ORIGIN)

    assert found.summary["metrics"]["auroc"]["value"] == 1.0
    assert found.summary["by_class"][0]["auroc"]["value"] == 1.0
    assert found.summary["metrics"]["loss"]["value"] == pytest.approx(far[:5].mean() / 2)


def test_every_number_has_events_method_and_baseline_in_the_summary_and_on_the_page() -> None:
    found = scored((50, 60), (55, 60))

    metrics = found.summary["metrics"]
    assert {"mcc", "f1", "auprc", "ece", "calibration_slope", "calibration_intercept", "loss", "brier"} < set(metrics)
    assert all((number["n"], number["events"]) == (120, 60) for number in metrics.values())
    assert all(bool(number["interval"]) == ("method" in number) for number in metrics.values())
    assert metrics["mcc"]["value"] == pytest.approx((50 * 55 - 5 * 10) / np.sqrt(55 * 60 * 65 * 60))
    assert metrics["brier"]["baseline"] == 0.25
    assert found.summary["by_class"][1]["npv"]["value"] == pytest.approx(55 / 65)
    assert len(found.summary["decision_curve"]) == 19
    assert found.summary["risk_coverage"][-1]["wrong"]["value"] == pytest.approx(15 / 120)
    assert found.summary["warnings"][0].startswith("The smallest class has 60 cases; 100 of each")
    for words in ("Matthews\u2019 correlation", "ECE, debiased", "Calibration slope", "Wald, over patients", "NPV"):
        assert words in found.page
    assert "Decision curve (N = 120 cases)" in with_pictures(found.page)
    assert "Risk and coverage (N = 120 cases)" in with_pictures(found.page)
