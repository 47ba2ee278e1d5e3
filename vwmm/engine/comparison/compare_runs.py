"""Compares what was trained or predicted before: runs, cross-validations and tables of predictions."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.comparison.compare import ComparedModel, all_pairs, compare
from vwmm.analysis.comparison.conclusion import conclude_pair
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions, read_written_table
from vwmm.config.run_folder import RunFolder
from vwmm.engine.comparison.outcome import ComparisonResult, write_comparison
from vwmm.engine.runs.ensemble import distinct_names
from vwmm.engine.runs.provenance import origin_now
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

_SHOWN = 5
_YES = ("1", "True", "true")


def compare_runs(sources: Sequence[Path], out: Path, arguments: Sequence[str]) -> ComparisonResult:
    """Each with each. Raises UserError with everything that keeps them from being compared; then nothing is written."""
    if out.exists():
        raise UserError(f"--out {out}: exists already; choose another folder, or remove it")
    names, problems, tables = _names(sources), list[Problem](), list[pd.DataFrame]()
    for source in sources:
        try:
            tables.append(_read(source))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    classes, tables = _classes(sources, tables), _with_patients(tables)
    first = tables[0]
    for source, table in zip(sources[1:], tables[1:], strict=True):
        problems += _differences(sources[0], first, source, table)
    problems += [one for source, table in zip(sources, tables, strict=True) for one in _wrong(source, table, classes)]
    if problems:
        raise UserError(problems)
    models = [_model(name, table.loc[first.index], classes) for name, table in zip(names, tables, strict=True)]
    pairs = all_pairs(models)
    found = compare(models, pairs)
    flags = _present(tables, first.index)
    is_complete = None if flags.empty else flags.all(axis=1).to_numpy(dtype=bool)
    return write_comparison(
        out, models, pairs, _rows(names, tables, first.index, classes), classes, is_complete=is_complete,
        conclusion=" ".join(conclude_pair(found, pair) for pair in pairs[:3]),
        origin=origin_now("compare", arguments),
    )  # fmt: skip


def _names(sources: Sequence[Path]) -> list[str]:
    """A name for each: the folder's or the file's without its ending, with the folders above where two are equal."""
    twice = [path for path, count in Counter(source.resolve() for source in sources).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: given twice; a model is not compared with itself")
    return distinct_names([source.with_suffix("") if source.is_file() else source for source in sources])


def _read(source: Path) -> pd.DataFrame:
    """The table of predictions by case, all text. Raises UserError where there is none."""
    if source.is_dir():
        run = RunFolder(source)
        state = run.state()
        file = next((path for path in (source / "predictions.csv", run.predictions) if path.is_file()), None)
        if run.config.exists() and state != "done":
            raise UserError(
                Problem(f"the run is not finished ({state or 'no state in status.json'})", where=str(source))
            )
        if (source / "comparison.json").exists():
            raise UserError(Problem("this is a comparison; name the models in it", where=str(source)))
        if file is None:
            what = "neither a finished run (predictions_val.csv) nor a finished cross-validation (predictions.csv)"
            raise UserError(Problem(what, where=str(source)))
    elif source.is_file():
        file = source
    else:
        raise UserError(Problem("no such run, cross-validation or table of predictions", where=str(source)))
    try:
        table = read_written_table(file)
    except (OSError, ValueError) as error:
        raise UserError(Problem(f"cannot be read as a CSV: {str(error).splitlines()[0]}", where=str(file))) from error
    if absent := [name for name in ("case", "label") if name not in table]:
        raise UserError(
            Problem(f"has no column {' or '.join(absent)}; expected case,label,p_<class>...", where=str(file))
        )
    if not len(table):
        raise UserError(Problem("has no rows", where=str(file)))
    if twice := table.index[table["case"].duplicated()].tolist():
        case = table["case"][twice[0]]
        raise UserError(Problem("stands twice", line=twice[0] + 2, case=case, where=str(file)))
    return table.assign(line=np.arange(len(table)) + 2).set_index("case")


def _with_patients(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables, each with the patients: its own, else those of another table, else the cases themselves."""
    known = next((table["patient"] for table in tables if "patient" in table), pd.Series(dtype=str))
    found = []
    for table in tables:
        cases = table.index.to_series()
        patients = table["patient"] if "patient" in table else cases.map(known).fillna(cases)
        found.append(table.assign(patient=patients.where(patients != "", cases)))
    return found


