"""The page of a sweep.

The best of many trials on one set of validation cases is partly the luckiest: the more trials and the fewer cases, the
more (Cawley and Talbot 2010, JMLR 11:2079-2107). The page has a note beside the number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from vwmm.analysis.figures.style import INK, PALETTE, QUIET, dress, new_figure, plain
from vwmm.analysis.pages import result_tables
from vwmm.analysis.pages.markup import image_tag, templates
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.pages.run_report import results_of
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

COLOURS = {"complete": PALETTE[0], "pruned": PALETTE[1]}
MAX_SLICES = 12
# Columns of a table that fit on a sheet of paper.
_MAX_KEYS = 6
# A single hopeless trial would press all others into one line: beyond this many spreads of the better half it is cut.
_SPREADS = 3.0
# A logarithmic axis over less than this factor may have no power of ten on it: it is labelled at 2 and 5 times as well.
NARROW_LOG_AXIS = 100.0


@dataclass(frozen=True)
class Trial:
    """One trial."""

    number: int
    """Counted from 0."""
    state: str
    """`complete`, `pruned`, `failed` or `running`."""
    value: float | None
    """The metric of its best checkpoint; of a trial that is not complete, the best epoch so far."""
    epochs: int
    """Epochs that were validated."""
    best_epoch: int | None
    """The epoch of its best checkpoint."""
    values: Mapping[str, Any]
    """The drawn values, by key."""
    reason: str = ""
    """Why it failed; may name cases, so it is no part of the page."""


@dataclass(frozen=True)
class Searching:
    """A sweep as it stands."""

    name: str
    metric: str
    is_minimized: bool
    num_planned: int
    """How many trials there are to be."""
    trials: Sequence[Trial]
    """By number."""
    best: Trial | None
    """The best of those that are complete."""
    log_scaled: frozenset[str]
    """Keys that were drawn on a logarithmic scale."""
    chosen: frozenset[str]
    """Keys with choices as values."""
    space: Mapping[str, str]
    """Each key's range or choices, in words."""
    test_fraction: float
    """Share of the patients that no trial has looked at."""
    origin: Origin
    """When and how the trials were trained."""

    @property
    def metric_name(self) -> str:
        """The metric within a sentence."""
        return METRICS[self.metric].name if self.metric in METRICS else self.metric


def render_search(searching: Searching, predictions: RecordedPredictions | None, classes: Sequence[str]) -> str:
    """The page; predictions: those of the best trial's best checkpoint, where there are any."""
    trials, best = searching.trials, searching.best
    num_ended = sum(trial.state != "running" for trial in trials)
    shown = [trial for trial in trials if trial.value is not None]
    page = {
        "name": searching.name,
        "origin": searching.origin,
        "is_done": num_ended >= searching.num_planned,
        "metric": searching.metric_name,
        "sentence": _sentence(searching),
        "best": best,
        "num_ended": num_ended,
        "num_patients": None if predictions is None else len(np.unique(predictions.patients)),
        "has_test": searching.test_fraction > 0,
        "rows": [_row(trial, searching) for trial in _ranked(searching)],
        "groups": _groups(list(searching.space)),
        "space": searching.space,
        "num_drawn": MAX_SLICES,
        "num_not_drawn": max(0, len(searching.space) - MAX_SLICES),
        "course": image_tag(course(searching)) if shown else None,
        "slices": image_tag(slices(searching)) if len(shown) > 1 else None,
    }
    page |= results_of(predictions, classes, f"best trial ({best.number}), best checkpoint" if best else "")
    return templates().get_template("search.html.jinja").render(page)


def value_text(value: float | None) -> str:
    """A metric's value, in four decimals."""
    return result_tables.NONE if value is None else f"{value:.4f}"


def course(searching: Searching) -> Figure:
    """The value of each trial, and the best of all complete ones so far."""
    metric = searching.metric_name
    best = "" if searching.best is None else f"; the best is trial {searching.best.number}"
    figure = new_figure(8.2, 3.3, f"Validation {metric} of {len(searching.trials)} trials{best}.")
    axes = figure.subplots()
    _scatter(axes, searching, lambda trial: trial.number)
    complete = [(t.number, t.value) for t in searching.trials if t.state == "complete" and t.value is not None]
    if complete:
        numbers, values = zip(*complete, strict=True)
        so_far = (np.minimum if searching.is_minimized else np.maximum).accumulate(np.array(values))
        last = searching.trials[-1].number
        axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", color=INK, linewidth=1.2, label="best so far")
    dress(axes, title=f"Validation {metric} by trial", x="trial", y=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.5, max(1, len(searching.trials)) - 0.5)
    _limit(axes, searching)
    axes.grid(axis="y", color="#E3E7EB", linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9.5, frameon=False, labelcolor=INK)
    return figure


