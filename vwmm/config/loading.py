"""From YAML files and KEY=VALUE arguments to one validated `Config`.

The order is: defaults of the schema, each file, each argument. All errors are collected and reported together, with
the file and line or the argument that it came from.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vwmm.config.messages import Key, Origins, Place, explain, is_rule, key_of, shorten
from vwmm.config.presets import cut_to_dims, with_preset
from vwmm.config.record import MAX_NAME
from vwmm.config.schema import DEFAULT_MODALITIES, Config
from vwmm.config.strict_yaml import Parsed, describe_yaml_error, parse_yaml
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# Where configs/ and launch/ are: the checkout, or what an installation puts beside Python.
SHIPPED_FOLDERS = (PROJECT_ROOT, Path(sys.prefix).resolve() / "share" / "vwmm")
DEMO_CONFIG = "configs/demo.yaml"
_AUGMENT_LAYERS = "\0augment"  # no key of a file can be this one
MAX_CONFIG_BYTES = 100_000
# Keys that hold a path; made absolute when the configuration is resolved, and never sent to a tracker.
PATH_KEYS = ("data.csv", "data.root", "split.file", "cache.dir", "run.dir")


@dataclass
class ConfigReading:
    """The result of reading a configuration."""

    config: Config | None
    """The configuration; with problems, what remains of it without the wrong keys, or None."""
    problems: list[Problem] = field(default_factory=list)
    """The errors."""
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
    origins: dict[str, Place] = {}
    for file in files:
        _merge_file(file, merged, origins, reading)
    named_in_files = isinstance(merged.get("modalities"), dict)
    for argument in overrides:
        _merge_argument(argument, merged, origins, reading)
    _add_default_modalities(merged, named_in_files=named_in_files)
    _spread_augmentation(merged)
    reading.config = _validate(merged, origins, reading)
    if reading.config is not None:
        reading.config = _resolve(reading.config, files)
    return reading


def find_shipped(path: str | Path) -> Path | None:
    """The file at `path`, seen from the working directory, else the one of this name that comes with vwmm."""
    for folder in (Path(), *SHIPPED_FOLDERS):
        found = folder / os.path.expanduser(path)
        if os.path.isfile(found):  # unlike Path.is_file it returns False for a name that is too long
            return found
    return None


def not_found(option: str, file: str | Path) -> Problem:
    """The problem of a file that is neither here nor among vwmm's own, with the one that was meant, perhaps."""
    shipped = {path.name: f"{path.parent.name}/{path.name}" for folder in SHIPPED_FOLDERS
               for kind in ("configs", "launch") for path in sorted((folder / kind).glob("*.yaml"))}  # fmt: skip
    here = {path.name: str(path) for path in sorted(Path().glob("*.y*ml"))}
    close = difflib.get_close_matches(os.path.basename(str(file)), list(shipped | here), n=1, cutoff=0.7)
    hint = f"; did you mean {option} {(shipped | here)[close[0]]}?" if close else ""
    found = f"file not found (looked in {Path.cwd()} and among vwmm's own){hint}"
    return Problem(found, where=f"{option} {file}")


def uses_shipped(files: Sequence[str | Path], shipped: str) -> bool:
    """Whether one of the files is the one of this name that comes with vwmm."""
    found = [find_shipped(file) for file in files]
    return any(file.resolve() == folder / shipped for file in found if file is not None for folder in SHIPPED_FOLDERS)


def _merge_file(file: str | Path, merged: dict[str, Any], origins: dict[str, Place], reading: ConfigReading) -> None:
    parsed, problems = parse_file(file, "--config", "sections such as `train:`")
    reading.problems += problems
    if parsed is not None and parsed.value is not None:
        origins.update({key: Place(str(file), line) for key, line in parsed.lines.items()})
        _merge_layer(merged, parsed.value)


def parse_file(file: str | Path, option: str, expected: str) -> tuple[Parsed | None, list[Problem]]:
    """The mapping that a YAML file holds, or nothing, and what is wrong with it; option: what named the file."""
    try:
        found = find_shipped(file)
        if found is None:
            return None, [not_found(option, file)]
        if found.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES:,} bytes: this is no configuration")
        parsed = parse_yaml(found.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, RecursionError) as error:
        line, text = describe_yaml_error(error)
        return None, [Place(str(file), line).problem(f"not valid YAML: {text}")]
    except UnicodeDecodeError:
        return None, [Place(str(file)).problem("cannot be read: this is not UTF-8 text")]
    except (ValueError, OSError) as error:
        return None, [Place(str(file)).problem(f"cannot be read: {getattr(error, 'strerror', None) or error}")]
    if parsed.value is not None and not isinstance(parsed.value, dict):
        return None, [Place(str(file)).problem(f"expected {expected}, found {shorten(parsed.value)}")]
    return parsed, [
        Place(str(file), last).problem(f"already given in line {first}", key)
        for key, (first, last) in parsed.repeated.items()
    ]


