"""The page of a comparison: what follows, every model's metrics, the differences, and the cases with all images."""

from collections.abc import Mapping
from typing import Any

from vwmm.analysis.comparison.compare import Comparison, PairDifference, primary_metric
from vwmm.analysis.comparison.conclusion import p_text
from vwmm.analysis.comparison.paired_tests import DIFFERENCES
from vwmm.analysis.figures.differences import difference_plot
from vwmm.analysis.pages.markup import image_tag, templates
from vwmm.analysis.pages.origin import Origin
from vwmm.analysis.pages.result_tables import NONE, counted, decimal, decimal_span, limits_text, percent, percent_span
from vwmm.analysis.statistics.metrics import METRICS
from vwmm.analysis.statistics.results import Number

_TITLES = {name: one.title for name, one in METRICS.items()} | {"brier": "Brier score", "loss": "Loss"}
_SHOWN = ("auroc", "accuracy", "balanced_accuracy", "brier")


def comparison_page(
    name: str, comparison: Comparison, complete: Comparison | None, summary: Mapping[str, Any], origin: Origin
) -> str:
    """report.html. complete: on the cases with all images; None where these are all or none, or not known."""
    page: dict[str, Any] = {
        "name": name,
        "summary": summary,
        "origin": origin,
        "titles": [_TITLES[metric] for metric in _SHOWN],
        "whole": _part(comparison),
        "complete": None if complete is None else _part(complete),
        "counts": f"{counted(comparison.num_cases, 'case')} of {counted(comparison.num_patients, 'patient')}",
        "guessed": [
            f"{model.name}: {counted(int(model.is_guess.sum()), 'case')}"
            for model in comparison.models
            if model.is_guess.any()
        ],
    }
    return templates().get_template("comparison.html.jinja").render(page)


def _part(comparison: Comparison) -> dict[str, Any]:
    """The tables and the figure of one set of cases."""
    models = [
        {
            "name": model.name,
            "sees": ", ".join(model.modalities) or "no image",
            "cells": [_number(metric, numbers[metric]) for metric in _SHOWN],
        }
        for model, numbers in zip(comparison.models, comparison.numbers, strict=True)
    ]
    metric = primary_metric(comparison)
    pairs = [one for one in comparison.differences if one.metric == metric]
    return {
        "num_cases": comparison.num_cases,
        "models": models,
        "figure": image_tag(difference_plot(pairs, f"Difference in {METRICS[metric].name}")),
        "tables": [
            {"title": _TITLES[name], "rows": [_row(one) for one in comparison.differences if one.metric == name]}
            for name in DIFFERENCES
        ],
    }


def _number(metric: str, number: Number) -> dict[str, str]:
    is_share = metric in METRICS and METRICS[metric].is_share
    text, span = (percent, percent_span) if is_share else (decimal, decimal_span)
    return {"value": text(number.value), "span": limits_text(number.limits, span)}


def _row(one: PairDifference) -> dict[str, str]:
    return {
        "pair": f"{one.a} \u2212 {one.b}",
        "difference": NONE if one.found.value is None else f"{one.found.value:+.3f}",
        "span": limits_text(one.found.limits, decimal_span),
        "p": NONE if one.found.p is None else p_text(one.found.p).removeprefix("p ").removeprefix("= "),
        "p_adjusted": NONE if one.p_adjusted is None else p_text(one.p_adjusted).removeprefix("p ").removeprefix("= "),
        "test": one.found.test,
    }
