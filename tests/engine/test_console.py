"""What a person sees while it works."""

import io
import sys
from pathlib import Path

import pytest

from vwmm.engine import console
from vwmm.engine.console import LOG, ProgressBar, log_to_file, start_log


def test_a_log_on_a_full_disk_prints_no_traceback_for_each_line(capfd: pytest.CaptureFixture[str]) -> None:
    start_log(is_main_process=True)
    handler = log_to_file(Path("/dev/full"))
    try:
        LOG.info("the run goes on")
    finally:
        LOG.removeHandler(handler)
    assert capfd.readouterr().err == "the run goes on\n"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the bar sees."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_bar_shows_no_rate_and_no_time_left_until_several_items_took_seconds(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)

    shown = []
    with ProgressBar("images", 100, "image") as bar:
        for seconds in (4.0, 0.5, 0.5, 0.5, 0.5, 0.5):  # the first one starts the workers
            clock[0] += seconds
            stderr.truncate(0)
            bar.advance(1)
            shown.append(stderr.getvalue())

    assert "1/100" in shown[0]
    for text in shown[:4]:
        assert not any(word in text for word in ("image/s", "s/image", "left"))
    assert "6/100 [00:06, 2 image/s, 0:47 left]" in shown[-1]  # by the five that followed the first


def test_lines_of_a_log_count_the_rate_without_the_first_items(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start_log(is_main_process=True)
    bar = ProgressBar("images", 100, "image")

    clock[0] += 20
    bar.advance(1)
    for _ in range(10):
        clock[0] += 2
        bar.advance(1)

    first, second = capfd.readouterr().err.splitlines()
    assert first == "images: 1 of 100"
    assert second == "images: 9 of 100, 0.5 image/s, 3:02 left"


def test_what_was_done_before_is_shown_and_is_no_part_of_the_rate(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start_log(is_main_process=True)
    bar = ProgressBar("epoch 2/5", 100, "case", done=60)

    for _ in range(6):
        clock[0] += 3
        bar.advance(4, note="loss 0.5000")

    assert capfd.readouterr().err == "epoch 2/5: 84 of 100, 1.33 case/s, 0:12 left, loss 0.5000\n"
