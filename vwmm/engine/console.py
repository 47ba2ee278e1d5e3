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

    def __init__(self, title: str, total: int, unit: str, *, is_main_process: bool = True) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.is_main_process = is_main_process
        self._start = self._last_line = time.monotonic()
        is_terminal = is_main_process and sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=title, unit=unit, leave=False, file=sys.stderr) if is_terminal else None

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
        self.done += count
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self.is_main_process and time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            rate = self.done / (self._last_line - self._start)
            left = (self.total - self.done) / rate if rate else 0
            counts = f"{self.done} of {self.total}, {rate:.3g} {self.unit}/s, {duration(left)} left"
            LOG.info("%s: %s%s", self.title, counts, f", {note}" if note else "")


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
