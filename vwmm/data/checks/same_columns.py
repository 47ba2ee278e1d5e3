"""Two modality columns that hold the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from vwmm.config.schema import Modality
from vwmm.data.checks.duplicates import Key
from vwmm.data.cohort.cases import Case

_SHOWN_LINES = 5


@dataclass(frozen=True)
class SameColumns:
    """Two modalities with the same images in one case or more."""

    text: str
    """In words."""
    line: int
    """Of the first such case."""
    is_warning: bool
    """Whether it is probably a mistake: the recipes are the same, or some cases have two images."""


def same_columns(
    cases: Sequence[Case], modalities: Mapping[str, Modality], contents: Mapping[Key, str]
) -> list[SameColumns]:
    """Each pair of modalities that is the same image in a case; contents: a hash of each image.

    Two modalities that name the same column are meant to be so.
    """
    found = []
    for one, other in combinations(modalities, 2):
        if _column(one, modalities[one]) == _column(other, modalities[other]):
            continue
        both = [case for case in cases if (case.name, one) in contents and (case.name, other) in contents]
        same = sorted(case.line for case in both if contents[case.name, one] == contents[case.name, other])
        if same:
            is_copy = len(same) < len(both) or _recipe(modalities[one]) == _recipe(modalities[other])
            found.append(SameColumns(_describe(one, other, same, len(both), is_copy=is_copy), same[0], is_copy))
    return found


def _column(name: str, modality: Modality) -> tuple[str, str | None]:
    return modality.column or (name if modality.folder is None else ""), modality.folder


def _recipe(modality: Modality) -> Modality:
    """What is made of an image, wherever it comes from."""
    return modality.model_copy(update={"column": None, "folder": None, "series": None, "preset": None})


def _describe(one: str, other: str, lines: Sequence[int], num_both: int, *, is_copy: bool) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN_LINES])) + (", ..." if len(lines) > _SHOWN_LINES else "")
    where = f"line{'s' if len(lines) > 1 else ''} {shown}"
    text = f"{one} and {other} are the same image in {len(lines)} of the {num_both} cases that have both ({where})"
    if is_copy:
        return f"{text}: one of the columns may have been copied from the other"
    return f"{text}, with two recipes: each image counts twice"