def _merge_argument(argument: str, merged: dict[str, Any], origins: dict[str, Place], reading: ConfigReading) -> None:
    key, equals, text = argument.partition("=")
    parts = key.split(".")
    place = argument_place(argument)
    if not equals or not all(parts):
        reading.problems.append(place.problem("expected KEY=VALUE with a dotted key, such as train.epochs=5"))
        return
    try:
        parsed = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        _, why = describe_yaml_error(error)
        reading.problems.append(place.problem(f"the value is not valid YAML: {why}; quotes may help"))
        return
    reading.problems += [place.problem("given twice", inner) for inner in parsed.repeated]
    change: dict[str, Any] = {parts[-1]: parsed.value}
    for part in reversed(parts[:-1]):
        change = {part: change}
    _merge_layer(merged, change)
    for depth in range(1, len(parts) + 1):
        origins[".".join(parts[:depth])] = place


def argument_place(argument: str) -> Place:
    """The place of what a KEY=VALUE argument sets."""
    return Place(f"argument {shorten(argument, 100)}")


def _merge_layer(merged: dict[str, Any], layer: Mapping[Any, Any]) -> None:
    """Applies one file or argument; its `augment` keys wait until the modalities are known."""
    rest = {key: value for key, value in layer.items() if key != "augment" or not isinstance(value, dict)}
    if isinstance(named := rest.get("modalities"), dict):
        rest["modalities"] = {key: with_preset(one) if isinstance(one, dict) else one for key, one in named.items()}
    if len(rest) < len(layer):
        merged.setdefault(_AUGMENT_LAYERS, []).append(layer["augment"])
    _deep_merge(merged, rest)


def _spread_augmentation(merged: dict[str, Any]) -> None:
    """Applies each layer's `augment.all` to every modality; later layers override it."""
    layers = merged.pop(_AUGMENT_LAYERS, [])
    modalities = merged.get("modalities")
    names = list(modalities) if isinstance(modalities, dict) else []
    for layer in layers:
        for name in names:
            _deep_merge(merged, {"augment": {name: layer["all"]}} if "all" in layer else {})
        _deep_merge(merged, {"augment": {name: value for name, value in layer.items() if name != "all"}})


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
            complete[name] = cut_to_dims({**DEFAULT_MODALITIES.get(name, {}), **fields})
        elif fields is not None:
            complete[name] = fields
    merged["modalities"] = complete


def _validate(merged: dict[str, Any], origins: Origins, reading: ConfigReading) -> Config | None:
    """Validates; notes what is wrong and tries again without it, so that what it hid is found as well."""
    wrong: list[Key] = []
    while True:
        try:
            return Config.model_validate(merged)
        except ValidationError as error:
            grouped: dict[Key, list[Any]] = {}
            for detail in error.errors(include_url=False):
                grouped.setdefault(key_of(detail["loc"]), []).append(detail)
        for key, details in grouped.items():
            if is_rule(details[0]) and _was_touched(key, wrong):
                continue  # this error concerns the default that replaced the wrong value
            if details[0]["type"] == "missing" and key in wrong:
                continue  # it was there, and was taken out
            reading.problems += explain(key, details, origins)
            reading.wrong_keys.append(".".join(key))
        wrong += grouped
        if not any([_drop(merged, key) for key in grouped]):  # noqa: C419 - each is dropped
            return None


def _was_touched(section: Key, wrong: Sequence[Key]) -> bool:
    """Whether a value of a section, or of those that the rules between sections look at, was taken out before."""
    sections = [section] if section else [("model",), ("modalities",), ("train", "micro_batch_size")]
    return any(key[: len(s)] == s for key in wrong for s in sections)


def _drop(merged: dict[str, Any], key: Key) -> bool:
    """Takes a wrong key out; a required one with its section. Returns whether there was anything to take."""
    node: Any = merged
    for part in key[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    wrong = [name for name in node if str(name) == key[-1]] if isinstance(node, dict) and key else []
    for name in wrong:
        del node[name]
    if not wrong and key:
        return _drop(merged, key[:-1])
    if key and key[0] == "modalities" and not merged.get("modalities"):
        merged.pop("modalities", None)  # else the next problem would be that there is none
    return bool(wrong)


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
        changes.setdefault("run", {})["name"] = re.sub(r"[^A-Za-z0-9_.-]", "_", stem).lstrip("_.-")[:MAX_NAME] or "run"
    sections = {section: getattr(config, section).model_copy(update=update) for section, update in changes.items()}
    return config.model_copy(update=sections)
