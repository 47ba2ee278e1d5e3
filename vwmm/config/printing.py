"""Writes the configuration as commented YAML and as JSON schema."""

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from vwmm.config.schema import Config

DEFAULT_HEADER = """\
# yaml-language-server: $schema=schema.json
# The full configuration: every key, with its default and what it means. Made by `python -m vwmm.config.printing`.
#   vwmm train --config configs/default.yaml data.csv=cohort.csv

"""


def to_yaml(config: Config, *, comments: bool = True) -> str:
    """The configuration as YAML that reads back to the same values; each key below the line that explains it."""
    return "\n".join(_record_lines(config, 0, comments)).strip() + "\n"


def json_schema() -> str:
    """The JSON schema of the YAML files, for editors that complete and check while typing."""
    schema = Config.model_json_schema()
    # What is left out of a known modality takes its defaults, and null takes a modality away; a class may be a number.
    modality, modalities = schema["$defs"]["Modality"], schema["properties"]["modalities"]
    del modality["required"]
    (name,) = modalities["patternProperties"]
    modalities["patternProperties"][name] = {"anyOf": [{"$ref": "#/$defs/Modality"}, {"type": "null"}]}
    modalities["additionalProperties"] = False
    schema["$defs"]["Data"]["properties"]["labels"]["anyOf"][0]["items"]["type"] = ["string", "number"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "vwmm configuration"
    return json.dumps(schema, indent=2) + "\n"


def _record_lines(record: BaseModel, depth: int, comments: bool) -> list[str]:
    lines: list[str] = []
    for name, known in type(record).model_fields.items():
        value = getattr(record, name)
        if comments and known.description:
            width = max(60, 110 - 2 * depth)
            lines += (
                ["", *_indented([f"# {line}" for line in textwrap.wrap(known.description, width)], depth)]
                if depth == 0
                else _indented([f"# {line}" for line in textwrap.wrap(known.description, width)], depth)
            )
        lines += _entry_lines(name, value, depth, comments)
    return lines


def _entry_lines(name: str, value: Any, depth: int, comments: bool) -> list[str]:
    if isinstance(value, BaseModel):
        return [*_indented([f"{_scalar(name)}:"], depth), *_record_lines(value, depth + 1, comments)]
    if isinstance(value, dict):
        lines = _indented([f"{_scalar(name)}:"], depth)
        for number, (key, item) in enumerate(value.items()):
            lines += _entry_lines(key, item, depth + 1, comments and number == 0)
        return lines
    return _indented([f"{_scalar(name)}: {_scalar(value)}"], depth)


def _indented(lines: list[str], depth: int) -> list[str]:
    return ["  " * depth + line for line in lines]


def _scalar(value: Any) -> str:
    """One value in YAML's flow style, on one line; floats keep every digit and read back as floats."""
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    # As the only item of a list, so that a text with a comma or a bracket gets its quotes.
    is_plain = not isinstance(value, str) or value.isprintable()
    style = None if is_plain else '"'  # with escapes
    text = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=is_plain, width=10**6)
    return text.strip()[1:-1]


def write_shipped(folder: Path) -> None:
    """Writes default.yaml and schema.json, which are made from the schema."""
    (folder / "default.yaml").write_text(DEFAULT_HEADER + to_yaml(Config()), encoding="utf-8")
    (folder / "schema.json").write_text(json_schema(), encoding="utf-8")


if __name__ == "__main__":
    write_shipped(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "configs")
