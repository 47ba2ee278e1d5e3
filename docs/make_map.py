"""Writes the map of docs/architecture.md again, from the first line of each module: `python docs/make_map.py`."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("architecture.md")
START, END = "<!-- map: python docs/make_map.py -->\n", "<!-- end of the map -->\n"
FLOORS = ("", "engine", "data", "models", "analysis", "config", "system")  # from the top


def first_line(path: Path) -> str:
    """What a module is for."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def map_text() -> str:
    """A heading for each folder and a line for each file."""
    lines = []
    for floor in FLOORS:
        folder = ROOT / "vwmm" / floor
        places = (
            [folder] if not floor else [folder, *sorted(p for p in folder.rglob("*") if (p / "__init__.py").is_file())]
        )
        for place in places:
            name = f"vwmm/{place.relative_to(ROOT / 'vwmm')}/" if floor else "vwmm/"
            what = first_line(place / "__init__.py") if floor else "The commands, one file each."
            lines += [
                f"{'##' if place == folder else '###'} `{name}`",
                "",
                what,
                "",
                "| file | what it does |",
                "| --- | --- |",
            ]
            files = [path for path in sorted(place.glob("*.py")) if path.stem != "__init__"]
            lines += [f"| [{path.name}](../{path.relative_to(ROOT)}) | {first_line(path)} |" for path in files]
            lines.append("")
    return "\n".join(line for number, line in enumerate(lines) if not _is_empty_table(lines, number)) + "\n"


def page_text() -> str:
    """The page with its map as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{map_text()}\n{END}{after}"


def _is_empty_table(lines: list[str], number: int) -> bool:
    """Whether a line is the head of a table without a row, of a folder that has folders only."""
    head = ["| file | what it does |", "| --- | --- |"]
    for start in (number, number - 1):
        if lines[start : start + 2] == head and not lines[start + 2].startswith("|"):
            return True
    return False


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")
