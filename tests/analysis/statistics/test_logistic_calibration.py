"""Calibration slope and intercept against independent solvers, and where they do not exist."""

import numpy as np
import pytest
from scipy.optimize import minimize, root
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from vwmm.analysis.statistics.logistic_calibration import calibration_intercept, calibration_slope, log_odds


def drawn(seed: int, number: int, sharpness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log odds, outcomes and patients."""
    generator = np.random.default_rng(seed)
    odds = 2 * generator.normal(size=number) - 0.5
    return sharpness * odds, generator.random(number) < expit(odds), np.arange(number)


@pytest.mark.parametrize("sharpness", [0.01, 0.5, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("number", [25, 400])
@pytest.mark.parametrize("seed", range(4))
def test_slope_and_intercept_solve_the_likelihoods_equations(seed: int, number: int, sharpness: float) -> None:
    odds, hits, patients = drawn(seed, number, sharpness)
    x = (odds - odds.mean()) / odds.std()
    sklearn = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-13, max_iter=1000).fit(x[:, None], hits)
    start = [float(sklearn.intercept_[0]), float(sklearn.coef_[0, 0])]

    def score(b: np.ndarray) -> list[float]:
        errors = hits - expit(b[0] + b[1] * x)
        return [float(errors.sum()), float((errors * x).sum())]

    scipys = root(score, start, tol=1e-14).x[1] / odds.std()
    value = calibration_slope(odds, hits, patients).value
    assert value == pytest.approx(scipys, rel=1e-9)
    assert value == pytest.approx(start[1] / odds.std(), rel=1e-6)
    intercept = calibration_intercept(odds, hits, patients).value
    assert intercept is not None
    assert expit(odds + intercept).sum() == pytest.approx(hits.sum(), abs=1e-9)


def test_intervals_are_those_of_the_curvature_where_each_patient_has_one_case() -> None:
    odds, hits, patients = drawn(1, 4000, 1.0)
    found = calibration_slope(odds, hits, patients)

    def loss(b: np.ndarray) -> float:
        return float(np.logaddexp(0, b[0] + b[1] * odds).sum() - (hits * (b[0] + b[1] * odds)).sum())

    inverse = np.linalg.inv(_hessian(loss, minimize(loss, [0, 1]).x))
    assert found.limits.interval is not None
    assert np.ptp(found.limits.interval) == pytest.approx(2 * 1.96 * np.sqrt(inverse[1, 1]), rel=0.05)


def _hessian(loss: object, at: np.ndarray) -> np.ndarray:
    step, eye = 1e-3, np.eye(2)
    f = loss
    assert callable(f)
    return np.array(
        [
            [
                (f(at + step * (a + b)) - f(at + step * (a - b)) - f(at - step * (a - b)) + f(at - step * (a + b)))
                / (4 * step**2)
                for b in eye
            ]
            for a in eye
        ]
    )


@pytest.mark.parametrize(
    ("odds", "hits", "reason"),
    [
        ([-1.0, -0.5, 0.5, 1.0], [False, False, True, True], "perfectly separated"),
        ([1.0, 0.5, -0.5, -1.0], [False, False, True, True], "perfectly separated"),
        ([-1.0, 0.5, 0.5, 1.0], [False, False, True, True], "perfectly separated"),
        ([0.3, 0.3, 0.3], [False, True, True], "same probability"),
        ([0.3], [True], "same outcome"),
        ([0.3, 0.4], [False, False], "same outcome"),
        ([0.3, np.inf, 0.1], [False, True, True], "exactly 0 or 1"),
        ([], [], "no case"),
    ],
)
def test_a_slope_that_does_not_exist_is_none_with_the_reason(odds: list[float], hits: list[bool], reason: str) -> None:
    found = calibration_slope(np.array(odds), np.array(hits, dtype=bool), np.arange(len(odds)))

    assert found.value is None
    assert reason in found.reason
    assert found.limits.interval is None


def test_the_intercept_exists_under_separation_and_for_saturated_odds() -> None:
    found = calibration_intercept(np.array([-800.0, 800.0, 3.0]), np.array([False, True, False]), np.arange(3))

    assert found.value is not None
    assert expit(np.array([-800.0, 800.0, 3.0]) + found.value).sum() == pytest.approx(1.0, abs=1e-9)
    assert found.limits.reason == "fewer than 50 patients with either outcome"


def test_repeated_cases_widen_the_interval() -> None:
    odds, hits, patients = drawn(3, 400, 1.0)
    twice = [np.repeat(one, 2) for one in (odds, hits, patients)]
    once, again = calibration_slope(odds, hits, patients), calibration_slope(*twice)

    assert again.value == pytest.approx(once.value, rel=1e-9)
    assert once.limits.interval is not None
    assert again.limits.interval is not None
    assert np.ptp(again.limits.interval) == pytest.approx(np.ptp(once.limits.interval), rel=0.12)


def test_log_odds_are_the_logits_where_a_probability_has_become_1() -> None:
    far = np.array([30.0, 50.0, 300.0])
    probabilities = np.stack([np.exp(-far), 1 / (1 + np.exp(-far))], axis=1)

    assert log_odds(probabilities, 1) == pytest.approx(far, rel=1e-12)
    assert log_odds(probabilities, np.zeros(3, dtype=np.int64)) == pytest.approx(-far, rel=1e-12)
