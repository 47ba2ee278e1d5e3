"""Writes a comparison: comparison.json, predictions.csv and report.html."""

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vwmm.analysis.comparison.compare import ComparedModel, Comparison, compare, part_of
from vwmm.analysis.pages.comparison_report import comparison_page
from vwmm.analysis.pages.origin import Origin
from vwmm.config.run_folder import open_in_place, write_whole
from vwmm.system.csv_cells import csv_text


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison that was written."""

    folder: Path
    """Where comparison.json, predictions.csv and report.html are."""
    comparison: Comparison
    """On all cases."""
    summary: Mapping[str, Any]
    """The content of comparison.json."""

    def describe(self) -> str:
        """Lines for people."""
        lines = [f"{'model':24}{'cases':>7}{'AUROC':>24}{'accuracy':>24}"]
        for model in self.summary["models"]:
            cells = [_cell(model["metrics"][name]) for name in ("auroc", "accuracy")]
            lines.append(f"{model['name']:24}{self.summary['cases']:>7}{cells[0]:>24}{cells[1]:>24}")
        return "\n".join(
            [
                *lines,
                f"result   {self.summary['conclusion']}",
                f"models   {self.folder}",
                f"report   {self.folder / 'report.html'}",
            ]
        )


def write_comparison(
    folder: Path,
    models: Sequence[ComparedModel],
    pairs: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[Any]],
    classes: Sequence[str],
    *,
    is_complete: np.ndarray | None = None,
    conclusion: str,
    origin: Origin,
    notes: Sequence[str] = (),
) -> ComparisonResult:
    """Compares and writes the three files. is_complete: (N,) bool, cases with all images, None where it is not known;
    rows: predictions.csv, the header first.
    """
    comparison = compare(models, pairs)
    complete = None
    if is_complete is not None and is_complete.any() and not is_complete.all():
        complete = compare(part_of(models, is_complete), pairs)
    summary = comparison.to_json() | {"conclusion": conclusion, "classes": list(classes), "notes": list(notes)}
    if is_complete is not None:
        of_complete = comparison if is_complete.all() else complete
        summary["complete"] = None if of_complete is None else of_complete.to_json()
    page = comparison_page(folder.resolve().name, comparison, complete, summary, origin)
    folder.mkdir(parents=True, exist_ok=True)
    with open_in_place(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two tasks may end at the same time
        write_whole(folder / "predictions.csv", csv_text(rows))
        write_whole(folder / "comparison.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        write_whole(folder / "report.html", page)
    return ComparisonResult(folder, comparison, summary)


def _cell(number: Mapping[str, Any]) -> str:
    if number["value"] is None:
        return "-"
    interval = "" if number["low"] is None else f" ({number['low']:.3f} to {number['high']:.3f})"
    return f"{number['value']:.3f}{interval}"
