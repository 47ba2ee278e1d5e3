"""The interface that every tracker has, what it receives, and what several of them need.

Values come from metrics.jsonl and predictions_val.csv, during the run and afterwards alike. No tracker receives a path,
a command line, or a case's or patient's name.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a process that draws nothing need not wait for it
    from matplotlib.figure import Figure

Row = tuple[int, Mapping[str, float]]
"""A global step and its values by name."""


@dataclass(frozen=True)
class RunInfo:
    """The description of a run that a tracker receives before its values."""

    project: str
    """The tracker's project; MLflow calls it an experiment."""
    name: str
    """The run's name; of a fold, with its group's before it."""
    group: str | None
    """Under which runs are shown together."""
    folder: Path
    """The run's folder, for what the tracker keeps on this machine."""
    config: Mapping[str, Any]
    """The recipe, without any path."""
    mode: str
    """`tracking.mode`, for W&B."""
    known_id: str | None
    """Its identity with this tracker, from an earlier start."""
    keep_identity: Callable[[str], None]
    """Records the identity; a tracker calls it where that must come before anything is sent."""


@dataclass(frozen=True)
class Results:
    """What came of a run that is done."""

    summary: Mapping[str, float]
    """The best checkpoint's metrics."""
    columns: Sequence[str]
    """Of the table."""
    rows: Sequence[Sequence[Any]]
    """Its rows: a number instead of a name, label, prediction, probabilities and which images there were."""
    figures: Mapping[str, "Figure"]
    """Pictures by name."""
    table: str = "validation_table"
    """What the table is called there."""


class Tracker(Protocol):
    """A tracker of a run."""

    name: str
    """What it is called in messages."""
    where: str
    """What it is and where a person finds it."""
    identity: str
    """Identity by which a resumed run finds the same entry."""

    def last_logged_step(self, event: str) -> int:
        """The last step with a `train` or `validation` event for certain; 0: send everything."""

    def log(self, rows: Sequence[Row]) -> None:
        """Values, in the order of their steps."""

    def drop_superseded(self) -> None:
        """It has received everything from before this start: the log that it replaces may be removed."""

    def show(self, results: Results) -> None:
        """The result of a run that is done."""

    def finish(self, *, is_good: bool) -> None:
        """No more to come."""


def picture_of(figure: "Figure") -> Any:
    """A figure as an image of PIL's."""
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, bbox_inches="tight")
    stream.seek(0)
    return Image.open(stream)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a tracker prints about itself is not the run's output."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
