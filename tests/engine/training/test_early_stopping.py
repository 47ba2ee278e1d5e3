"""Which epoch is the best, and when training stops early."""

import pytest

from vwmm.config.schema import Train
from vwmm.engine.checkpoints.state import Progress
from vwmm.engine.training.early_stopping import is_better, note_epoch, stops_early


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


def test_an_epoch_that_is_better_by_too_little_is_the_best_but_uses_up_patience() -> None:
    train = Train.model_validate({"monitor": "loss", "early_stopping": {"patience": 2, "min_delta": 0.1}})
    progress, found = Progress(), []

    for epoch, loss in enumerate([0.9, 0.85, 0.7, 0.65, 0.8], start=1):
        found.append((note_epoch(progress, train, epoch, loss), stops_early(progress, train)))

    assert found == [(True, False), (True, False), (True, False), (True, False), (False, True)]
    assert (progress.best_epoch, progress.best_value, progress.stopping_value) == (4, 0.65, 0.7)


def test_without_patience_training_never_stops_early() -> None:
    progress, train = Progress(), Train.model_validate({"early_stopping": {"patience": None}})

    for epoch in range(1, 50):
        note_epoch(progress, train, epoch, None)

    assert progress.best_epoch == 1
    assert not stops_early(progress, train)
