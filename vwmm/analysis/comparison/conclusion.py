"""One sentence on a comparison: fusion helped, adds nothing, or it cannot be told, and how many patients it takes."""

from vwmm.analysis.comparison.compare import (
    Comparison,
    PairDifference,
    patients_needed,
    primary_metric,
    within_margin,
)
from vwmm.analysis.statistics.metrics import METRICS

# A smaller gain in AUROC or accuracy is taken for none.
MARGIN = 0.05
COMMONEST = "commonest_class"
_LEVEL = 0.05


def conclude(comparison: Comparison, fused: str, *, margin: float = MARGIN) -> str:
    """What follows from a model of all modalities, `fused`, against each single one, in the primary metric.

    Fusion helped where the fused model is better than every single modality (p adjusted by Holm below 0.05, interval
    above 0); it adds nothing where the gain over one of them is surely below the margin; else it cannot be told.
    """
    singles = [model.name for model in comparison.models if len(model.modalities) == 1 and not model.is_baseline]
    metric = primary_metric(comparison)
    found = [comparison.between(fused, name, metric) for name in singles]
    known = [one for one in found if one.found.value is not None]
    if not known:
        return "It cannot be told whether fusion helps: there is no single modality to compare with."
    closest = min(known, key=lambda one: float(one.found.value or 0))
    title = METRICS[metric].name
    shown = f"{_value(comparison, fused, metric)} with all modalities, {_value(comparison, closest.b, metric)} with "
    shown = f"{title} {shown}{closest.b}, the best single one; {describe(closest)}"
    if all(_is_better(one) for one in found):
        return f"Fusion helped: {shown}."
    if _is_worse(closest):
        return f"Fusion did worse than {closest.b} alone: {shown}."
    if redundant := next((one for one in known if within_margin(one.found, margin, len(singles))), None):
        return (
            f"The other modalities add nothing to {redundant.b} that these {comparison.num_cases} cases show: {title} "
            f"{_value(comparison, fused, metric)} with all, {_value(comparison, redundant.b, metric)} with "
            f"{redundant.b}; {describe(redundant)}, below {margin:g}."
        )
    return f"It cannot be told whether fusion helps: {shown}.{_how_many(comparison, closest, margin)}"


def judge_baselines(comparison: Comparison, fused: str) -> str:
    """A sentence for each baseline that knows more than how frequent the classes are; empty without one."""
    metric, sentences = primary_metric(comparison), list[str]()
    for model in comparison.models:
        if not model.is_baseline or model.name == COMMONEST:
            continue
        one = comparison.between(fused, model.name, metric)
        of_both = " and ".join(_value(comparison, name, metric) for name in (fused, model.name))
        values = f"({METRICS[metric].name} {of_both}; {describe(one)})"
        if _is_better(one):
            sentences.append(f"It is better than {model.name}, a model without images {values}.")
        elif _is_worse(one):
            sentences.append(f"But {model.name}, a model without images, is better {values}.")
        else:
            sentences.append(f"It is not shown to be better than {model.name}, a model without images {values}.")
    return " ".join(sentences)


def conclude_pair(comparison: Comparison, pair: tuple[str, str]) -> str:
    """Which of two models is better, in the primary metric, or that it cannot be told."""
    metric = primary_metric(comparison)
    one = comparison.between(*pair, metric)
    title = METRICS[metric].name
    values = f"{title} {_value(comparison, one.a, metric)} and {_value(comparison, one.b, metric)}; {describe(one)}"
    if _is_better(one):
        return f"{one.a} is better than {one.b}: {values}."
    if _is_worse(one):
        return f"{one.b} is better than {one.a}: {values}."
    return f"It cannot be told which of {one.a} and {one.b} is better: {values}.{_how_many(comparison, one, MARGIN)}"


def describe(pair: PairDifference) -> str:
    """`difference 0.12, 95 % interval 0.03 to 0.21, p = 0.012 (Holm)`."""
    found = pair.found
    if found.value is None:
        return "no difference is defined"
    interval = found.limits.interval
    span = f", 95 % interval {interval.low:.3f} to {interval.high:.3f}" if interval else f", {found.limits.reason}"
    corrected = " (Holm)" if pair.num_pairs > 1 else ""
    p = "" if pair.p_adjusted is None else f", {p_text(pair.p_adjusted)}{corrected}"
    return f"difference {found.value:.3f}{span}{p}"


def p_text(p: float) -> str:
    """`p = 0.012`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _is_better(pair: PairDifference) -> bool:
    interval = pair.found.limits.interval
    return bool(pair.p_adjusted is not None and pair.p_adjusted < _LEVEL and interval and interval.low > 0)


def _is_worse(pair: PairDifference) -> bool:
    interval = pair.found.limits.interval
    return bool(pair.p_adjusted is not None and pair.p_adjusted < _LEVEL and interval and interval.high < 0)


def _value(comparison: Comparison, name: str, metric: str) -> str:
    place = next(place for place, model in enumerate(comparison.models) if model.name == name)
    value = comparison.numbers[place][metric].value
    return "-" if value is None else f"{value:.3f}"


def _how_many(comparison: Comparison, pair: PairDifference, margin: float) -> str:
    """How many patients it would take to tell; a difference below the margin is none that is worth looking for."""
    difference = abs(pair.found.value or 0.0)
    target = max(difference, margin)
    if (needed := patients_needed(pair.found, comparison.num_patients, target, pair.num_pairs)) is None:
        return ""
    what = "as large as this" if target == difference else f"of {margin:g}"
    return f" About {needed:,} patients of this kind would show a difference {what} in 80 of 100 studies."
