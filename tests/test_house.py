"""Holds the house to its floors: which module may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vwmm"
FLOOR = {"system": 0, "config": 1, "data": 2, "models": 2, "analysis": 2, "engine": 3, "commands": 4}
# Within a floor, from the bottom: folders of one line do not import one another; "" are the files beside the folders.
FOLDERS = {
    "data": ["cohort readers synthetic", "drafting transforms", "cache", "loading", "augmentation checks"],
    "analysis": ["statistics", "comparison recalibration", "association ", "figures", "pages"],
    "engine": [
        " launch",
        "distributed",
        "preprocessing tracking",
        "check checkpoints",
        "evaluation strategies sweep",
        "training",
        "machine runs",
        "comparison",
    ],
}
MAX_FILES, MAX_LINES, MAX_LINES_OF_FUNCTION = 14, 300, 50
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    """`data` for vwmm/data/readers/read.py, `commands` for vwmm/train.py."""
    return parts[0] if len(parts) > 1 else "commands"


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_look_down(path: Path) -> None:
    room = room_of(path.relative_to(PACKAGE).parts)
    for name in imports_of(path):
        if not name.startswith("vwmm."):
            continue
        other = name.split(".")[1] if (PACKAGE / name.split(".")[1]).is_dir() else "commands"
        if other == room:
            continue
        if room == "commands" and other == "commands":
            assert path.name in ("train.py", "__main__.py"), f"{path.name} imports the command {name}"
            continue
        assert FLOOR[other] < FLOOR[room], f"{room} may not import {other} ({path.name}: {name})"


def level_of(floor: str, name: str) -> tuple[str, int]:
    """(folder, height within its floor) of `vwmm.data.cache.store`, or of `vwmm.engine.optim`, which has no folder."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    folder = name.split(".")[2] if (PACKAGE / floor / name.split(".")[2]).is_dir() else ""
    assert path.with_suffix(".py").is_file() or path.is_dir(), f"{name} is not there"
    return folder, next(height for height, line in enumerate(FOLDERS[floor]) if folder in line.split(" "))


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in FOLDERS and path.name != "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_folders_of_a_floor_only_look_down(path: Path) -> None:
    floor = path.relative_to(PACKAGE).parts[0]
    folder, height = level_of(floor, ".".join(path.relative_to(ROOT).with_suffix("").parts))
    for name in imports_of(path):
        if name.startswith(f"vwmm.{floor}."):
            other, other_height = level_of(floor, name)
            assert other == folder or other_height < height, f"{floor}/{folder} may not import {floor}/{other} ({name})"


def test_every_folder_of_a_floor_has_its_height() -> None:
    for floor, lines in FOLDERS.items():
        there = {path.name for path in (PACKAGE / floor).iterdir() if path.is_dir()} - {"__pycache__"}
        assert there == {name for line in lines for name in line.split(" ")} - {""}


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in MODULES} - {PACKAGE}), ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_folder_holds_more_files_than_a_reader_takes_in(folder: Path) -> None:
    assert len([path for path in folder.iterdir() if path.is_file()]) <= MAX_FILES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_no_longer_than_a_reader_takes_in(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES or path.name == "schema.py"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES_OF_FUNCTION} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_accelerate_and_trackers_are_imported_in_the_engine_only(path: Path) -> None:
    found = {name.split(".")[0] for name in imports_of(path)} & {"accelerate", "wandb", "optuna"}
    assert not found or room_of(path.relative_to(PACKAGE).parts) == "engine"


def test_no_command_shadows_the_standard_library() -> None:
    names = {path.stem for path in PACKAGE.iterdir()} - {"__init__", "__main__", "__pycache__"}
    assert not names & set(sys.stdlib_module_names)


HELPED = ("train", "sweep", "manifest", "split", "evaluate")


@pytest.mark.parametrize("command", [["--help"], ["train", "--print-config"], *([name, "--help"] for name in HELPED)])
def test_help_does_not_wait_for_torch_or_monai(command: list[str]) -> None:
    code = (
        "import sys; from vwmm.__main__ import main; assert main(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'monai', 'pandas', 'sklearn', 'matplotlib', 'optuna'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# What draws from, or seeds, a generator that the whole process shares.
GLOBAL_DRAWS = {
    "random": {"random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform", "gauss", "seed"},
    "np.random": {
        "rand",
        "randn",
        "randint",
        "random",
        "choice",
        "permutation",
        "shuffle",
        "normal",
        "uniform",
        "seed",
    },
    "torch": {"manual_seed", "seed", "set_rng_state"},
    "torch.cuda": {"manual_seed", "manual_seed_all", "seed", "set_rng_state"},
    "torch.random": {"manual_seed", "seed", "set_rng_state"},
}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "bernoulli", "normal", "multinomial", "rand_like", "randn_like"}
# The first weights: MONAI's networks draw them from torch's generator, which is put back after that.
ALLOWED_IN = {"build_model", "FusionModel"}


def draws_of(tree: ast.AST) -> list[tuple[int, str]]:
    """Calls that use a generator of the whole process: their lines and names."""
    found = []
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        has_generator = any(keyword.arg == "generator" for keyword in node.keywords)
        if owner == "random" and "random" not in imported:
            continue  # a generator of its own, by that name
        is_torch_draw = owner == "torch" and name in TORCH_DRAWS and not has_generator
        if is_torch_draw or name in GLOBAL_DRAWS.get(owner.replace("numpy.", "np."), set()):
            found.append((node.lineno, f"{owner}.{name}"))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_generator_of_the_whole_process_is_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    allowed = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in ALLOWED_IN
        for line, _ in draws_of(node)
    }
    assert [draw for draw in draws_of(tree) if draw[0] not in allowed] == []


def test_the_search_for_generators_finds_them() -> None:
    code = "import random; torch.rand(3)\n"
    code += (
        "torch.manual_seed(2); np.random.seed(1)\nrandom.random()\ntorch.rand(3, generator=g)\nnp.random.default_rng(3)"
    )
    assert [line for line, _ in draws_of(ast.parse(code))] == [1, 2, 2, 3]


def test_map_of_the_architecture_is_complete_and_says_what_the_modules_say() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import make_map; print(make_map.page_text() == make_map.PAGE.read_text('utf-8'))"],
        cwd=ROOT / "docs", capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "True\n", f"{done.stderr}run: python docs/make_map.py"
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert all(f"]({'../' + str(path.relative_to(ROOT))})" in text for path in MODULES if path.name != "__init__.py")
