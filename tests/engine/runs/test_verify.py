"""What a comparison of bits comes to."""

from vwmm.engine.runs.verify import Report
from vwmm.system.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID


def test_values_that_are_missing_or_other_ones_are_differences() -> None:
    report = Report()

    report.compare("step 1", {"loss": 0.5, "lr": 0.1}, {"loss": 0.5})
    assert (report.num_differences, report.exit_code) == (0, EXIT_DONE)

    report.compare("step 2", {"loss": 0.5}, {"loss": 0.25, "grad_norm": 1.0})

    assert report.lines == ["step 2: loss was 0.5, is 0.25", "step 2: grad_norm was None, is 1.0"]
    assert (report.num_differences, report.exit_code) == (2, EXIT_FAILED)


def test_damaged_checkpoint_is_no_difference_and_a_difference_counts_more() -> None:
    report = Report(damaged=["checkpoint x: damaged"])
    assert report.exit_code == EXIT_INVALID

    report.compare("step 1", {"loss": 0.5}, {"loss": 0.25})

    assert report.exit_code == EXIT_FAILED
