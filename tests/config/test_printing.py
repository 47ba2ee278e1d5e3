"""The configuration written out: YAML that reads back, the shipped files, the JSON schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from vwmm.config.loading import load_config, read_config
from vwmm.config.messages import all_keys
from vwmm.config.printing import json_schema, to_yaml, write_shipped
from vwmm.config.schema import DEFAULT_MODALITIES, Config

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
ODD_TEXTS = [
    "no", "1", "1e-4", "007", "null", "~", "true", "2026-01-31", "a,b", "x]", "{a}", "a: b", "# c", "abc...", "...",
    "---", "Schädel–MRT", "頭", "it's", 'a "b"', " a ", "\\", "a\nb", "tab\there", "*a", "&a", "!x", "%", "@",
    "|", ">", "?", "-", "=",
]  # fmt: skip


@pytest.fixture
def read_back(tmp_path: Path) -> Any:
    """Writes a configuration, reads it and returns what came back."""

    def read(config: Config, *, comments: bool = True) -> Config:
        file = tmp_path / "config.yaml"
        file.write_text(to_yaml(config, comments=comments), encoding="utf-8")
        return load_config([file])

    return read


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_that_ships_loads_and_reads_back(path: Path, read_back: Any) -> None:
    config = load_config([path])

    assert read_back(config) == config
    assert read_back(config, comments=False) == config


def test_the_shipped_default_and_schema_are_current(tmp_path: Path) -> None:
    write_shipped(tmp_path)

    for name in ("default.yaml", "schema.json"):
        assert (tmp_path / name).read_text() == (ROOT / "configs" / name).read_text(), (
            "run `python -m vwmm.config.printing`"
        )


def test_the_default_file_has_every_key_with_its_default() -> None:
    path = ROOT / "configs" / "default.yaml"
    content = yaml.safe_load(path.read_text())

    for dotted in all_keys():
        for name in DEFAULT_MODALITIES if "NAME" in dotted else [""]:
            node = content
            for part in dotted.replace("NAME", name).split("."):
                assert part in node, dotted
                node = node[part]
    ours, defaults = load_config([path]), load_config()
    assert ours.model_copy(update={"run": defaults.run}) == defaults


def test_every_key_has_a_line_that_explains_it() -> None:
    lines = [line.strip() for line in to_yaml(Config()).splitlines()]

    for dotted in all_keys():
        if dotted.startswith(("modalities.NAME.", "augment.NAME.")) or dotted in ("modalities", "augment"):
            continue
        places = [n for n, line in enumerate(lines) if line.startswith(f"{dotted.split('.')[-1]}:")]
        assert places, dotted
        assert all(lines[place - 1].startswith("#") for place in places), dotted


def test_odd_texts_read_back(read_back: Any) -> None:
    config = load_config()
    data = config.data.model_copy(update={"labels": ODD_TEXTS, "csv": "/odd/a, b: [c] # d.csv"})
    columns = config.data.columns.model_copy(update={"case": "no", "label": "1", "site": "Größe, x"})

    changed = config.model_copy(update={"data": data.model_copy(update={"columns": columns})})

    assert read_back(changed) == changed


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_text_is_one_value_on_one_line(text: str) -> None:
    config = Config.model_validate({"data": {"labels": [text, text + "x"]}})

    content = yaml.safe_load(to_yaml(config, comments=False))

    assert content["data"]["labels"] == [text, text + "x"]


@given(value=st.floats(min_value=5e-324, allow_infinity=False))
@settings(max_examples=100, deadline=None)
def test_floats_keep_every_digit(value: float) -> None:
    config = Config.model_validate({"train": {"lr": value}})

    written = yaml.safe_load(to_yaml(config, comments=False))["train"]["lr"]

    assert (type(written), written) == (float, value)


@pytest.mark.parametrize("number", [1e-05, 1e16, 1.5e-7, 100.0, 0.1 + 0.2])
def test_odd_floats_read_back_through_the_reader(number: float, read_back: Any) -> None:
    config = load_config([], [f"train.lr={number!r}", f"modalities.ct.window_hu=[{-number!r}, {number!r}]"])

    back = read_back(config)

    assert back.train.lr == number
    assert back.modalities["ct"].window_hu == [-number, number]


def test_modalities_with_odd_names_read_back(read_back: Any) -> None:
    names = ["1", "null", "no", "007", "T1-w", "e1"]
    config = load_config(
        [], ["modalities.vw_mri=null", *(f"modalities.{n}={{dims: 2, size: [64, 64]}}" for n in names)]
    )

    assert list(read_back(config).modalities) == ["mri", "ct", *names]


# --- the JSON schema -----------------------------------------------------------------------------------------------

KINDS: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """The part of JSON Schema that ours uses."""
    if "$ref" in schema:
        return is_valid(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(is_valid(value, option, root) for option in schema["anyOf"])
    kinds = schema.get("type", list(KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = any(isinstance(value, KINDS[kind]) and (kind == "boolean") == isinstance(value, bool) for kind in kinds)
    fits &= value in schema.get("enum", [value]) and value == schema.get("const", value)
    if isinstance(value, dict) and fits:
        names, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key, item in value.items():
            known = [names[key]] if key in names else [s for p, s in patterns.items() if re.search(p, key)]
            fits &= all(is_valid(item, s, root) for s in known)
            fits &= bool(known) or schema.get("additionalProperties", True) is not False
        fits &= set(schema.get("required", [])) <= set(value)
    elif isinstance(value, list):
        fits &= all(is_valid(item, schema.get("items", {}), root) for item in value)
        fits &= schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    elif isinstance(value, str):
        fits &= re.search(schema.get("pattern", ""), value) is not None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        fits &= schema.get("minimum", value) <= value <= schema.get("maximum", value)
        fits &= schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1)
    return fits


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_json_schema_accepts_what_ships(path: Path) -> None:
    schema = json.loads(json_schema())

    assert is_valid(yaml.safe_load(path.read_text()), schema, schema)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("data: {labels: [0, 1]}", True),
        ("modalities: {ct: null, t1: {dims: 2, size: [32, 32]}}", True),
        ("modalities: {ct: {slice: 3, window_hu: [-10, 10.5]}}", True),
        ("train: {epoch: 3}", False),
        ("train: {epochs: 0}", False),
        ("train: {lr: 0}", False),
        ("train: {epochs: true}", False),
        ("model: {backbone: vgg}", False),
        ("modalities: {ct: {size: [32]}}", False),
        ("modalities: {a b: {size: [32, 32]}}", False),
        ("trian: {}", False),
    ],
)
def test_the_json_schema_agrees_with_the_reader(text: str, valid: bool, tmp_path: Path) -> None:
    schema = json.loads(json_schema())
    file = tmp_path / "a.yaml"
    file.write_text(text)

    assert is_valid(yaml.safe_load(text), schema, schema) is valid
    assert (not read_config([file]).problems) is valid
