"""Sends a comparison to trackers: an entry of its own in the group of its trainings, with a table of the models."""

from pathlib import Path

from vwmm.analysis.comparison.compare import Comparison, primary_metric
from vwmm.analysis.figures.differences import difference_plot
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.tracking.base import Results
from vwmm.engine.tracking.trackers import open_trackers

FOLDER = "comparison"


def track(config: Config, folder: Path, comparison: Comparison) -> list[str]:
    """Sends it; where it can be found. config: of the models' trainings. Raises UserError where a tracker cannot start.

    runs/NAME/comparison/ holds what the trackers keep on this machine. A tracker that fails is logged and disabled.
    """
    if not config.tracking.trackers:
        return []
    run = RunFolder(folder / FOLDER)
    run.path.mkdir(exist_ok=True)
    trackers = open_trackers(config, run)
    where = trackers.where()
    trackers.show(to_results(comparison))
    trackers.finish()
    return where


def to_results(comparison: Comparison) -> Results:
    """A row a model: its metrics with intervals, and the difference to the first model in the primary metric."""
    metric = primary_metric(comparison)
    columns = ["model", "modalities", "cases"]
    columns += [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    columns += [f"{metric}_difference", "low", "high", "p_holm"]
    differences = {one.b: one for one in comparison.differences if one.metric == metric}
    rows: list[list[object]] = []
    for model, numbers in zip(comparison.models, comparison.numbers, strict=True):
        row: list[object] = [model.name, ", ".join(model.modalities), comparison.num_cases]
        for name in METRICS:
            interval = numbers[name].limits.interval
            row += [numbers[name].value, *(interval or (None, None))]
        one = differences.get(model.name)
        found = None if one is None else one.found
        row += [found and found.value, *((found and found.limits.interval) or (None, None)), one and one.p_adjusted]
        rows.append(row)
    values = {
        f"{model.name}/{name}": float(value)
        for model, numbers in zip(comparison.models, comparison.numbers, strict=True)
        for name in METRICS
        if (value := numbers[name].value) is not None
    }
    figure = difference_plot(list(differences.values()), f"Difference in {METRICS[metric].name}")
    return Results(values, columns, rows, {"differences": figure}, table="comparison_table")
