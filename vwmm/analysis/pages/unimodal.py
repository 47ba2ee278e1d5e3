"""Compares each modality alone with all together, and with chance.

Of a modality alone there are sums over cases, not results by case. So it is compared with all modalities together on
the same cases, those that have its image; but no test of the difference can be made, and none is claimed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vwmm.analysis.figures.report_figures import combination_name, combinations
from vwmm.analysis.figures.style import plain
from vwmm.analysis.pages.result_tables import Share, percent, share
from vwmm.analysis.run_record import History
from vwmm.analysis.statistics.intervals import MIN_FOR_SHARE, too_few
from vwmm.analysis.statistics.metrics import macro_auroc
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

_UNKNOWN = "of one modality alone no results by case are recorded"


@dataclass(frozen=True)
class UnimodalScore:
    """Results of the best checkpoint with one modality alone, over the cases that have its image."""

    name: str
    """The modality."""
    cases: int
    right: int
    balanced_accuracy: float | None
    auroc: float | None


def unimodal_scores(history: History) -> list[UnimodalScore]:
    """Those of the best epoch; none where it has none."""
    found = []
    for name, table in history.unimodal.items():
        rows = table[table["epoch"] == history.best_epoch]
        if len(rows):
            row = {key: None if np.isnan(value) else float(value) for key, value in rows.iloc[-1].items()}
            found += _score(str(name), row)
    return found


def summed_scores(validations: Iterable[Mapping[str, Any]]) -> list[UnimodalScore]:
    """Of folds together, from the validation record of each: the right ones add up, other scores do not."""
    sums: dict[str, tuple[int, int]] = {}
    for validation in validations:
        for name, scores in (validation.get("unimodal") or {}).items():
            for one in _score(name, scores):
                cases, right = sums.get(name, (0, 0))
                sums[name] = (cases + one.cases, right + one.right)
    return [UnimodalScore(name, cases, right, None, None) for name, (cases, right) in sums.items()]


def unimodal_notes(
    predictions: RecordedPredictions, classes: Sequence[str], scores: Iterable[UnimodalScore]
) -> list[str]:
    """The comparison in words; predictions: those of all modalities together, by the same checkpoint."""
    notes = list[str]()
    for score in scores:
        if score.name not in predictions.present:
            continue
        has_image = predictions.present[score.name].to_numpy(dtype=bool)
        if int(has_image.sum()) != score.cases or _are_few(predictions.patients[has_image]):
            continue
        same = predictions.part(has_image)
        notes += [note for note in (_beats(score, same), _below_chance(score, same), _no_better(score, same, classes))
                  if note]  # fmt: skip
    return notes


def presence_notes(predictions: RecordedPredictions, classes: Sequence[str]) -> list[str]:
    """Of the cases by the modalities that they have: which do no better than their commonest class, and which of those
    with one modality do better than complete ones."""
    present = predictions.present.to_numpy(dtype=bool)  # (N, M)
    if present.size == 0 or present.all() or present.shape[1] < 2:
        return []
    names, correct = list(predictions.present.columns), predictions.predicted == predictions.labels
    complete = share(correct[present.all(axis=1)], predictions.patients[present.all(axis=1)])
    notes = list[str]()
    for flags, _ in combinations(predictions.present):
        chosen = (present == flags).all(axis=1)
        if _are_few(predictions.patients[chosen]):
            continue
        found = share(correct[chosen], predictions.patients[chosen])
        kind = " alone" if sum(flags) == 1 else " modalities" if all(flags) else ""
        head = f"Of the cases with {combination_name(names, flags)}{kind} {_of(found)}"
        if (naive := _commonest(predictions.labels[chosen], classes)) and found.num_right <= naive[1]:
            notes.append(f"{head}, no more than always predicting their most frequent class, {naive[0]} ({naive[1]}).")
        if sum(flags) == 1 and complete.interval and _is_more(found, complete):
            notes.append(
                f"{head}, of those with all {len(names)} modalities {_of(complete, verb='')}: not the same cases, and "
                "the former may be easier."
            )
    return notes


def _score(name: str, scores: Mapping[str, Any]) -> list[UnimodalScore]:
    accuracy, cases = scores.get("accuracy"), scores.get("cases")
    if accuracy is None or not cases:
        return []
    right = round(float(accuracy) * int(cases))
    return [UnimodalScore(name, int(cases), right, scores.get("balanced_accuracy"), scores.get("auroc"))]


def _beats(score: UnimodalScore, same: RecordedPredictions) -> str:
    """Whether it does better than all modalities together on the same cases."""
    together = int((same.predicted == same.labels).sum())
    if (gain := score.right - together) > 0:
        # The fewest cases that can have changed are `gain`, all for the better: the sign test then has 2 * 0.5^gain.
        is_small = 2 * 0.5**gain > 0.05
        cases = "1 case" if gain == 1 else f"{gain} cases"
        judged = f"A difference of {cases} may be chance." if is_small else (
            f"Whether that is more than chance is not known: {_UNKNOWN}."
        )  # fmt: skip
        return (
            f"{_was_right(score, same)}, all modalities together in {together} of the same "
            f"({percent(together / score.cases)}). {judged}"
        )
    area = macro_auroc(same.labels, same.probabilities)
    if score.auroc is None or area is None or score.auroc <= area + 1e-9:
        return ""
    return (
        f"{_name(score)} alone reached an AUROC of {score.auroc:.3f} on the {score.cases} cases that have it, all "
        f"modalities together {area:.3f} on the same; no interval, since {_UNKNOWN}."
    )


def _below_chance(score: UnimodalScore, same: RecordedPredictions) -> str:
    """By what does not depend on how frequent the classes are."""
    occurring = len(np.unique(same.labels))
    if occurring < 2:
        return ""
    found = []
    if score.auroc is not None and score.auroc < 0.5:
        found.append(f"AUROC {score.auroc:.3f} (0.5 by chance)")
    if score.balanced_accuracy is not None and score.balanced_accuracy < 1 / occurring - 1e-9:
        found.append(f"balanced accuracy {percent(score.balanced_accuracy)} ({percent(1 / occurring)} by chance)")
    if not found:
        return ""
    return (
        f"{_name(score)} alone is below chance on the {score.cases} cases that have it: {', '.join(found)}; no "
        f"interval, since {_UNKNOWN}."
    )


def _no_better(score: UnimodalScore, same: RecordedPredictions, classes: Sequence[str]) -> str:
    naive = _commonest(same.labels, classes)
    if naive is None or score.right > naive[1]:
        return ""
    return (
        f"{_was_right(score, same)}, no more than always predicting the most frequent class of these cases, {naive[0]} "
        f"({naive[1]})."
    )


def _was_right(score: UnimodalScore, same: RecordedPredictions) -> str:
    """With an interval where each patient has one case: it then does not matter which cases were right."""
    value = percent(score.right / score.cases)
    if len(np.unique(same.patients)) == score.cases:
        found = share(np.arange(score.cases) < score.right, same.patients)
        interval = f", 95 % interval {found.span}"
    else:
        interval = f"; no interval: {_UNKNOWN}"
    return (
        f"{_name(score)} alone was right in {score.right} of the {score.cases} cases that have it ({value}{interval})"
    )


def _of(found: Share, *, verb: str = " were right") -> str:
    return f"{found.num_right} of {found.num_cases}{verb} ({found.text}, 95 % interval {found.span})"


def _is_more(one: Share, other: Share) -> bool:
    return one.num_right * other.num_cases > other.num_right * one.num_cases


def _commonest(labels: np.ndarray, classes: Sequence[str]) -> tuple[str, int] | None:
    """The commonest class and its cases; None where there is only one class."""
    counts = np.bincount(labels, minlength=len(classes))
    if (counts > 0).sum() < 2:
        return None
    return plain(classes[int(counts.argmax())], limit=60, escape_math=False), int(counts.max())


def _are_few(patients: np.ndarray) -> bool:
    return bool(too_few(np.unique(patients, return_counts=True)[1], MIN_FOR_SHARE)) if len(patients) else True


def _name(score: UnimodalScore) -> str:
    return plain(score.name, limit=40, escape_math=False)
