"""Compares the models of a plan, when all of them are trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vwmm.analysis.comparison.compare import ComparedModel, compare
from vwmm.analysis.comparison.conclusion import conclude, conclude_pair, judge_baselines
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.data.cohort.cases import Case
from vwmm.engine.check.acquisition import acquisition_facts
from vwmm.engine.check.cohort_check import image_names
from vwmm.engine.check.survey import survey_images
from vwmm.engine.comparison.baselines import Baseline, acquisition, clinical, commonest_class
from vwmm.engine.comparison.outcome import ComparisonResult, write_comparison
from vwmm.engine.comparison.plan import ALL, Plan
from vwmm.engine.comparison.track import track
from vwmm.engine.evaluation.pool_folds import pool_folds
from vwmm.engine.runs.provenance import origin_now
from vwmm.system.errors import print_line


def compare_trained(plan: Plan, arguments: Sequence[str], *, baselines: bool, num_workers: int) -> ComparisonResult:
    """Pools the folds, fits the baselines if asked to, and writes the comparison of all with the model of all images.

    num_workers: processes that read the images for the acquisition facts. Raises UserError for a damaged run.
    """
    tables = {model.name: pool_folds(model.folds).predictions.set_index("case") for model in plan.models}
    cases = [case for case in plan.cohort.cases if case.name in tables[ALL].index]
    fold_of = {case.name: int(tables[ALL].at[case.name, "fold"]) for case in cases}
    models = [_model(plan, cases, fold_of, one.name, one.modalities, tables[one.name]) for one in plan.models]
    notes = list[str]()
    for one in _baselines(plan, cases, fold_of, num_workers) if baselines else []:
        notes += [one] if isinstance(one, str) else one.notes
        models += [] if isinstance(one, str) else [_of_baseline(plan, cases, one)]
    pairs = [(ALL, model.name) for model in models if model.name != ALL]
    found = compare(models, pairs)
    conclusion = conclude(found, ALL) if len(plan.models) > 1 else conclude_pair(found, pairs[0])
    conclusion = f"{conclusion} {judge_baselines(found, ALL)}".rstrip()
    file = plan.folder / "comparison.json"
    before = file.read_bytes() if file.exists() else b""
    if b'"baseline": true' in before and not baselines:
        notes.append("the baselines of the comparison before this one are left out: --baselines fits them again")
        print_line(f"note: {notes[-1]}")
    result = write_comparison(
        plan.folder, models, pairs, _rows(plan, cases, models, fold_of), plan.cohort.classes,
        is_complete=np.array([all(case.images[name] is not None for name in plan.config.modalities) for case in cases]),
        conclusion=conclusion, origin=origin_now("compare", arguments), notes=notes,
    )  # fmt: skip
    if file.read_bytes() != before:  # the same comparison is sent once
        for where in track(plan.config, plan.folder, result.comparison):
            print_line(f"  tracking   {where}")
    return result


def _baselines(plan: Plan, cases: Sequence[Case], fold_of: Mapping[str, int], num_workers: int) -> list[Baseline | str]:
    cohort, columns, modalities = plan.cohort, plan.config.data.columns, plan.config.modalities
    root = cohort.csv_path.parent
    survey = survey_images(cases, modalities, image_names(cases, root), num_workers=num_workers)
    facts = acquisition_facts(cases, list(modalities), survey.facts, columns.site)
    return [
        commonest_class(cohort, cases, fold_of),
        clinical(cohort, cases, fold_of, leave_out=[columns.site], root=root),
        acquisition(cohort, cases, fold_of, facts),
    ]


def _model(
    plan: Plan,
    cases: Sequence[Case],
    fold_of: Mapping[str, int],
    name: str,
    modalities: tuple[str, ...],
    table: pd.DataFrame,
) -> ComparedModel:
    classes = plan.cohort.classes
    is_guess = np.array([case.name not in table.index for case in cases])
    probabilities = np.empty((len(cases), len(classes)))
    columns = [f"p_{label}" for label in classes]
    known = [case.name for case in cases if case.name in table.index]
    probabilities[~is_guess] = table.loc[known, columns].to_numpy(dtype=np.float64)
    for place in np.flatnonzero(is_guess).tolist():
        probabilities[place] = class_shares(plan, cases, fold_of, fold_of[cases[place].name], modalities)
    return ComparedModel(name, modalities, _recorded(plan, cases, probabilities, modalities), is_guess)


def _of_baseline(plan: Plan, cases: Sequence[Case], baseline: Baseline) -> ComparedModel:
    predictions = _recorded(plan, cases, baseline.probabilities, ())
    return ComparedModel(baseline.name, (), predictions, np.zeros(len(cases), dtype=bool), is_baseline=True)


def class_shares(
    plan: Plan, cases: Sequence[Case], fold_of: Mapping[str, int], fold: int, modalities: Sequence[str]
) -> np.ndarray:
    """(K,) float64: how frequent each class is among the training cases of a fold that have an image of these."""
    counts = np.zeros(len(plan.cohort.classes))
    for case in cases:
        if fold_of[case.name] != fold and (not modalities or any(case.images[name] for name in modalities)):
            counts[plan.cohort.class_of(case)] += 1
    return counts / counts.sum()


def _recorded(
    plan: Plan, cases: Sequence[Case], probabilities: np.ndarray, modalities: Sequence[str]
) -> RecordedPredictions:
    return RecordedPredictions(
        labels=np.array([plan.cohort.class_of(case) for case in cases], dtype=np.int64),
        probabilities=probabilities,
        patients=np.array([case.patient for case in cases]),
        present=pd.DataFrame(
            {name: [case.images[name] is not None and name in modalities for case in cases]
             for name in plan.config.modalities}
        ),
    )  # fmt: skip


def _rows(
    plan: Plan, cases: Sequence[Case], models: Sequence[ComparedModel], fold_of: Mapping[str, int]
) -> list[list[Any]]:
    """predictions.csv: a row per model and case; `present_NAME`: whether the model saw that image."""
    classes, modalities = plan.cohort.classes, list(plan.config.modalities)
    header = ["model", "case", "patient", "label", "predicted", *(f"p_{name}" for name in classes)]
    rows: list[list[Any]] = [[*header, *(f"present_{name}" for name in modalities), "fold"]]
    for model in models:
        predicted, present = model.predictions.predicted, model.predictions.present.to_numpy(dtype=int)
        for place, case in enumerate(cases):
            numbers = [repr(float(p)) for p in model.predictions.probabilities[place]]
            named = [model.name, case.name, case.patient, case.label, classes[predicted[place]]]
            rows.append([*named, *numbers, *map(int, present[place]), fold_of[case.name]])
    return rows
