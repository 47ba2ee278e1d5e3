"""From YAML files and KEY=VALUE arguments to one checked `Config`.

The order is: defaults of the schema, each file, each argument. Whatever is wrong is collected and said at once, with
the file and line or the argument that it came from.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vwmm.config.errors import UserError
from vwmm.config.schema import DEFAULT_MODALITIES, Config

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# Where configs/ and launch/ are: the checkout, or what an installation puts beside Python.
SHIPPED_FOLDERS = (PROJECT_ROOT, Path(sys.prefix).resolve() / "share" / "vwmm")
DEMO_CONFIG = "configs/demo.yaml"
MAX_CONFIG_BYTES = 1_000_000
# Keys that hold a path; made absolute when the configuration is resolved, and never sent to a tracker.
PATH_KEYS = ("data.csv", "data.root", "split.file", "cache.dir", "run.dir")


class _YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader; 2026-01-31 stays text."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass
class ConfigReading:
    """What came out of reading a configuration."""

    config: Config | None
    """The configuration; with problems, what remains of it without the wrong keys, or None."""
    problems: list[str] = field(default_factory=list)
    """What is wrong, one line each."""
    wrong_keys: list[str] = field(default_factory=list)
    """The dotted keys that the problems are about."""


def load_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> Config:
    """The configuration of `files` and KEY=VALUE `overrides`; raises UserError with every problem found."""
    reading = read_config(files, overrides)
    if reading.problems:
        raise UserError(reading.problems)
    assert reading.config is not None
    return reading.config


def read_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> ConfigReading:
    """Like `load_config`, but returns the problems, with as much of the configuration as makes sense without them."""
    reading = ConfigReading(None)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file in files:
        _merge_file(file, merged, origins, reading)
    named_in_files = isinstance(merged.get("modalities"), dict)
    for argument in overrides:
        _merge_argument(argument, merged, origins, reading)
    _add_default_modalities(merged, named_in_files=named_in_files)
    reading.config = _validate(merged, origins, reading)
    if reading.config is not None:
        reading.config = _resolve(reading.config, files)
    return reading


def find_shipped(path: str | Path) -> Path | None:
    """The file at `path`, seen from the working directory, else the one of this name that comes with vwmm."""
    for folder in (Path(), *SHIPPED_FOLDERS):
        if (folder / Path(path).expanduser()).is_file():
            return folder / Path(path).expanduser()
    return None


def uses_shipped(files: Sequence[str | Path], shipped: str) -> bool:
    """Whether one of the files is the one of this name that comes with vwmm."""
    found = [find_shipped(file) for file in files]
    return any(file.resolve() == folder / shipped for file in found if file is not None for folder in SHIPPED_FOLDERS)


def _merge_file(file: str | Path, merged: dict[str, Any], origins: dict[str, str], reading: ConfigReading) -> None:
    found = find_shipped(file)
    if found is None:
        reading.problems.append(f"--config {file}: file not found (looked in {Path.cwd()} and among vwmm's own)")
        return
    try:
        if found.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES:,} bytes: this is no configuration")
        text = found.read_text(encoding="utf-8-sig")
        root = yaml.compose(text, Loader=_YamlLoader)
        content = yaml.load(text, Loader=_YamlLoader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        reading.problems.append(f"{file} line {line}: not valid YAML: {error.problem}")
        return
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        reading.problems.append(f"{file}: cannot be read as YAML: {error}")
        return
    if content is None:
        return
    if not isinstance(content, dict):
        reading.problems.append(f"{file}: expected sections such as `train:`, found {_short(content)}")
        return
    _note_lines(root, str(file), "", origins, reading, set())
    _deep_merge(merged, content)


def _note_lines(
    node: Any, file: str, prefix: str, origins: dict[str, str], reading: ConfigReading, seen: set[int]
) -> None:
    """Records the line of each key, and each key that stands twice in one mapping."""
    if not isinstance(node, yaml.MappingNode) or id(node) in seen:
        return
    seen.add(id(node))
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in lines:
            reading.problems.append(f"{file} line {line}: {prefix}{key}: already given in line {lines[key]}")
        lines[key] = line
        origins[prefix + key] = f"{file} line {line}"
        _note_lines(value_node, file, f"{prefix}{key}.", origins, reading, seen)


def _merge_argument(argument: str, merged: dict[str, Any], origins: dict[str, str], reading: ConfigReading) -> None:
    key, equals, text = argument.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        reading.problems.append(f"argument {argument}: expected KEY=VALUE with a dotted key, such as train.epochs=5")
        return
    try:
        value = yaml.load(text, Loader=_YamlLoader)  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError:
        reading.problems.append(f"argument {argument}: the value is not valid YAML (quote special characters)")
        return
    except RecursionError:
        reading.problems.append(f"argument {_short(argument)}: the value is nested too deeply")
        return
    change: dict[str, Any] = {parts[-1]: value}
    for part in reversed(parts[:-1]):
        change = {part: change}
    _deep_merge(merged, change)
    for depth in range(1, len(parts) + 1):
        origins[".".join(parts[:depth])] = f"argument {_short(argument, 100)}"


def _deep_merge(target: dict[str, Any], change: Mapping[Any, Any]) -> None:
    """Mappings are merged key by key; everything else is replaced."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merged = dict(target[key])
            _deep_merge(merged, value)
            target[key] = merged
        else:
            target[key] = value


