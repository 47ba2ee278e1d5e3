"""Strict YAML: plain values only, no surprises of type.

PyYAML's rules would make a date of `2026-01-31`, 8 of `010`, 2.1 of `2.10`, 90 of `1:30` and false of `no`: a run's
name or a class would silently be another one. Here only null, true, false and plain whole numbers are values; the
schema turns a text into a number where it wants one, `1e-4` included.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError

# A configuration has a few hundred values. Aliases of aliases would make billions of them out of a few lines.
MAX_VALUES = 20_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without tags and with few implicit types."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML declares it

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise ComposerError(None, None, f"tags such as {event.tag!r} are not read", event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"0|-?[1-9][0-9]{0,17}", list("-0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


@dataclass
class Parsed:
    """The values of a YAML text, with their lines."""

    value: Any
    """Plain dicts, lists and values."""
    lines: dict[str, int] = field(default_factory=dict)
    """The line of each dotted key."""
    repeated: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last line of each dotted key that stands more than once in one mapping."""


def parse_yaml(text: str) -> Parsed:
    """Reads one document. Raises yaml.YAMLError, ValueError, RecursionError: see `describe_yaml_error`."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        parsed = Parsed(None)
        if root is not None:
            if _count_values(root, {}) > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES:,} values once its aliases are written out")
            _note_lines(root, "", parsed, set())
            parsed.value = loader.construct_document(root)
        return parsed
    finally:
        loader.dispose()


def describe_yaml_error(error: Exception) -> tuple[int | None, str]:
    """(line, what is wrong) of what `parse_yaml` raises, on one line."""
    if isinstance(error, RecursionError):
        return None, "nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = error.problem or ""
        return line, f"{error.context}, {problem}" if problem.startswith("but ") else problem
    return None, " ".join(str(error).split())


def _count_values(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """Values below a node, those behind an alias counted each time; `counts`: None for a node still being counted."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise ComposerError(None, None, "an anchor that contains itself", node.start_mark)
        return known
    counts[id(node)] = None
    total = 1
    if isinstance(node, yaml.MappingNode):
        total += sum(_count_values(key, counts) + _count_values(value, counts) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count_values(item, counts) for item in node.value)
    counts[id(node)] = total
    return total


def _note_lines(node: yaml.Node, prefix: str, parsed: Parsed, seen: set[int]) -> None:
    if not isinstance(node, yaml.MappingNode) or id(node) in seen:
        return
    seen.add(id(node))
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = f"{prefix}{key_node.value}", key_node.start_mark.line + 1
        if key in first:
            parsed.repeated[key] = (first[key], line)
        first.setdefault(key, line)
        parsed.lines[key] = line
        _note_lines(value_node, f"{key}.", parsed, seen)
