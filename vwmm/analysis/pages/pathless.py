"""Configuration and command line without paths, which may name a patient."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vwmm.config.loading import PATH_KEYS

HIDDEN = "..."
# Absolute paths of Linux, macOS and Windows, a home folder, and addresses.
_PATH = re.compile(r"^\s*(/|~|\\\\|[A-Za-z]:[\\/])|://")
# Files with names that a page shows anyway; other paths are hidden, name included.
_FILE_KEYS = ("data.csv", "split.file")
_FILE_OPTIONS = ("--config", "--launch", "--space")
_PLAIN_OPTIONS = ("--workers", "--timeout-s", "--trials", "--startup", "--prune")


def is_path_text(text: str) -> bool:
    """Whether a text is an absolute path or an address."""
    return _PATH.search(text) is not None


def shown_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what holds a path: `PATH_KEYS`, folders, and any other absolute path or address."""
    return {
        str(section): _without_paths(content, (str(section),)) for section, content in config.items()
        if not _is_path((str(section),), content)
    }  # fmt: skip


def shown_command(command: str, arguments: Iterable[str]) -> str:
    """`vwmm train --config my.yaml train.epochs=5`: files by their names alone, other paths as `...`.

    arguments: the words after the command, each as the program received it.
    """
    shown, option = ["vwmm", command], ""
    for word in arguments:
        name, equals, value = word.partition("=")
        if option:
            shown.append(_shown_option(option, word))
            option = ""
        elif name.startswith("-"):
            shown.append(f"{name}={_shown_option(name, value)}" if equals else name)
            option = name if not equals and name in (*_FILE_OPTIONS, *_PLAIN_OPTIONS, "--out", "--json") else ""
        elif equals and "/" not in name:
            shown.append(f"{name}={_shown_value(name, value)}")
        else:
            shown.append(_name_of(word))
    return " ".join(word if word.endswith(HIDDEN) else shlex.quote(word) for word in shown)


def _shown_option(name: str, value: str) -> str:
    if name in _FILE_OPTIONS:
        return _name_of(value)
    return value if name in _PLAIN_OPTIONS else HIDDEN


def _shown_value(key: str, value: str) -> str:
    if key in _FILE_KEYS:
        return _name_of(value)
    try:
        content = yaml.safe_load(value)
    except yaml.YAMLError:
        return HIDDEN
    parts = tuple(key.split("."))
    is_shown = not (_is_path(parts, content) or _without_paths(content, parts) != content or re.search(r"[/\\]", value))
    return value if is_shown else HIDDEN


def _name_of(path: str) -> str:
    """The last part of a path of any system."""
    return Path(path.replace("\\", "/")).name or HIDDEN


def _without_paths(node: Any, key: tuple[str, ...]) -> Any:
    if isinstance(node, Mapping):
        items = [(str(name), value) for name, value in node.items() if not _is_path((*key, str(name)), value)]
        return {name: _without_paths(value, (*key, name)) for name, value in items}
    return node


def _is_path(key: tuple[str, ...], value: Any) -> bool:
    named = ".".join(key) in PATH_KEYS or (key[0] == "modalities" and key[-1] == "folder")
    return named or (isinstance(value, str) and is_path_text(value))
