"""File patterns such as `ct={patient}/ct/*.nii.gz`.

`{patient}` stands for a name or a part of one, `{case}` and `{session}` likewise; any other word in braces becomes a
column. `*` and `?` stay within a name, `**/` goes over any number of folders. A pattern that ends with `/` means
folders, each with one DICOM series.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vwmm.config.record import MODALITY_NAME
from vwmm.data.drafting.tree import Tree
from vwmm.system.errors import UserError

KEYS = ("patient", "case", "session")
RESERVED = ("case", "patient", "label", "split", "fold", "site", "filename")
_TOKENS = re.compile(r"\{(?P<word>[^{}]*)\}|(?P<deep>\*\*/)|(?P<star>\*+)|(?P<one>\?)|(?P<text>[^{*?]+|.)", re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """Where one modality's images are."""

    modality: str
    """The column that they go into."""
    text: str
    """As it was given."""
    regex: "re.Pattern[str]"
    """The same for relative paths; the groups are the words in braces."""

    @property
    def is_folder(self) -> bool:
        """Whether it means folders."""
        return self.text.endswith("/")


@dataclass(frozen=True)
class Found:
    """An image that belongs into a cell of the table."""

    modality: str
    """The column."""
    path: str
    """Relative to the tree's root."""
    words: Mapping[str, str]
    """What stands for `patient`, `session`, ... and further columns."""


def parse_named(option: str, values: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(modality, rest) of each `MODALITY=REST`, and what is wrong with the others."""
    parsed, problems = [], []
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not rest or not re.fullmatch(MODALITY_NAME, name):
            problems.append(
                f"{option} {value}: expected MODALITY=..., the modality a word of letters, digits, '_', '-'"
            )
        elif name in RESERVED:
            problems.append(f"{option} {value}: {name!r} is a column of its own; choose another name of the modality")
        else:
            parsed.append((name, rest))
    return parsed, problems


def parse_patterns(values: Sequence[str]) -> list[Pattern]:
    """The patterns of a command line. Raises UserError with every one that is wrong."""
    parsed, problems = parse_named("--pattern", values)
    patterns = []
    for modality, text in parsed:
        words = re.findall(r"\{([^{}]*)\}", text)
        if wrong := [word for word in words if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word)]:
            problems.append(f"--pattern {modality}={text}: {{{wrong[0]}}}: expected a word in the braces")
        elif re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", text)):
            problems.append(f"--pattern {modality}={text}: a brace without its other; write ? for a brace in a name")
        elif not {"patient", "case"} & set(words):
            problems.append(f"--pattern {modality}={text}: needs {{patient}} or {{case}} where their name stands")
        elif text.startswith("/") or ".." in text.split("/"):
            problems.append(f"--pattern {modality}={text}: expected a path below DIR, relative to it")
        else:
            patterns.append(Pattern(modality, text, compile_pattern(text)))
    columns = {word for pattern in patterns for word in pattern.regex.groupindex}
    problems += [f"--pattern: {{{name}}} and a modality have one name" for name, _ in parsed if name in columns]
    if problems:
        raise UserError(problems)
    return patterns


def match_tree(tree: Tree, patterns: Sequence[Pattern]) -> tuple[list[Found], list[str]]:
    """The images that each pattern means, and the patterns that mean none."""
    found, problems = [], []
    for pattern in patterns:
        places = tree.folders if pattern.is_folder else tree.files
        matches = [(place, match) for place in places if (match := pattern.regex.fullmatch(place))]
        found += [Found(pattern.modality, place, match.groupdict()) for place, match in matches]
        if not matches:
            kind = "folder" if pattern.is_folder else "file"
            such = f"; there are {', '.join(places[:3])}, ..." if places else ""
            problems.append(f"--pattern {pattern.modality}={pattern.text}: no {kind} is named so in {tree.root}{such}")
    return found, problems


def compile_pattern(text: str) -> "re.Pattern[str]":
    """The regular expression of a pattern, for whole relative paths."""
    parts, seen = [], set[str]()
    for token in _TOKENS.finditer(text.rstrip("/")):
        if (word := token["word"]) is not None:
            parts.append(f"(?P={word})" if word in seen else f"(?P<{word}>[^/]+)")
            seen.add(word)
        elif token["deep"]:
            parts.append("(?:.*/)?")
        elif token["star"]:
            parts.append("[^/]*")
        else:
            parts.append("[^/]" if token["one"] else re.escape(token["text"]))
    return re.compile("".join(parts), re.DOTALL)
