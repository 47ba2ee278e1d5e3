"""Whether probabilities can be taken at their word."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from tests.analysis.pictures import text_of
from vwmm.analysis.figures.calibration import calibration_plot
from vwmm.analysis.figures.style import to_svg
from vwmm.analysis.statistics.calibration import brier_scores, calibration_of, group_limits
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions


def predictions_of(labels: np.ndarray, probabilities: np.ndarray) -> RecordedPredictions:
    patients = np.array([f"p{n}" for n in range(len(labels))])
    return RecordedPredictions(labels, probabilities, patients, pd.DataFrame({"ct": np.ones(len(labels), bool)}))


def drawn(num_cases: int, *, sharpness: float) -> RecordedPredictions:
    """Two classes whose odds are the truth's to the power of `sharpness`."""
    generator = np.random.default_rng(5)
    logits = generator.normal(size=num_cases) * 2
    labels = (generator.random(num_cases) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    scores = 1 / (1 + np.exp(-logits * sharpness))
    return predictions_of(labels, np.stack([1 - scores, scores], axis=1))


def test_true_probabilities_lie_on_the_diagonal_and_exaggerated_ones_do_not() -> None:
    honest = calibration_of(drawn(4000, sharpness=1), ["no", "yes"])
    loud = calibration_of(drawn(4000, sharpness=3), ["no", "yes"])

    assert honest.of_what == "yes"
    assert [group.num_cases for group in honest.groups] == [400] * 10
    assert max(abs(group.predicted - group.observed) for group in honest.groups) < 0.06
    spans = [group.limits.interval for group in honest.groups]
    inside = [span[0] <= group.predicted <= span[1] for span, group in zip(spans, honest.groups, strict=True) if span]
    assert sum(inside) >= 8
    assert loud.groups[1].predicted < 0.02 < 0.1 < loud.groups[1].observed
    assert honest.excess_limits.interval is not None
    assert honest.excess_limits.interval.low < 0 < honest.excess_limits.interval.high


def test_of_more_classes_the_predicted_one_is_judged() -> None:
    probabilities = np.tile([0.7, 0.2, 0.1], (40, 1))
    labels = np.array([0, 1] * 20)

    found = calibration_of(predictions_of(labels, probabilities), ["a", "b", "c"])

    assert (found.of_what, found.num_cases) == ("the predicted class", 40)
    assert found.excess == pytest.approx(0.2)
    (group,) = found.groups  # one probability is one group, however many cases have it
    assert (group.num_cases, group.observed) == (40, 0.5)
    assert group.predicted == pytest.approx(0.7)


def test_the_order_of_the_cases_changes_nothing() -> None:
    found = drawn(200, sharpness=1)
    found = predictions_of(found.labels, found.probabilities.round(1))
    turned = predictions_of(found.labels[::-1], found.probabilities[::-1])

    groups = [calibration_of(one, ["no", "yes"]).groups for one in (found, turned)]

    for one, other in zip(*groups, strict=True):
        assert (one.num_cases, one.observed) == (other.num_cases, other.observed)
        assert one.predicted == pytest.approx(other.predicted)


@pytest.mark.parametrize("num_cases", [1, 19])
def test_too_few_cases_give_no_calibration_group_and_a_remark(num_cases: int) -> None:
    found = calibration_of(drawn(num_cases, sharpness=1), ["no", "yes"])

    assert found.groups == ()
    assert "fewer than 20 cases" in text_of(to_svg(calibration_plot(found)))


def test_the_brier_score_is_sklearns() -> None:
    two = drawn(50, sharpness=1)
    generator = np.random.default_rng(3)
    three = predictions_of(generator.integers(0, 3, 50), generator.dirichlet([1, 1, 1], 50))

    assert brier_scores(two).mean() == pytest.approx(brier_score_loss(two.labels, two.probabilities[:, 1]))
    expected = brier_score_loss(three.labels, three.probabilities, labels=[0, 1, 2], scale_by_half=True)
    assert brier_scores(three).mean() == pytest.approx(expected)


def test_the_figure_says_its_values_in_words() -> None:
    figure = calibration_plot(calibration_of(drawn(100, sharpness=1), ["no", "yes"]))
    svg = to_svg(figure)

    assert "of 10 cases with a mean probability of 0.0" in str(figure.get_label())
    assert "probability of yes" in text_of(svg)
    assert "Calibration (N = 100 cases)" in text_of(svg)


@pytest.mark.parametrize("decimals", [1, 2])
def test_a_group_has_ten_cases_or_more_where_many_have_one_probability(decimals: int) -> None:
    found = drawn(95, sharpness=2)

    groups = calibration_of(predictions_of(found.labels, found.probabilities.round(decimals)), ["no", "yes"]).groups

    assert len(groups) > 1
    assert sum(group.num_cases for group in groups) == 95
    assert min(group.num_cases for group in groups) >= 10


def test_a_group_with_repeated_patients_needs_15_of_them_for_an_interval() -> None:
    hits = np.arange(15) % 3 == 0

    assert group_limits(hits[:12], np.arange(12)).interval is not None
    assert group_limits(hits[:12], np.arange(12) // 2 * 2).reason == "fewer than 15 patients"
    assert group_limits(np.append(hits, True), np.append(np.arange(15), 14)).reason.startswith("fewer than 15 patients")
    assert group_limits(np.tile(hits, 2), np.tile(np.arange(15), 2)).interval is not None