def _add_default_modalities(merged: dict[str, Any], *, named_in_files: bool) -> None:
    """The three default modalities, unless the files name their own; fields left out of a known one take its defaults.

    `modalities.NAME=null` takes one away.
    """
    named = merged.get("modalities", {})
    if not isinstance(named, dict):
        return
    names = list(named) if named_in_files else [*DEFAULT_MODALITIES, *(n for n in named if n not in DEFAULT_MODALITIES)]
    complete: dict[Any, Any] = {}
    for name in names:
        fields = named.get(name, {})
        if isinstance(fields, dict):
            complete[name] = {**DEFAULT_MODALITIES.get(name, {}), **fields}
        elif fields is not None:
            complete[name] = fields
    merged["modalities"] = complete


def _validate(merged: dict[str, Any], origins: Mapping[str, str], reading: ConfigReading) -> Config | None:
    """Validates; on errors notes them and tries again without the wrong keys, so that what they hid is found as well."""
    while True:
        try:
            return Config.model_validate(merged)
        except ValidationError as error:
            grouped: dict[tuple[str, ...], list[Any]] = {}
            for detail in error.errors(include_url=False):
                grouped.setdefault(_key_of(detail["loc"]), []).append(detail)
        for key, details in grouped.items():
            reading.problems.append(_explain(key, details, origins))
            reading.wrong_keys.append(".".join(key))
        if not any([_drop(merged, key) or _drop(merged, key[:-1]) for key in grouped]):
            return None


def _below(node: Any, part: str) -> Any:
    """What stands at key `part` of a record, or of a mapping of records."""
    if get_origin(node) is dict:
        return get_args(node)[1]
    known = node.model_fields.get(part)
    return known.annotation if known else None


def _has_keys(node: Any) -> bool:
    return get_origin(node) is dict or (isinstance(node, type) and issubclass(node, BaseModel))


