"""Writes trials.csv, best.yaml and the page after each trial."""

import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vwmm.analysis.pages.origin import origin_of
from vwmm.analysis.pages.pathless import shown_command
from vwmm.analysis.pages.sweep_report import Searching, Trial, render_search, value_text
from vwmm.analysis.statistics.recorded_predictions import read_predictions, read_written_table
from vwmm.config.printing import to_yaml
from vwmm.config.record import MAX_NAME
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.search_space import Searched
from vwmm.engine.checkpoints.checkpoint import find_checkpoint
from vwmm.system.csv_cells import csv_text
from vwmm.system.errors import RunError, UserError

if TYPE_CHECKING:
    from vwmm.engine.sweep.plan import Sweep
    from vwmm.engine.sweep.study import SweepStudy

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "running"}
COLUMNS = ("number", "state", "value", "epochs", "best_epoch")


class Results:
    """The trials of a sweep as they are now."""

    def __init__(self, sweep: "Sweep", study: "SweepStudy") -> None:
        self.sweep, self.space = sweep, sweep.space
        found = study.trials()
        self.trials, self._drawn = [self._trial(frozen) for frozen in found], [frozen.params for frozen in found]
        sign = 1 if self.space.is_minimized else -1
        complete = [(sign * t.value, t.number) for t in self.trials if t.state == "complete" and t.value is not None]
        self.best = self.trials[min(complete)[1]] if complete else None

    def write(self) -> str:
        """Writes the files; what is known, in lines. Raises RunError if all trials have ended and none is complete."""
        folder = self.sweep.folder
        write_whole(folder / "trials.csv", self._table())
        if self.best is not None:
            write_whole(folder / "best.yaml", self._best_config(self.best))
        write_whole(folder / "report.html", self._page().encode("utf-8", "replace"))
        if self.best is None and len(self.trials) >= self.sweep.num_trials and not self._running():
            raise RunError(f"none of {len(self.trials)} trials is complete; the reasons are in {folder / 'trials.csv'}")
        return "\n".join(self._lines())

    def _trial(self, frozen: Any) -> Trial:
        epochs, state = frozen.intermediate_values, STATES[frozen.state.name]
        best = min if self.space.is_minimized else max
        value = frozen.value if state == "complete" else best(epochs.values(), default=None)
        return Trial(
            frozen.number, state, value, max(epochs, default=0), frozen.user_attrs.get("best_epoch"),
            {one.key: _shown(one, frozen.params.get(one.key)) for one in self.space.searched},
            str(frozen.user_attrs.get("reason", "")),
        )  # fmt: skip

    def _running(self) -> list[int]:
        return [trial.number for trial in self.trials if trial.state == "running"]

    def _table(self) -> str:
        keys = [one.key for one in self.space.searched]
        rows: list[list[Any]] = [[*COLUMNS, *keys, "reason"]]
        for t in self.trials:
            best_epoch, value = ("" if cell is None else cell for cell in (t.best_epoch, t.value))
            rows.append([t.number, t.state, value, t.epochs, best_epoch, *(t.values[k] for k in keys), t.reason])
        return csv_text(rows)

    def _best_config(self, best: Trial) -> str:
        """The best trial's configuration, as a run of its own beside the sweep."""
        sweep = self.sweep
        config = sweep.trial_config(best.number, self._drawn[best.number])
        name = f"{str(sweep.config.run.name)[: MAX_NAME - 5]}-best"
        run = config.run.model_copy(update={"dir": sweep.config.run.dir, "name": name})
        tracking = config.tracking.model_copy(update={"group": sweep.config.tracking.group})
        head = (
            f"# The best of {len(self.trials)} trials: {sweep.run(best.number).name}, validation "
            f"{self.space.metric} {value_text(best.value)}.\n"
            f"#   vwmm train --config {sweep.folder / 'best.yaml'}        trains it again\n"
            "# Chosen on the validation cases: expect less on others (report.html).\n\n"
        )
        return head + to_yaml(config.model_copy(update={"run": run, "tracking": tracking}))

    def _page(self) -> str:
        best, predictions, classes = self.best, None, list[str]()
        if best is not None:
            predictions, classes = _predictions(self.sweep.run(best.number), list(self.sweep.config.modalities))
        searching = Searching(
            name=self.sweep.folder.name,
            metric=self.space.metric,
            is_minimized=self.space.is_minimized,
            num_planned=self.sweep.num_trials,
            trials=self.trials,
            best=best,
            log_scaled=frozenset(one.key for one in self.space.searched if one.log),
            chosen=frozenset(one.key for one in self.space.searched if one.kind == "choice"),
            space={one.key: one.describe() for one in self.space.searched},
            test_fraction=self.sweep.config.split.test_fraction,
            origin=origin_of(self._environments(), command=shown_command("sweep", self.sweep.arguments)),
        )
        return render_search(searching, predictions, classes)

    def _environments(self) -> list[dict[str, Any]]:
        """environment.json of the trials, as far as there are any."""
        found = []
        for trial in self.trials:
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(self.sweep.run(trial.number).environment.read_text(encoding="utf-8"))
                found += [content] if isinstance(content, dict) else []
        return found

    def _lines(self) -> list[str]:
        folder, lines = self.sweep.folder, list[str]()
        counts = [f"{self._count(state)} {state}" for state in ("complete", "pruned", "failed") if self._count(state)]
        if running := self._running():
            counts.append(f"{len(running)} unfinished ({', '.join(map(str, running[:8]))})")
        lines.append(f"trials   {len(self.trials)} of {self.sweep.num_trials}: {', '.join(counts) or 'none'}")
        if (best := self.best) is not None:
            lines += [
                f"best     trial {best.number}: validation {self.space.metric} {value_text(best.value)}, chosen on the "
                "same cases: expect less on others",
                *(f"           {key}={json.dumps(value)}" for key, value in best.values.items()),
                f"again    vwmm train --config {folder / 'best.yaml'}",
            ]
        return [*lines, f"table    {folder / 'trials.csv'}", f"report   {folder / 'report.html'}"]

    def _count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


def _shown(one: Searched, value: Any) -> Any:
    """A value as a table has it: a text without quotes."""
    if one.kind != "choice" or value is None:
        return value
    content = json.loads(value)
    return content if isinstance(content, str) else value


def _predictions(run: RunFolder, modalities: Sequence[str]) -> tuple[Any, list[str]]:
    """The predictions of a run's best checkpoint and its classes; none where they cannot be read."""
    try:
        best = find_checkpoint(run.best)
        classes = list(best.description["classes"]) if best is not None else []
        table = read_written_table(run.predictions)
        return read_predictions(table, classes, list(modalities), []), classes
    except (UserError, OSError, ValueError):
        return None, []
