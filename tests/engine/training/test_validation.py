"""The line of an epoch, and outputs that are not finite."""

import numpy as np
import pytest

from vwmm.analysis.statistics.predictions import Predictions
from vwmm.engine.training.validation import check_finite, describe_epoch
from vwmm.system.errors import RunError


def test_line_of_an_epoch_has_at_most_100_columns_and_marks_the_best() -> None:
    cases = [str(n) for n in range(60)]
    ones = np.ones(60, dtype=np.int64)
    predictions = Predictions(
        cases, cases, ones, np.eye(2, dtype=np.float32)[ones], ones[:, None] > 0, ["a", "b"], ["ct"]
    )
    record = {"epoch": 7, "train_loss": 12.34567, "loss": 10.9, "accuracy": 0.98765, "auroc": 0.5, "cases": 60}
    line = describe_epoch(record, 100, predictions, left="11:02:03", is_best=True)
    assert line == (
        "epoch   7/100  loss 12.3457, val 10.9000  accuracy 0.988 [0.94, 1.00]  AUROC 0.500  11:02:03 left  best"
    )
    assert len(line) == 103  # the widest that there is; a loss below 10 and an hour below 10 leave 100
    assert describe_epoch(record | {"auroc": None}, 100, predictions).endswith("AUROC -")


def test_outputs_that_are_not_finite_are_an_error_that_names_their_cases() -> None:
    """As after a step with a far too large rate: else NaN would count as the first class."""
    logits = np.zeros((3, 2), dtype=np.float32)
    cases, labels, present = ["a", "b", "c"], np.zeros(3, dtype=np.int64), np.ones((3, 1), dtype=bool)
    check_finite(Predictions(cases, cases, labels, logits, present, ["x", "y"], ["ct"]))
    logits[1, 0] = np.nan

    with pytest.raises(RunError, match=r"not finite for 1 of 3 validation cases \(b\).*smaller train.lr"):
        check_finite(Predictions(cases, cases, labels, logits, present, ["x", "y"], ["ct"]))
