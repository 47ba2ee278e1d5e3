"""Windows paths in image columns."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def find_file(folder: Path, name: str, suffixes: Sequence[str] = ("",)) -> Path | None:
    """The first of `name` with one of the suffixes that there is, in Unicode's other forms as well; None: none."""
    names = dict.fromkeys([name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)])
    paths = (folder / (name + suffix) for name in names for suffix in suffixes)
    return next((path for path in paths if os.path.lexists(path)), None)


@dataclass
class WindowsPaths:
    """Paths of Windows that lead nowhere here."""

    separators: dict[tuple[int, str], str] = field(default_factory=dict)
    """By (line, cell) the path that is there; the original layout has one cell for all modalities."""
    drives: dict[tuple[int, str], None] = field(default_factory=dict)
    """(line, cell)."""

    def take(self, line: int, cell: str, exists: Callable[[str], bool]) -> bool:
        """Whether a path that leads nowhere is one of these; exists: whether another path would lead somewhere."""
        if _DRIVE.match(cell):
            self.drives[line, cell] = None
            return True
        other = cell.replace("\\", "/").removeprefix("./")
        if other == cell or not exists(other):
            return False
        self.separators[line, cell] = other
        return True

    def __len__(self) -> int:
        return len(self.separators) + len(self.drives)

    def problems(self, root: Path) -> Iterator[tuple[int, str]]:
        """(line of the first, what to change), once for each kind."""
        if self.separators:
            (line, cell), other = next(iter(self.separators.items()))
            cells = _cells(len(self.separators))
            yield line, f"{cell} not found, but {other} is there: write / for \\ (in {cells})"
        if self.drives:
            line, cell = next(iter(self.drives))
            cells = _cells(len(self.drives))
            yield line, f"file not found: {cell} is a path of Windows: write it relative to {root}, with / (in {cells})"


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
