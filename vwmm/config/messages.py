"""Turns pydantic's errors into messages with place, key, expected and found."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from vwmm.config.schema import DEFAULT_MODALITIES, Config
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem, printable

Key = tuple[str, ...]


class Place(NamedTuple):
    """Where a key was given."""

    where: str
    """The file, or the argument."""
    line: int | None = None
    """Line of the file."""

    @property
    def text(self) -> str:
        """`my.yaml line 3`."""
        return f"{self.where} line {self.line}" if self.line else self.where

    def problem(self, found: str, key: str = "") -> Problem:
        """A problem of a key that was given here."""
        return Problem(found, "configuration", self.line, where=self.where, key=key)


Origins = Mapping[str, Place]
"""Where each dotted key was given; under "" the place of those that stand nowhere."""


def key_of(location: tuple[int | str, ...], root: Any = Config) -> Key:
    """The dotted key of a pydantic error, without the list indices and union branches that follow it.

    root: the record that was read.
    """
    key: list[str] = []
    node: Any = root
    for part in location:
        if not _has_keys(node) or part == "[key]":
            break
        key.append(str(part))
        node = _below(node, str(part))
    return tuple(key)


def is_rule(detail: Any) -> bool:
    """Whether an error is about how the keys of a section go together, not about one value."""
    return isinstance(detail.get("ctx", {}).get("error"), UserError)


def explain(key: Key, details: list[Any], origins: Origins, root: Any = Config) -> list[Problem]:
    """The problems of one key."""
    detail = details[0]
    if is_rule(detail):
        keys = [(*key, *problem.key.split(".")) for problem in detail["ctx"]["error"].problems]
        return [
            origin_of(own, origins).problem(problem.found, ".".join(own))
            for own, problem in zip(keys, detail["ctx"]["error"].problems, strict=True)
        ]
    dotted, place = ".".join(key), origin_of(key, origins)
    if detail["type"] == "extra_forbidden":
        return [place.problem(f"no such key{nearest_key(key, root)}", dotted)]
    if detail["type"] == "missing":
        return [place.problem(f"this key is required{nearest_key(key[:-1], root)}", dotted)]
    if "[key]" in detail["loc"]:
        return [place.problem(_message(detail) if detail["type"] == "value_error" else _NAME, dotted)]
    first, *others = dict.fromkeys(_expectation(detail) for detail in details)
    expected = " or ".join([first, *(other.removeprefix("expected ") for other in others)])
    return [place.problem(f"{expected}, found {shorten(detail['input'])}", dotted)]


def origin_of(key: Key, origins: Origins) -> Place:
    """The file and line, or the argument, that gave a key or the section around it."""
    if key[:1] == ("augment",) and ".".join(key) not in origins and len(key) > 1:
        of_all = ("augment", "all", *key[2:])
        key = of_all if ".".join(of_all) in origins else key
    depth = next((n for n in range(len(key), 0, -1) if ".".join(key[:n]) in origins), 0)
    return origins[".".join(key[:depth])] if depth else origins.get("", Place("configuration"))


def nearest_key(key: Key, root: Any = Config) -> str:
    """A hint at the key that was probably meant: beside this one, else the same word in another section."""
    node: Any = root
    for part in key[:-1]:
        node = _below(node, part) if _has_keys(node) else None
    if node is None or not key:
        return ""
    names = list(DEFAULT_MODALITIES) if get_origin(node) is dict else list(node.model_fields)
    close = difflib.get_close_matches(key[-1], names, n=1, cutoff=0.6)
    if close and close[0] != key[-1]:
        return f"; did you mean {'.'.join([*key[:-1], close[0]])}?"
    everywhere = {dotted.rpartition(".")[2]: dotted for dotted in all_keys(root)}
    for word in difflib.get_close_matches(key[-1], list(everywhere), n=1, cutoff=0.7):
        return f"; did you mean {everywhere[word]}?"
    return "" if get_origin(node) is dict else f"; the keys here are {', '.join(names)}"


def all_keys(node: Any = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the configuration; a modality's name is written NAME."""
    keys: list[str] = []
    for name, known in node.model_fields.items():
        keys.append(prefix + name)
        below = known.annotation
        if get_origin(below) is dict:
            keys += all_keys(get_args(below)[1], f"{prefix}{name}.NAME.")
        elif _has_keys(below):
            keys += all_keys(below, f"{prefix}{name}.")
    return keys


def shorten(value: Any, limit: int = 60) -> str:
    """A value as it is shown in a message."""
    text = value if isinstance(value, str) else repr(value)
    text = "nothing" if value is None or text == "" else text
    text = str(value).lower() if isinstance(value, bool) else text
    text = printable(text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


_NAME = "expected a name of letters, digits, '_' and '-', beginning with a letter or digit"
_IN_WORDS = (
    (r"^Value error, ", ""),
    (r"^Input should be ", "expected "),
    (r", (unable to parse|got a number with).*", ""),
    (r"expected (greater|less)", r"expected a number \1"),
    (r"a valid dictionary or instance of", "a section with the keys of"),
    (r"a valid dictionary", "a section"),
    (r"^(List|Dictionary|String) should have", "expected"),
    (r" after validation", ""),
    (r", not \d+$", ""),
    (r"^Keys should be strings", "expected a text as the key"),
    (r"a valid string", "a text"),
    (r"^Unable to parse input string as an integer.*", "expected a valid integer"),
    (r"^String should match pattern '\^\[A-Za-z.*", _NAME),
    (r"^String should match pattern.*", "expected a path"),
)


def _message(detail: Any) -> str:
    return str(detail["msg"]).removeprefix("Value error, ")


def _expectation(detail: Any) -> str:
    message = str(detail["msg"])
    for pattern, words in _IN_WORDS:
        message = re.sub(pattern, words, message)
    return message


def _below(node: Any, part: str) -> Any:
    """What stands at key `part` of a record, or of a mapping of records."""
    if get_origin(node) is dict:
        return get_args(node)[1]
    known = node.model_fields.get(part)
    return known.annotation if known else None


def _has_keys(node: Any) -> bool:
    return get_origin(node) is dict or (isinstance(node, type) and issubclass(node, BaseModel))
