"""The band around a ROC curve holds the whole true curve as often as it says."""

import numpy as np
import pytest
from scipy.stats import kstwo, norm

from vwmm.analysis.figures.roc_band import roc_band

NUM_COHORTS = 120


def scored(generator: np.random.Generator, patients: tuple[int, int], cases: int) -> tuple[np.ndarray, ...]:
    """Labels, scores and patients; positives lie 1.5 higher, cases of one patient share half of their variance."""
    number = sum(patients)
    of_patient = np.repeat(np.arange(number), cases)
    is_positive = of_patient < patients[0]
    noise = generator.normal(size=number)[of_patient] if cases > 1 else 0.0
    scores = (
        1.5 * is_positive
        + np.sqrt(0.5) * noise
        + np.sqrt(0.5 if cases > 1 else 1.0) * generator.normal(size=len(of_patient))
    )
    return is_positive, scores, of_patient


@pytest.mark.parametrize(("patients", "cases"), [((20, 40), 1), ((5, 10), 1), ((30, 30), 3)])
def test_the_band_holds_the_whole_true_curve_in_95_of_100_cohorts(patients: tuple[int, int], cases: int) -> None:
    generator = np.random.default_rng(0)
    cutoffs = np.linspace(-4, 6, 801)
    x, y = norm.sf(cutoffs), norm.sf(cutoffs - 1.5)
    held = 0
    for _ in range(NUM_COHORTS):
        band = roc_band(*scored(generator, patients, cases))
        assert band is not None
        cell = np.clip(np.searchsorted(band.false_positive_rate, x, "right") - 1, 0, len(band.low) - 1)
        held += bool(np.all((band.low[cell] <= y + 1e-9) & (y <= band.high[cell] + 1e-9)))

    assert held >= 0.93 * NUM_COHORTS


def test_the_band_reaches_as_far_as_the_distribution_of_kolmogorov_and_smirnov() -> None:
    scores = np.arange(60.0)

    band = roc_band(scores >= 30, scores, np.arange(60))

    assert band is not None
    reach = float(kstwo.ppf(0.975, 30))
    assert band.high[0] == 1.0
    assert band.low[-1] == pytest.approx(1 - reach)
    assert band.low[0] == 0.0


def test_few_patients_of_a_class_have_no_band() -> None:
    scores = np.arange(20.0)

    assert roc_band(scores >= 16, scores, np.arange(20)) is None
    assert roc_band(scores >= 10, scores, np.where(scores >= 10, 7, scores)) is None
