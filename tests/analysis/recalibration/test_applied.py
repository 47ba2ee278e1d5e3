"""The numbers of an evaluation with what was fitted on validation cases."""

import numpy as np

from tests.analysis.recalibration.test_calibration_record import CLASSES, drawn
from vwmm.analysis.recalibration.applied import apply_record
from vwmm.analysis.recalibration.calibration_record import fit_record
from vwmm.analysis.recalibration.prediction_sets import fit_sets, sets_of


def test_sizes_and_coverage_are_counted_case_by_case() -> None:
    record, other = fit_record(drawn(60), CLASSES, "abc"), drawn(50, seed=2)
    found = apply_record(other, record, "0.5")
    (nine,) = [one for one in found.sets if one.rule.level == 0.9 and not one.rule.is_class_conditional]
    inside = sets_of(
        other.probabilities,
        fit_sets(record.labels, record.probabilities, record.patients, 0.9, by_class=False),
    )
    assert nine.covered.right == sum(inside[n, label] for n, label in enumerate(other.labels))
    assert nine.mean_size == inside.sum() / 50
    assert (nine.num_single, nine.num_empty) == ((inside.sum(axis=1) == 1).sum(), (~inside.any(axis=1)).sum())
    assert found.at_point["accuracy"].value == np.mean(other.predicted == other.labels)
    assert found.fitted_on == {"cases": 60, "patients": 60, "of": "validation"}
