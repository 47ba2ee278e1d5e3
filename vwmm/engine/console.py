"""Progress bars in a terminal, plain lines in a log; train.log."""

import contextlib
import logging
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from vwmm.config.run_folder import open_in_place

LOG = logging.getLogger("vwmm")
LINE_EVERY_S = 15.0
# The first update has started workers and compiled loops: the rate is that of so many later ones, in so many seconds.
_STEADY_UPDATES, _STEADY_S = 4, 1.0
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}%s{postfix}]"


class _BarFriendlyHandler(logging.Handler):
    """Writes to stderr without breaking a bar that is being drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # a run continues and saves even if its output is closed
            tqdm.write(self.format(record), file=sys.stderr)


def start_log(*, is_main_process: bool) -> None:
    """Lines of the log go to stderr, from one process only."""
    LOG.handlers.clear()
    LOG.propagate = False
    LOG.setLevel(logging.INFO)
    LOG.addHandler(_BarFriendlyHandler() if is_main_process else logging.NullHandler())


class _LogFile(logging.FileHandler):
    """train.log; on a full disk lines are silently lost."""

    def _open(self) -> TextIOWrapper:
        stream: TextIOWrapper = open_in_place(Path(self.baseFilename), "a", encoding="utf-8")  # type: ignore[assignment]
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Instead of a traceback on stderr for each line."""


def log_to_file(path: Path) -> logging.FileHandler:
    """The same lines with their time, into train.log, until the handler is removed."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    LOG.addHandler(handler)
    return handler


class ProgressBar:
    """Counts up to `total`; in a terminal a bar with rate and time left, elsewhere a line now and then."""

    def __init__(self, title: str, total: int, unit: str, *, done: int = 0, is_main_process: bool = True) -> None:
        """done: how many were done before, which are not part of the rate."""
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self.is_main_process = is_main_process
        self._last_line = time.monotonic()
        self._num_updates, self._first = 0, (self._last_line, done)
        """How often `advance` was called; when and with how many done its first call ended."""
        is_terminal = is_main_process and sys.stderr.isatty()
        self._bar = None
        if is_terminal:
            shown = _BAR % ""
            self._bar = tqdm(total=total, initial=done, desc=title, leave=False, file=sys.stderr, bar_format=shown)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def to(self, done: int, total: int | None = None) -> None:
        """`done` of `total` are done."""
        if total is not None and total != self.total:
            self.total = total
            if self._bar is not None:
                self._bar.total = total
        self.advance(done - self.done)

    def advance(self, count: int, *, note: str = "") -> None:
        """`count` more are done; note: shown behind, such as the loss so far."""
        now = time.monotonic()
        self.done += count
        self._num_updates += count > 0
        if self._num_updates == 1 and count > 0:
            self._first = now, self.done
        if self._bar is not None:
            self._bar.bar_format = _BAR % self._rate(now)
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self.is_main_process and now - self._last_line > LINE_EVERY_S:
            self._last_line = now
            counts = f"{self.done} of {self.total}{self._rate(now)}"
            LOG.info("%s: %s%s", self.title, counts, f", {note}" if note else "")

    def _rate(self, now: float) -> str:
        """`, 2.5 case/s, 1:02 left`, without the first update; empty until it is steady."""
        seconds, done = now - self._first[0], self.done - self._first[1]
        if self._num_updates <= _STEADY_UPDATES or seconds < _STEADY_S or done <= 0:
            return ""
        left = (self.total - self.done) * seconds / done
        return f", {done / seconds:.3g} {self.unit}/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def amount(num_bytes: int) -> str:
    """`1.25 GB`, `250 MB` or `4.2 kB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"