def slices(searching: Searching) -> Figure:
    """The value of each trial over what was drawn for it, a panel for each key."""
    keys = list(searching.space)[:MAX_SLICES]
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    metric = searching.metric_name
    words = f"Validation {metric} of the trials over each of {', '.join(keys)}."
    figure = new_figure(2.75 * columns + 0.4, 2.5 * rows + 0.3, words)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, key in zip(panels, keys, strict=False):
        if key in searching.chosen:
            names = list(dict.fromkeys(sorted(str(trial.values[key]) for trial in searching.trials)))
            _scatter(axes, searching, lambda trial, key=key, names=names: names.index(str(trial.values[key])))
            slant = {"rotation": 30, "ha": "right"} if len(names) > 2 else {}
            axes.set_xticks(range(len(names)), [plain(name, limit=14) for name in names], **slant)
            axes.set_xlim(-0.5, len(names) - 0.5)
        else:
            _scatter(axes, searching, lambda trial, key=key: trial.values[key])
            if key in searching.log_scaled:
                axes.set_xscale("log")
                low, high = axes.get_xlim()
                is_narrow = high / low < NARROW_LOG_AXIS
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_narrow else (1.0,)))
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}") if is_narrow else LogFormatterMathtext())
                axes.xaxis.set_minor_formatter(NullFormatter())
            else:
                axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        dress(axes, title="", x=plain(key, limit=34))
        _limit(axes, searching)
        axes.grid(axis="y", color="#E3E7EB", linewidth=0.8)
    for axes in panels[::columns]:
        axes.set_ylabel(metric, fontsize=10.5, color=INK)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    return figure


def _scatter(axes: Axes, searching: Searching, place: Any) -> None:
    """The trials that have a value; complete ones filled, the best with a ring."""
    for state, colour in COLOURS.items():
        points = [(place(t), t.value) for t in searching.trials if t.state == state and t.value is not None]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=26, linewidths=1.3, edgecolors=colour, label=state, zorder=3,
                         facecolors=colour if state == "complete" else "none")  # fmt: skip
    best = searching.best
    if best is not None and best.value is not None:
        axes.scatter([place(best)], [best.value], s=110, facecolors="none", edgecolors=QUIET, linewidths=1.4, zorder=4,
                     label=f"best: trial {best.number}")  # fmt: skip


def _limit(axes: Axes, searching: Searching) -> None:
    values = np.sort([t.value for t in searching.trials if t.value is not None and t.state in COLOURS])
    if not len(values):
        return
    if not searching.is_minimized:
        axes.set_ylim(max(-0.02, values[0] - 0.05), min(1.02, values[-1] + 0.05))
        return
    middle = values[(len(values) - 1) // 2]
    high = min(values[-1], middle + _SPREADS * max(middle - values[0], 0.1 * abs(middle)))
    margin = 0.06 * (high - values[0]) or 0.05
    axes.set_ylim(values[0] - margin, high + margin)


def _ranked(searching: Searching) -> list[Trial]:
    """Complete trials first, the best of them at the top."""
    sign = 1 if searching.is_minimized else -1
    order = {"complete": 0, "pruned": 1, "running": 2, "failed": 3}

    def place(trial: Trial) -> tuple[int, float, int]:
        return order[trial.state], math.inf if trial.value is None else sign * trial.value, trial.number

    return sorted(searching.trials, key=place)


def _groups(keys: list[str]) -> list[list[str]]:
    """The keys by table, about as many in each."""
    number = max(1, math.ceil(len(keys) / _MAX_KEYS))
    return [list(part) for part in np.array_split(np.array(keys, dtype=object), number)]


def _row(trial: Trial, searching: Searching) -> dict[str, Any]:
    return {
        "number": trial.number,
        "link": f"trial-{trial.number:04d}/report.html" if trial.state == "complete" else "",
        "state": trial.state,
        "value": value_text(trial.value),
        "epochs": str(trial.epochs) if trial.best_epoch is None else f"{trial.best_epoch} of {trial.epochs}",
        "values": {key: _drawn(trial.values[key]) for key in searching.space},
        "is_best": searching.best is not None and trial.number == searching.best.number,
    }


def _drawn(value: Any) -> str:
    if value is None:
        return result_tables.NONE
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _sentence(searching: Searching) -> str:
    best, trials = searching.best, searching.trials
    counts = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none ended"
    head = f"{result_tables.counted(len(trials), 'trial')} of {searching.num_planned} planned ({states})."
    if best is None:
        return f"{head} None is complete yet."
    word = "lowest" if searching.is_minimized else "highest"
    return (
        f"{head} The {word} validation {searching.metric_name} is {value_text(best.value)}, of trial {best.number} "
        f"in epoch {best.best_epoch}."
    )
