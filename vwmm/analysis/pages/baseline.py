"""The baseline that always predicts the most frequent class."""

from collections.abc import Mapping, Sequence

import numpy as np

from vwmm.analysis.figures.style import plain

_MAX_NAME = 60


def compare_with_commonest(matrix: np.ndarray | Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """A sentence for a headline; nothing where the cases are all of one class.

    matrix: (K, K) counts of cases, rows are the true classes, columns the predicted ones.
    """
    counts = np.asarray(matrix)
    of_class = dict(zip(classes, counts.sum(axis=1).tolist(), strict=True))
    if sum(count > 0 for count in of_class.values()) < 2:
        return ""
    name = max(of_class, key=lambda one: of_class[one])
    share = 100 * of_class[name] / sum(of_class.values())
    judgement = ": by accuracy the model is no better" if is_no_better(of_class, int(counts.trace())) else ""
    shown = plain(name, limit=_MAX_NAME, escape_math=False)
    right = f"{of_class[name]:,} ({share:.1f} %)"
    return f"Always predicting the most frequent class, {shown}, would be right in {right}{judgement}."


def is_no_better(of_class: Mapping[str, int], num_right: int) -> bool:
    """Whether a model is right in no more cases than the commonest class has; of_class: cases of each class."""
    return num_right <= max(of_class.values())


def no_better_note(labels: Sequence[str], num_right: int) -> str | None:
    """A line for a run with a model no better than the most frequent class; None: it is better."""
    of_class = {label: labels.count(label) for label in sorted(set(labels))}
    if len(of_class) < 2 or not is_no_better(of_class, num_right):
        return None
    name = max(of_class, key=lambda one: of_class[one])
    what = f"always predicting {name}, the most frequent class, is right in {of_class[name]} of {len(labels)}"
    return f"note     {what}: by accuracy the model is no better"