def _classes(sources: Sequence[Path], tables: Sequence[pd.DataFrame]) -> list[str]:
    """The classes, in the order of the first table's columns; raises UserError where another has others."""
    found = [[str(name)[2:] for name in table if str(name).startswith("p_")] for table in tables]
    problems = [
        Problem(f"has the classes {', '.join(own) or 'none (no column p_<class>)'}; {sources[0]} has "
                f"{', '.join(found[0]) or 'none'}", where=str(source))
        for source, own in zip(sources, found, strict=True)
        if sorted(own) != sorted(found[0]) or len(own) < 2
    ]  # fmt: skip
    if problems:
        raise UserError(problems)
    return found[0]


def _differences(first: Path, expected: pd.DataFrame, source: Path, table: pd.DataFrame) -> list[Problem]:
    """Where two tables do not have the same cases, patients and labels."""
    problems = []
    for what, here, there in (("lacks", expected, table), ("has", table, expected)):
        if left := [name for name in here.index if name not in there.index]:
            shown = ", ".join(map(str, left[:_SHOWN])) + (
                f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            )
            of = f"of {first}" if what == "lacks" else f"that {first} does not have"
            counted = "1 case" if len(left) == 1 else f"{len(left)} cases"
            problems.append(Problem(f"{what} {counted} {of}: {shown}", where=str(source)))
    both = [name for name in expected.index if name in table.index]
    for column in ("label", "patient"):
        if changed := [name for name in both if expected.at[name, column] != table.at[name, column]]:
            name, more = changed[0], f" ({len(changed)} cases differ)" if len(changed) > 1 else ""
            found = f"{column} {table.at[name, column]}, but {expected.at[name, column]} in {first}{more}"
            problems.append(Problem(found, line=int(table.at[name, "line"]), case=str(name), where=str(source)))
    return problems


def _wrong(source: Path, table: pd.DataFrame, classes: Sequence[str]) -> list[Problem]:
    """Labels that are no class, and probabilities that are none."""
    numbers = table[[f"p_{name}" for name in classes]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    is_good = np.isfinite(numbers).all(axis=1) & (numbers >= 0).all(axis=1)
    is_good &= np.abs(numbers.sum(axis=1) - 1) < 1e-3
    problems = []
    for place in np.flatnonzero(~is_good)[:_SHOWN]:
        found = f"the probabilities are not from 0 to 1 with a sum of 1: {', '.join(map(str, numbers[place]))}"
        line, case = int(table["line"].iloc[place]), str(table.index[place])
        problems.append(Problem(found, line=line, case=case, where=str(source)))
    for place in np.flatnonzero(~table["label"].isin(list(classes)).to_numpy())[:_SHOWN]:
        label = table["label"].iloc[place]
        found = f"label {label!r} is none of {', '.join(classes)}" if label else "has no label"
        line, case = int(table["line"].iloc[place]), str(table.index[place])
        problems.append(Problem(found, line=line, case=case, where=str(source)))
    return problems


def _present(tables: Sequence[pd.DataFrame], order: pd.Index) -> pd.DataFrame:
    """(N, M) bool: which images the cases have, by all tables together."""
    columns: dict[str, pd.Series] = {}
    for table in tables:
        for name in [str(column) for column in table if str(column).startswith("present_")]:
            flags = table.loc[order, name].isin(_YES)
            columns[name] = columns[name] | flags if name in columns else flags
    return pd.DataFrame(columns, index=order)


def _model(name: str, table: pd.DataFrame, classes: Sequence[str]) -> ComparedModel:
    modalities = tuple(str(column)[8:] for column in table if str(column).startswith("present_"))
    index = {label: number for number, label in enumerate(classes)}
    predictions = RecordedPredictions(
        labels=table["label"].map(index).to_numpy(dtype=np.int64),
        probabilities=table[[f"p_{label}" for label in classes]].to_numpy(dtype=np.float64),
        patients=table["patient"].to_numpy(dtype=str),
        present=pd.DataFrame(
            {one: table[f"present_{one}"].isin(_YES).to_numpy() for one in modalities}, index=range(len(table))
        ),
    )
    return ComparedModel(name, modalities, predictions, np.zeros(len(table), dtype=bool))


def _rows(
    names: Sequence[str], tables: Sequence[pd.DataFrame], order: pd.Index, classes: Sequence[str]
) -> list[list[Any]]:
    rows: list[list[Any]] = [["model", "case", "patient", "label", "predicted", *(f"p_{one}" for one in classes)]]
    for name, table in zip(names, tables, strict=True):
        for case, row in table.loc[order].iterrows():
            scores = [row[f"p_{one}"] for one in classes]
            predicted = classes[int(np.argmax([float(score) for score in scores]))]
            rows.append([name, case, row["patient"], row["label"], predicted, *scores])
    return rows