def _key_of(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The dotted key of a pydantic error, without the list indices and union branches that follow it."""
    key: list[str] = []
    node: Any = Config
    for part in location:
        if not _has_keys(node) or part == "[key]":
            break
        key.append(str(part))
        node = _below(node, str(part))
    return tuple(key)


def _explain(key: tuple[str, ...], details: list[Any], origins: Mapping[str, str]) -> str:
    """One problem as a line: where it stands, the key, what was expected, what was found, the nearest valid key."""
    message = str(details[0]["msg"]).removeprefix("Value error, ")
    if not key and ": " in message:  # a rule between sections says itself which key it is about
        named, _, message = message.partition(": ")
        return f"{_origin(tuple(named.split('.')), origins)}: {named}: {message}"
    if details[0]["type"] == "value_error" and isinstance(details[0]["input"], dict):
        # A rule of a section begins with the name of the key that it is about.
        key = (*key, message.split()[0].split("=")[0].rstrip(":"))
        return f"{_origin(key, origins)}: {'.'.join(key)}: {message}"
    dotted = ".".join(key)
    origin = _origin(key, origins)
    kind = details[0]["type"]
    if kind == "extra_forbidden":
        return f"{origin}: {dotted}: no such key{_nearest(key)}"
    if kind == "missing":
        return f"{origin}: {dotted}: this key is required{_nearest(key[:-1])}"
    if "[key]" in details[0]["loc"]:
        return f"{origin}: {dotted}: expected a name of letters, digits, '_', '-' and '.', not starting with these"
    expected = " or ".join(dict.fromkeys(_expectation(detail) for detail in details))
    return f"{origin}: {dotted}: {expected}, found {_short(details[0]['input'])}"


def _origin(key: tuple[str, ...], origins: Mapping[str, str]) -> str:
    """The file and line, or the argument, that gave a key or the section around it."""
    depth = next((n for n in range(len(key), 0, -1) if ".".join(key[:n]) in origins), 0)
    return origins[".".join(key[:depth])] if depth else "configuration"


def _expectation(detail: Any) -> str:
    message: str = detail["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
    message = message.replace(", unable to parse string as an integer", "").replace(
        ", unable to parse string as a number", ""
    )
    message = re.sub(r"expected (greater|less)", r"expected a number \1", message)
    message = message.replace("a valid dictionary or instance of", "a section with the keys of")
    if detail["type"] == "string_pattern_mismatch":
        message = "expected a name of letters, digits, '_', '-' and '.'"
    return message.replace("List should have", "expected").replace(" after validation, not", ", not")


def _nearest(key: tuple[str, ...]) -> str:
    """A hint at the key that was probably meant: beside this one, else the same word in another section."""
    node: Any = Config
    for part in key[:-1]:
        node = _below(node, part) if _has_keys(node) else None
    if node is None or not key:
        return ""
    names = list(DEFAULT_MODALITIES) if get_origin(node) is dict else list(node.model_fields)
    close = difflib.get_close_matches(key[-1], names, n=1, cutoff=0.6)
    if close and close[0] != key[-1]:
        return f"; did you mean {'.'.join([*key[:-1], close[0]])}?"
    everywhere = {dotted.rpartition(".")[2]: dotted for dotted in all_keys()}
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


def _drop(merged: dict[str, Any], key: tuple[str, ...]) -> bool:
    """Takes a wrong key out, a whole section where the mistake is the section's; returns whether it was there."""
    node: Any = merged
    for part in key[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    wrong = [name for name in node if str(name) == key[-1]] if isinstance(node, dict) and key else []
    for name in wrong:
        del node[name]
    return bool(wrong)


def _short(value: Any, limit: int = 60) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "nothing" if value is None else text
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _resolve(config: Config, files: Sequence[str | Path]) -> Config:
    """Paths made absolute, so that a run can be repeated from anywhere, and the run given its name."""
    changes: dict[str, dict[str, Any]] = {}
    for dotted in PATH_KEYS:
        section, name = dotted.split(".")
        path = getattr(getattr(config, section), name)
        if path is not None:
            changes.setdefault(section, {})[name] = os.path.abspath(os.path.expanduser(path))
    if config.run.name is None:
        stem = Path(files[-1]).stem if files else "run"
        changes.setdefault("run", {})["name"] = re.sub(r"[^A-Za-z0-9_.-]", "_", stem).lstrip("_.-") or "run"
    sections = {section: getattr(config, section).model_copy(update=update) for section, update in changes.items()}
    return config.model_copy(update=sections)
