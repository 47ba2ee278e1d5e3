"""Every private name of another package that vwmm uses is listed, with the version that is installed by default."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "private_apis.md"
# Documented, for all their underscores.
PUBLIC = {"_exit", "_fields", "__dataclass_fields__"}


def names_of(tree: ast.AST) -> set[str]:
    """Names that a module defines or sets itself."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def is_private(name: str) -> bool:
    """Also `__compatible_ops__`, which is none of Python's own names."""
    is_of_python = any(hasattr(kind, name) for kind in (object, type, sys, BaseException, names_of))
    return name.startswith("_") and not is_of_python and name not in PUBLIC


def private_names(tree: ast.AST) -> set[str]:
    """Private names that a module takes from elsewhere: as attributes and by imports."""
    own, found = names_of(tree), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in own:
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("vwmm", "__future__")):
            found |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
    return {name for name in found if is_private(name)}


def listed() -> dict[str, tuple[str, str, set[str]]]:
    """By name: package, version and files."""
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    rows = [row for row in rows if not row[0].startswith("-")]
    return {name.strip("`"): (package, version, set(files.split(", "))) for package, version, name, files, _ in rows}


def test_uses_are_those_of_the_list() -> None:
    used: dict[str, set[str]] = {}
    for path in sorted((ROOT / "vwmm").rglob("*.py")):
        for name in private_names(ast.parse(path.read_text())):
            used.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert used == {name: files for name, (_, _, files) in listed().items()}


@pytest.mark.parametrize(("package", "version"), sorted({row[:2] for row in listed().values()} - {("Python", "3.11")}))
def test_versions_are_the_pinned_ones(package: str, version: str) -> None:
    pinned = re.search(rf"^{package}==(\S+)$", Path(ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] == version


def test_the_search_finds_attributes_and_imports() -> None:
    code = "from torch.x import _A\nimport os._b\nmodel._c()\nself._own = 1\nself._own\n"
    code += "ops.__d__\nx.__class__\nos._exit(1)\n"
    assert private_names(ast.parse(code)) == {"_A", "_b", "_c", "__d__"}
