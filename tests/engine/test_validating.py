"""Which checkpoint is the best, and when training stops early."""

import pytest

from vwmm.engine.validating import is_better


@pytest.mark.parametrize(
    ("value", "best", "monitor", "by", "expected"),
    [
        (0.4, 0.5, "loss", 0.0, True),
        (0.5, 0.5, "loss", 0.0, False),
        (0.4, 0.5, "loss", 0.2, False),
        (0.6, 0.5, "auroc", 0.0, True),
        (0.5, None, "auroc", 0.0, True),
        (None, None, "auroc", 0.0, False),
        (None, 0.5, "auroc", 0.0, False),
        (float("nan"), 0.5, "loss", 0.0, False),
        (float("nan"), None, "loss", 0.0, False),
    ],
)
def test_a_value_is_better_if_it_beats_the_best_by_enough(
    value: float | None, best: float | None, monitor: str, by: float, expected: bool
) -> None:
    assert is_better(value, best, monitor, by=by) is expected
