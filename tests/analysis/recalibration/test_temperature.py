"""The likeliest temperature against an independent solver, and where there is none."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from vwmm.analysis.recalibration.temperature import fit_temperature, rescale


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_temperature_is_scipys_minimum_of_the_log_loss(num_classes: int, sharpness: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(300, num_classes)) * 2
    labels = np.array([generator.choice(num_classes, p=softmax(row)) for row in logits])
    found, reason = fit_temperature(labels, softmax(sharpness * logits, axis=1))

    def loss(inverse: float) -> float:
        return -float(log_softmax(inverse * sharpness * logits, axis=1)[np.arange(300), labels].mean())

    assert reason == ""
    assert found is not None
    assert 1 / found == pytest.approx(minimize_scalar(loss, (0.01, 1 / sharpness), tol=1e-12).x, rel=1e-5)
    assert loss(1 / found) <= min(loss(1 / found * 1.0001), loss(1 / found * 0.9999))
    assert found == pytest.approx(sharpness, rel=0.25)


@pytest.mark.parametrize(
    ("labels", "probabilities", "reason"),
    [
        (np.arange(19) % 2, np.full((19, 2), 0.5), "fewer than 20"),
        (np.zeros(20, int), np.tile([0.8, 0.2], (20, 1)), "every validation case is right"),
        (np.arange(20) % 2, np.tile([0.8, 0.2], (20, 1)), "no better than guessing"),
        (np.arange(20) % 2, np.eye(2)[1 - np.arange(20) % 2], "no better than guessing"),
    ],
)
def test_without_a_temperature_there_is_a_reason(labels: np.ndarray, probabilities: np.ndarray, reason: str) -> None:
    found, why = fit_temperature(labels, probabilities)
    assert found is None
    assert reason in why


def test_rescaling_keeps_the_order_and_saturated_rows_finite() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1.0, 1e-300, 0.0]])
    found = rescale(probabilities, 2.0)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found.argmax(axis=1) == 0).all()
    assert found[0] == pytest.approx(np.sqrt(probabilities[0]) / np.sqrt(probabilities[0]).sum())
    assert rescale(probabilities, 1.0)[0] == pytest.approx(probabilities[0], abs=1e-15)
