"""The further columns of predictions of two classes."""

import numpy as np
import pytest

from vwmm.analysis.recalibration.calibration_record import CalibrationRecord
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.engine.evaluation.calibration_file import Asked, always_in_sets, read_asked, with_calibrated_columns
from vwmm.system.errors import UserError


def record_of(labels: np.ndarray, scores: np.ndarray) -> CalibrationRecord:
    probabilities = np.stack([1 - scores, scores], axis=1)
    return CalibrationRecord("abc", ("no", "yes"), labels, probabilities, np.arange(len(labels)), 2.0)


def test_classes_at_the_operating_point_and_sets_stand_last_and_own_columns_keep_their_cells() -> None:
    record = record_of(np.repeat([0, 1], 20), np.concatenate([np.full(20, 0.2), np.full(20, 0.4)]))
    logits = np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.55, 0.45]], dtype=np.float32))
    extra = [{"sex": "f", "prediction_set": "mine"}] * 3
    given = Predictions(["a", "b", "c"], ["a", "b", "c"], np.array([0, 1, -1]), logits, np.ones((3, 1), bool),
                        ["no", "yes"], ["ct"], extra)  # fmt: skip

    rows = with_calibrated_columns(given, record, Asked("youden", 0.9, is_class_conditional=True)).to_csv().splitlines()

    assert rows[0].startswith("case,patient,label,predicted,p_no,p_yes,present_ct,sex,cohort_prediction_set,")
    assert rows[0].endswith(",calibrated_p_no,calibrated_p_yes,predicted_at_operating_point,prediction_set")
    assert [row.split(",")[-2:] for row in rows[1:]] == [["no", "no"], ["no", ""], ["yes", "yes"]]
    assert [row.split(",")[8] for row in rows[1:]] == ["mine"] * 3


def test_classes_with_too_few_patients_are_named() -> None:
    record = record_of(np.array([0] * 20 + [1] * 5), np.full(25, 0.4))
    assert always_in_sets(record, Asked()) == ""
    assert "yes (5 validation patients)" in always_in_sets(record, Asked(is_class_conditional=True))


def test_all_that_is_wrong_with_the_options_is_said_at_once() -> None:
    with pytest.raises(UserError) as raised:
        read_asked({"--coverage": "1", "--operating-point": "recall=0.9"})
    assert len(raised.value.problems) == 2
    assert read_asked({"--out": "x"}) == Asked()
