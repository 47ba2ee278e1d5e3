"""Compares models on the same cases: their metrics, the differences with tests, and what follows from them.

A case without any image of a model's recipe gets the shares of the classes among that model's training cases: what a
model can predict for a patient of whom it knows nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vwmm.analysis.comparison.paired_tests import DIFFERENCES, Difference, holm
from vwmm.analysis.statistics.intervals import Interval
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions
from vwmm.analysis.statistics.results import Number, overall


@dataclass(frozen=True)
class ComparedModel:
    """One model's predictions of the N cases that all models predict."""

    name: str
    """Its name on the page and in the files."""
    modalities: tuple[str, ...]
    """The modalities that it sees; empty for a baseline that sees no image."""
    predictions: RecordedPredictions
    """In the order of the cases, which is the same for all models."""
    is_guess: np.ndarray
    """(N,) bool: cases of which it has no image, so that it only knows how frequent the classes are."""
    is_baseline: bool = False
    """Whether it was not trained on images."""


@dataclass(frozen=True)
class PairDifference:
    """A metric of model `a` minus that of model `b`."""

    a: str
    b: str
    metric: str
    """As in comparison.json."""
    found: Difference
    p_adjusted: float | None
    """By Holm, over the pairs of the same question in this metric."""
    num_pairs: int = 1
    """How many pairs the question has."""

    def to_json(self) -> dict[str, Any]:
        """As comparison.json has it; without an interval `no_interval` has the reason."""
        interval, value = self.found.limits.interval, self.found.value
        row: dict[str, Any] = {"a": self.a, "b": self.b, "metric": self.metric, "difference": value}
        row |= {"low": interval and interval.low, "high": interval and interval.high}
        row |= {"p": self.found.p, "p_adjusted": self.p_adjusted, "test": self.found.test}
        row["method"] = self.found.limits.method
        return row if interval else {**row, "no_interval": self.found.limits.reason}


@dataclass(frozen=True)
class Comparison:
    """What the models come to on the same cases."""

    num_cases: int
    num_patients: int
    models: tuple[ComparedModel, ...]
    numbers: tuple[dict[str, Number], ...]
    """The metrics of each model."""
    differences: tuple[PairDifference, ...]

    def between(self, a: str, b: str, metric: str) -> PairDifference:
        """The difference of two models that are compared."""
        return next(one for one in self.differences if (one.a, one.b, one.metric) == (a, b, metric))

    def to_json(self) -> dict[str, Any]:
        """Cases, models and differences, as comparison.json has them."""
        rows = []
        for model, numbers in zip(self.models, self.numbers, strict=True):
            metrics = {name: _number_json(number) for name, number in numbers.items()}
            row = {"name": model.name, "modalities": list(model.modalities), "metrics": metrics}
            rows.append({**row, "without_its_images": int(model.is_guess.sum()), "baseline": model.is_baseline})
        return {
            "cases": self.num_cases,
            "patients": self.num_patients,
            "models": rows,
            "differences": [one.to_json() for one in self.differences],
        }


def compare(models: Sequence[ComparedModel], pairs: Sequence[tuple[str, str]]) -> Comparison:
    """The metrics of all models and the differences of the pairs (a, b), on the cases that they all have.

    p is corrected within each question: against the single modalities, those with one left out, and the baselines. So a
    question that is asked besides changes no answer.
    """
    named = {model.name: model.predictions for model in models}
    first = models[0].predictions
    questions = [_question(pair, models) for pair in pairs]
    differences = list[PairDifference]()
    for metric, difference in DIFFERENCES.items():
        found = [
            difference(first.labels, named[a].probabilities, named[b].probabilities, first.patients) for a, b in pairs
        ]
        for question in dict.fromkeys(questions):
            asked = [place for place, one in enumerate(questions) if one == question]
            adjusted = holm([found[place].p for place in asked])
            differences += [
                PairDifference(*pairs[place], metric, found[place], p, len(asked))
                for place, p in zip(asked, adjusted, strict=True)
            ]
    return Comparison(
        num_cases=len(first.labels),
        num_patients=len(np.unique(first.patients)),
        models=tuple(models),
        numbers=tuple(overall(model.predictions) for model in models),
        differences=tuple(differences),
    )


def _question(pair: tuple[str, str], models: Sequence[ComparedModel]) -> str:
    """What a pair is compared for: `baseline`, `single`, `left out`; `any` of models of equal standing."""
    kinds = {model.name: model for model in models}
    a, b = kinds[pair[0]], kinds[pair[1]]
    if b.is_baseline:
        return "baseline"
    if not set(b.modalities) < set(a.modalities):
        return "any"
    return "single" if len(b.modalities) == 1 else "left out"


def part_of(models: Sequence[ComparedModel], chosen: np.ndarray) -> list[ComparedModel]:
    """The models on some of the cases; chosen: (N,) bool."""
    return [
        replace(model, predictions=model.predictions.part(chosen), is_guess=model.is_guess[chosen]) for model in models
    ]


def all_pairs(models: Sequence[ComparedModel]) -> list[tuple[str, str]]:
    """Each model with each one after it."""
    return [(a.name, b.name) for place, a in enumerate(models) for b in models[place + 1 :]]


def primary_metric(comparison: Comparison) -> str:
    """AUROC; accuracy where a class without cases leaves it undefined."""
    return "auroc" if all(one["auroc"].value is not None for one in comparison.numbers) else "accuracy"


def patients_needed(found: Difference, num_patients: int, target: float, num_pairs: int = 1) -> int | None:
    """How many patients would show a difference of `target` in 80 of 100 studies, at a two-sided 5 % / num_pairs.

    The standard error falls with the root of their number: P ((z + 0.84) error / target)^2. None where the error is not
    known.
    """
    if not found.error or not target:
        return None
    z = 1.959964 * _stretch(num_pairs)
    return max(num_patients + 1, math.ceil(num_patients * ((z + 0.841621) * found.error / target) ** 2))


def within_margin(found: Difference, margin: float, num_pairs: int) -> bool:
    """Whether a difference is surely below a margin, although the one of `num_pairs` was chosen that shows it best.

    The interval's upper half is stretched from 1.96 to the normal quantile of 1 - 0.025 / num_pairs (Bonferroni).
    """
    if found.limits.interval is None or found.value is None:
        return False
    return found.value + (found.limits.interval.high - found.value) * _stretch(num_pairs) < margin


def _stretch(num_pairs: int) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - 0.025 / num_pairs) / ndtri(0.975))


def _number_json(number: Number) -> dict[str, Any]:
    interval: Interval | None = number.limits.interval
    row: dict[str, Any] = {"value": number.value, "low": interval and interval.low, "high": interval and interval.high}
    return row if interval else {**row, "no_interval": number.limits.reason}
