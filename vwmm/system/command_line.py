"""Parses --config files, KEY=VALUE arguments, options and words."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.system.errors import UserError


@dataclass
class CommandLine:
    """A command line, taken apart."""

    files: list[str] = field(default_factory=list)
    """The `--config` files, in order."""
    overrides: list[str] = field(default_factory=list)
    """The KEY=VALUE arguments, in order."""
    options: dict[str, str] = field(default_factory=dict)
    """Options with a value, by name; a flag's value is empty."""
    lists: dict[str, list[str]] = field(default_factory=dict)
    """The values of options that may be given several times, by name, in order."""
    words: list[str] = field(default_factory=list)
    """What remains, such as a run and a cohort."""

    def passed_on(self, files: Sequence[str]) -> list[str]:
        """The arguments for another command that reads these files instead of `files`."""
        return [word for file in files for word in ("--config", file)] + self.overrides


def parse_command_line(
    arguments: Sequence[str],
    *,
    options: Sequence[str] = (),
    repeated: Sequence[str] = (),
    flags: Sequence[str] = (),
    words: Sequence[str] = (),
    optional: Sequence[str] = (),
    configs: Sequence[str] = ("--config",),
) -> CommandLine:
    """Takes the arguments apart. options: those with a value; repeated: those that may be given several times; flags:
    without a value; words, optional: names of the words that must, and of those that may, be there; configs: empty for
    a command without a configuration.

    A path with "=" in it is not mistaken for a KEY=VALUE as long as it has a "/" before the "=". Raises UserError with
    everything that does not belong there. `--help` needs no words.
    """
    line, problems = CommandLine(), list[str]()
    rest, with_value = list(arguments), [*configs, *options, *repeated]
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if name in with_value:
            if not equals and rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            problems += _take_option(line, name, value, is_repeated=name in repeated)
        elif argument in ("-h", "--help", *flags):
            line.options["--help" if argument == "-h" else argument] = ""
        elif argument.startswith("-"):
            known = ", ".join([*with_value, *flags, "--help"])
            problems.append(f"argument {argument}: no such option; known are {known}")
        elif equals and "/" not in name:
            line.overrides.append(argument)
        else:
            line.words.append(argument)
    if "--help" in line.options:
        return line
    problems += [
        f"argument {word}: expected KEY=VALUE{_what_was_meant(word, configs, options)}"
        for word in line.words[len(words) + len(optional) :]
    ]
    if len(line.words) < len(words):
        problems.append(f"missing: {' '.join(words[len(line.words) :])}")
    if problems:
        raise UserError(problems)
    return line


def _take_option(line: CommandLine, name: str, value: str, *, is_repeated: bool) -> list[str]:
    """Adds the value of an option to the line; what is wrong with it."""
    if not value:
        return [f"argument {name}: expected a value after it"]
    if name == "--config":
        line.files.append(value)
    elif is_repeated:
        line.lists.setdefault(name, []).append(value)
    elif name in line.options:
        return [f"argument {name}: given twice"]
    else:
        line.options[name] = value
    return []


def _what_was_meant(word: str, configs: Sequence[str], options: Sequence[str]) -> str:
    """The usual slips: a table, a configuration, a launch file or a run without what goes before it."""
    path = Path(word)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return f"; for a table: data.csv={word}"
    if path.suffix.lower() in (".yaml", ".yml"):
        if "--launch" in options and "launch" in path.parts:
            return f"; for a launch file: --launch {word}"
        return f"; for a configuration: {configs[0]} {word}" if configs else ""
    if configs and os.path.isfile(path / "config.yaml"):
        return f"; to repeat a run: {configs[0]} {path / 'config.yaml'}"
    return f"; for a data set: data.root={word}" if os.path.isdir(path) else ""


def help_text(doc: str | None, options: Mapping[str, str]) -> str:
    """The command's docstring and its options, as `--help` prints them."""
    width = max(len(name) for name in options)
    return "\n".join([(doc or "").strip(), "", *(f"  {name:{width}}  {what}" for name, what in options.items())])
