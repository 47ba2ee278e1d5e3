"""What trackers show of a finished run."""

from collections.abc import Sequence

from vwmm.analysis.figures import report_figures
from vwmm.analysis.figures.report_figures import Example
from vwmm.analysis.pages.run_report import pictures_of
from vwmm.analysis.run_record import RunRecord, read_run
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.config.run_folder import RunFolder
from vwmm.engine.tracking.base import Results


def results_to_track(run: RunFolder, examples: Sequence[Example]) -> Results:
    """From the files of a run folder; examples: images to send along, none unless that was asked for."""
    record = read_run(run.path)
    validation = record.history.validation
    best = validation[validation["epoch"] == record.history.best_epoch].dropna(axis=1)
    columns, rows = _table(record)
    pictures = pictures_of(record) | {
        f"example_{number}": report_figures.examples([example]) for number, example in enumerate(examples, 1)
    }
    names = [name for name in ("epoch", "loss", *METRICS) if name in best and len(best)]
    summary = {f"best/{name}": float(best[name].iloc[-1]) for name in names}
    return Results(summary, columns, rows, pictures)


def _table(record: RunRecord) -> tuple[list[str], list[list[object]]]:
    """A row per validation case, numbered in the order of split.csv: no name and no further column of the cohort."""
    known, classes = record.predictions, record.classes
    if known is None:
        return [], []
    modalities = list(known.present.columns)
    columns = ["number", "label", "predicted", *(f"p_{name}" for name in classes)]
    columns += [f"present_{name}" for name in modalities]
    rows: list[list[object]] = []
    for number, (label, predicted) in enumerate(zip(known.labels, known.predicted, strict=True)):
        scores = [float(value) for value in known.probabilities[number]]
        present = [bool(flag) for flag in known.present.iloc[number]]
        rows.append([number + 1, classes[label], classes[predicted], *scores, *present])
    return columns, rows
