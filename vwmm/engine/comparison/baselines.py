"""Models without images: the commonest class, a logistic regression on clinical columns, one on acquisition facts.

Each is fitted on the training cases of every fold, as the models are, and predicts the others.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.comparison.conclusion import COMMONEST
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.cohort.spelling import is_missing

MAX_CATEGORIES = 10


@dataclass(frozen=True)
class Baseline:
    """The predictions of a model without images."""

    name: str
    """`commonest_class`, `clinical` or `acquisition`."""
    probabilities: np.ndarray
    """(N, K) float64, each case by the model of its fold."""
    notes: tuple[str, ...] = ()
    """What it was fitted on, for the reader."""


def commonest_class(cohort: Cohort, cases: Sequence[Case], fold_of: Mapping[str, int]) -> Baseline:
    """The shares of the classes in the training cases: it always predicts the commonest one."""
    labels = np.array([cohort.class_of(case) for case in cases])
    folds = np.array([fold_of[case.name] for case in cases])
    probabilities = np.empty((len(cases), len(cohort.classes)))
    for fold in np.unique(folds):
        counts = np.bincount(labels[folds != fold], minlength=len(cohort.classes))
        probabilities[folds == fold] = counts / counts.sum()
    return Baseline(COMMONEST, probabilities)


def clinical(
    cohort: Cohort, cases: Sequence[Case], fold_of: Mapping[str, int], *, leave_out: Sequence[str], root: Path
) -> Baseline | str:
    """A logistic regression on the further columns of the CSV; where there is none that can be used, the reason.

    leave_out: columns that describe the acquisition, such as the site; root: where image paths begin, since a column of
    them is no clinical column.
    """
    table, notes = clinical_table(cases, leave_out=leave_out, root=root)
    if not len(table.columns):
        return "no baseline on clinical columns: " + ("; ".join(notes) or "the CSV has no further column")
    used = f"clinical: logistic regression on {', '.join(map(str, table.columns))}"
    return Baseline("clinical", _logistic(cohort, cases, fold_of, table), (used, *notes))


def acquisition(
    cohort: Cohort, cases: Sequence[Case], fold_of: Mapping[str, int], facts: Mapping[str, Sequence[Any]]
) -> Baseline | str:
    """A logistic regression on how the images were taken; facts: by name, of each case a text or a number."""
    table = pd.DataFrame({name: list(values) for name, values in facts.items()})
    table = table.loc[:, [table[name].nunique(dropna=False) > 1 for name in table]]
    if not len(table.columns):
        return "no baseline on acquisition facts: they are the same for all cases"
    used = f"acquisition: logistic regression on {', '.join(map(str, table.columns))}"
    return Baseline("acquisition", _logistic(cohort, cases, fold_of, table), (used,))


def clinical_table(cases: Sequence[Case], *, leave_out: Sequence[str], root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The columns that can be used, numbers as float64 and categories as text, NaN and None for an empty cell; and why
    the others cannot.
    """
    columns, notes = dict[str, Any](), list[str]()
    for name in cases[0].extra if cases else ():
        if name in leave_out:
            continue
        cells = [None if is_missing(case.extra[name]) else case.extra[name] or None for case in cases]
        known = [cell for cell in cells if cell is not None]
        if len(set(known)) < 2:
            notes.append(f"column {name} has {'one value' if known else 'no value'}")
        elif all(os.path.exists(root / cell) for cell in known[:20]):
            notes.append(f"column {name} holds paths")
        elif all(_is_number(cell) for cell in known):
            columns[name] = [float("nan") if cell is None else float(cell) for cell in cells]
        elif len(set(known)) <= MAX_CATEGORIES:
            columns[name] = cells
        else:
            notes.append(f"column {name} has {len(set(known))} different texts, more than {MAX_CATEGORIES}")
    return pd.DataFrame(columns), notes


def _logistic(cohort: Cohort, cases: Sequence[Case], fold_of: Mapping[str, int], table: pd.DataFrame) -> np.ndarray:
    """(N, K) float64: out-of-fold probabilities; ridge penalty 1 on standardised columns, missing cells marked."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    labels = np.array([cohort.class_of(case) for case in cases])
    folds = np.array([fold_of[case.name] for case in cases])
    numbers = [name for name in table if pd.api.types.is_numeric_dtype(table[name])]
    texts = [name for name in table if name not in numbers]
    table = table.assign(**{name: table[name].fillna("") for name in texts})
    probabilities = np.zeros((len(cases), len(cohort.classes)))
    for fold in np.unique(folds):
        inside = folds != fold
        usable = [name for name in numbers if table[name][inside].notna().any()]
        model = make_pipeline(
            ColumnTransformer(
                [
                    ("numbers", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
                     usable),
                    ("texts", OneHotEncoder(handle_unknown="ignore"), texts),
                ]
            ),
            LogisticRegression(max_iter=2000),
        )  # fmt: skip
        model.fit(table[inside], labels[inside])
        probabilities[np.ix_(folds == fold, model.classes_)] = model.predict_proba(table[~inside])
    return probabilities


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
