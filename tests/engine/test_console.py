"""What a person sees while it works."""

from pathlib import Path

import pytest

from vwmm.engine.console import LOG, log_to_file, start_log


def test_a_log_on_a_full_disk_prints_no_traceback_for_each_line(capfd: pytest.CaptureFixture[str]) -> None:
    start_log(is_main_process=True)
    handler = log_to_file(Path("/dev/full"))
    try:
        LOG.info("the run goes on")
    finally:
        LOG.removeHandler(handler)
    assert capfd.readouterr().err == "the run goes on\n"
