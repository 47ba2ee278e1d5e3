"""Errors and notes on the label column as a whole."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from unicodedata import normalize

from vwmm.data.cohort.spelling import in_latin, spelling_key

Lines = Mapping[str, Sequence[tuple[str, int]]]
"""(patient, line) of each case of a label."""
_SHOWN_LINES, _SHOWN_LABELS, _SHOWN_LETTERS = 5, 3, 50
_NUMBER = re.compile(
    r"[<>\u2264\u2265~]?\s*[+-]?\d+(?:[.,](\d+))?(?:e[+-]?\d+)?\s*(?:%|mm|cm|years?|y)?", re.IGNORECASE
)
# More numbers than any scale of grades has; or so many with a fraction, or decimals beyond the first of each.
_MANY, _MANY_FRACTIONS, _MANY_DECIMALS = 20, 6, 3
# Whole numbers from here on are counted in years or points, where most have fewer patients than that.
_NO_GRADE, _FEW_PATIENTS = 10, 5
# With fewer, each may be a class that lacks patients.
_FEW = 5
# What programs write for yes and no.
_YES, _NO = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
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
    are_answers = {spelling_key(label) for label in lines} <= _YES | _NO
    groups, group_of = list[list[str]](), dict[str, list[str]]()
    for label in sorted(lines, key=lambda label: lines[label][0][1]):
        keys = [spelling_key(label), spelling_key(in_latin(label))]
        if are_answers:
            keys.append("yes" if keys[0] in _YES else "no")
        group = next((group_of[key] for key in keys if key in group_of), None)
        if group is None:
            groups.append(group := [])
        group.append(label)
        group_of |= dict.fromkeys(keys, group)
    return [labels for labels in groups if len(labels) > 1]


def label_note(lines: Lines, column: str, named: Sequence[str]) -> str | None:
    """A note on labels that may be measurements or classes; None: none."""
    if named or len(lines) <= _FEW or not all(label.isascii() and label.isdigit() for label in lines):
        return None
    values = sorted(map(int, lines))
    num_small = sum(len({patient for patient, _ in cases}) < _FEW_PATIENTS for cases in lines.values())
    if values[0] < _NO_GRADE or 2 * num_small <= len(lines) or _no_classes(lines, column):
        return None
    return (
        f"column {column!r}: {len(lines)} different whole numbers from {values[0]} to {values[-1]}, most of them of "
        f"fewer than {_FEW_PATIENTS} patients: they look like measurements, such as ages, and each is a class of its "
        "own; if they are grades, name them in data.labels"
    )


def _describe_spellings(labels: Sequence[str], lines: Lines, column: str) -> str:
    look_alike = len({" ".join(normalize("NFKC", in_latin(label)).split()) for label in labels}) < len(labels)
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
    """The message that cells hold several labels each.

    A comma, plus or ampersand counts where each part is a label, or where one stands first in a cell and later in
    another; a decimal comma does not.
    """
    keys = Counter(spelling_key(label) for label in lines)
    lists = {label: _parts(label) for label in lines if not _NUMBER.fullmatch(label)}
    lists = {label: parts for label, parts in lists.items() if len(parts) > 1 and all(parts)}
    firsts = {parts[0] for parts in lists.values()}
    shared = firsts & {part for parts in lists.values() for part in parts[1:]}

    def is_multiple(label: str) -> bool:
        if re.search(r"[^;|]\s*[;|]\s*[^;|\s]", label) or (_LIST.fullmatch(label) and re.search("[,;|]", label)):
            return True
        if _NUMBER.fullmatch(label) and keys[spelling_key(label)] > 1:
            return False
        parts = [part.strip() for part in re.split(r"[,+&/]", label)]
        if len(parts) > 1 and all(part in lines for part in parts):
            return True
        return not shared.isdisjoint(lists.get(label, ()))

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


def _parts(label: str) -> list[str]:
    return [part.strip() for part in re.split(r"[,+&]", label)]


def _no_classes(lines: Lines, column: str) -> str | None:
    """The message that the labels are measurements, or names; None: they may be classes."""
    matches = [_NUMBER.fullmatch(label) for label in lines]
    fractions = [match[1] for match in matches if match is not None and match[1] and match[1].strip("0")]
    patients = {patient for cases in lines.values() for patient, _ in cases}
    num_single = sum(len({patient for patient, _ in cases}) == 1 for cases in lines.values())
    is_spread = len(lines) > _FEW and 2 * num_single > len(lines)
    are_numbers = all(match is not None for match in matches)
    num_decimals = sum(len(fraction.rstrip("0")) - 1 for fraction in fractions)
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
