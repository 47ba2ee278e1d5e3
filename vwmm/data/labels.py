"""What is wrong with a column of labels as a whole: what are no classes is told once, a class in two spellings too."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from unicodedata import normalize

from vwmm.data.spelling import spelling_key

Lines = Mapping[str, Sequence[tuple[str, int]]]
"""(patient, line) of each case of a label."""
_SHOWN_LINES, _SHOWN_LABELS, _SHOWN_LETTERS = 5, 3, 50
_NUMBER = re.compile(
    r"[<>\u2264\u2265~]?\s*[+-]?\d+(?:[.,](\d+))?(?:e[+-]?\d+)?\s*(?:%|mm|cm|years?|y)?", re.IGNORECASE
)
# More numbers than any scale of grades has; or so many with a fraction, or with two decimals.
_MANY, _MANY_FRACTIONS, _MANY_DECIMALS = 20, 6, 3
# With fewer, each may be a class that lacks patients.
_FEW = 5
_LIST = re.compile(r"[\[({].*[\])}]")


def label_problems(lines: Lines, column: str, named: Sequence[str]) -> Iterator[tuple[int | None, str]]:
    """(line, what is wrong); named: the classes of `data.labels`, which may be what they like.

    Learning needs two classes, each with two patients: one to train on, one to validate on.
    """
    if not named and (found := _multi_label(lines, column) or _no_classes(lines, column)):
        yield None, found
        return
    respelled = set[str]()
    if not named:
        for labels in _spellings(lines):
            respelled |= set(labels)
            yield None, _describe_spellings(labels, lines, column)
    if len(lines) == 1:
        yield None, f"every case has the same label {next(iter(lines))!r}: there is nothing to tell apart"
    for label, cases in sorted(lines.items()):
        is_refused = label in respelled or (named and label not in named)
        if len({patient for patient, _ in cases}) == 1 and len(lines) > 1 and not is_refused:
            yield (
                cases[0][1],
                f"label {label!r} occurs in one patient only; add others, or give it another label",
            )
    for label in named:
        if label not in lines:
            yield None, f"data.labels: no case has label {label!r}"


def nearest_class(label: str, classes: Sequence[str]) -> str:
    """`; is it 'stable'?` where a label is one of the classes in another spelling; else nothing."""
    key = spelling_key(label)
    return next((f"; is it {name!r}?" for name in classes if spelling_key(name) == key), "")


def _spellings(lines: Lines) -> list[list[str]]:
    """The labels that a person reads as one, in the order in which they stand in the table."""
    groups = defaultdict[str, list[str]](list)
    for label in sorted(lines, key=lambda label: lines[label][0][1]):
        groups[spelling_key(label)].append(label)
    return [labels for labels in groups.values() if len(labels) > 1]


def _describe_spellings(labels: Sequence[str], lines: Lines, column: str) -> str:
    look_alike = len({" ".join(normalize("NFKC", label).split()) for label in labels}) < len(labels)
    show = ascii if look_alike else repr
    each = [f"{show(_cut(label))} ({_where([line for _, line in lines[label]])})" for label in labels[:_SHOWN_LABELS]]
    shown = ", ".join(each[:-1]) + f" and {each[-1]}"
    more = f" and {len(labels) - _SHOWN_LABELS} more" if len(labels) > _SHOWN_LABELS else ""
    return (
        f"column {column!r} has one class in {len(labels)} spellings: {shown}{more}; write it one way, or name each in "
        "data.labels if they are different classes"
    )


def _where(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN_LINES])) + (", ..." if len(lines) > _SHOWN_LINES else "")
    return f"1 case: line {shown}" if len(lines) == 1 else f"{len(lines)} cases: lines {shown}"


def _cut(label: str) -> str:
    return label if len(label) <= _SHOWN_LETTERS else f"{label[: _SHOWN_LETTERS - 3]}..."


def _multi_label(lines: Lines, column: str) -> str | None:
    """The message that cells hold several labels each; a comma, plus or ampersand counts where each part is a label."""

    def is_multiple(label: str) -> bool:
        if re.search(r"[^;|]\s*[;|]\s*[^;|\s]", label) or (_LIST.fullmatch(label) and re.search("[,;|]", label)):
            return True
        parts = [part.strip() for part in re.split(r"[,+&/]", label)]
        return len(parts) > 1 and all(part in lines for part in parts)

    found = [label for label in lines if is_multiple(label)]
    if not found:
        return None
    count = sum(len(lines[label]) for label in found)
    first = min(found, key=lambda label: lines[label][0][1])
    where = f"{_cut(first)!r} in line {lines[first][0][1]}; {'1 such cell' if count == 1 else f'{count} such cells'}"
    return (
        f"column {column!r} holds several labels in one cell ({where}): vwmm gives each case one class (no multi-label "
        "training); keep one label, make a column for each (data.columns.label=...), or name each combination in "
        "data.labels"
    )


def _no_classes(lines: Lines, column: str) -> str | None:
    """The message that the labels are measurements, or names; None: they may be classes."""
    matches = [_NUMBER.fullmatch(label) for label in lines]
    fractions = [match[1] for match in matches if match is not None and match[1] and match[1].strip("0")]
    patients = {patient for cases in lines.values() for patient, _ in cases}
    is_spread = len(lines) > _FEW and 2 * len(lines) > len(patients)
    are_numbers = all(match is not None for match in matches)
    num_decimals = sum(len(fraction.rstrip("0")) > 1 for fraction in fractions)
    is_measured = len(lines) > _MANY or num_decimals >= _MANY_DECIMALS or len(fractions) >= _MANY_FRACTIONS
    if not (is_spread or (are_numbers and is_measured)):
        return None
    what = "numbers" if are_numbers else "values"
    shown = ", ".join(repr(_cut(label)) for label in sorted(lines)[:_SHOWN_LABELS])
    found = f"column {column!r} has {len(lines)} different {what} for {len(patients)} patients (such as {shown}): "
    if not are_numbers:
        return f"{found}these are no classes, of which each needs two patients; is data.columns.label another column?"
    return (
        f"{found}vwmm learns classes and does not predict numbers (regression); put them into classes, such as low and "
        "high, in a column of their own (data.columns.label=...), or name each in data.labels"
    )
