"""Reads image columns: each cell as the path of a file, or what is wrong with it."""

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.messages import shorten
from vwmm.data.cohort.csv_table import Table
from vwmm.data.cohort.spelling import is_missing
from vwmm.system.problems import Problem

# So many images of which none is there: not they are wrong, but the folder.
MIN_NOT_FOUND = 4
MAX_FOLDERS_TRIED = 200
ORIGINAL_SUFFIXES = ("", ".nii.gz", ".nii", ".dcm", ".png", ".npy")
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


class ImageCells:
    """The reading of a table's image columns: what was found, and what is wrong, which is noted in the table."""

    def __init__(
        self, table: Table, root: Path, taken_as_empty: dict[str, dict[int, str]], *, allow_outside_root: bool
    ) -> None:
        """taken_as_empty: by column and line the words that stand for no image; added to."""
        self.table, self.root, self.taken_as_empty = table, root, taken_as_empty
        self.allow_outside_root = allow_outside_root
        self.real_root = os.path.realpath(root)
        self._folders = dict[Path, bool]()
        self.windows_paths = WindowsPaths()
        self.not_found: list[str] = []
        self.num_found = 0

    @property
    def num_wrong(self) -> int:
        """How many problems and paths of Windows were found up to now, in all columns of the table."""
        return len(self.table.problems) + len(self.windows_paths)

    def read(self, line: int, name: str, text: str, *, case: str, folder: str | None, column: str) -> Path | None:
        """The path of one image, if there is one; a path that leads nowhere or out of the root is a problem.

        folder: `modalities.NAME.folder`, in which the file may have any of the suffixes.
        """
        if not text:
            return None
        inside, suffixes = self.root / (folder or ""), ("",) if folder is None else ORIGINAL_SUFFIXES
        path = None if text == "." else find_file(inside, text, suffixes)  # Stata and SAS write it for no value
        if path is not None:
            return self._checked(line, case, name, text, path)
        if is_missing(text):
            self.taken_as_empty.setdefault(column, {})[line] = text
            return None
        is_windows = self.windows_paths.take(line, text, lambda other: find_file(inside, other, suffixes) is not None)
        if is_windows or folder is not None:
            return None
        return self._checked(line, case, name, text, inside / text)

    def leads_to_image(self, text: str, *, is_named: bool) -> bool:
        """Whether the cell of a column without a modality is the path of an image that is there.

        is_named: whether the column has a modality's usual name; else a folder, which may be called 54 as an age is,
        counts only with a slash in its path.
        """
        if not text or text == "." or is_missing(text):
            return False
        path = find_file(self.root, text)
        return path is not None and (is_named or "/" in text or path.is_file())

    def check_root(self) -> None:
        """Where not one of several images is there, the paths begin elsewhere."""
        if len(self.not_found) < MIN_NOT_FOUND or self.num_found:
            return
        folders = [
            Path.cwd(),
            *self.root.absolute().parents,
            *(self.root / name for name in sorted(os.listdir(self.root))[:MAX_FOLDERS_TRIED]),
        ]
        there = [folder for folder in folders if all((folder / text).exists() for text in self.not_found)]
        hint = f"data.root={there[0]}, where they are" if there else "data.root to the folder in which the paths begin"
        text = f"none of the {len(self.not_found)} images is there, relative to {self.root}; set {hint}"
        self.table.problems.insert(0, Problem(text, "table", where=self.table.path.name))

    def _checked(self, line: int, case: str, name: str, text: str, path: Path) -> Path | None:
        place = {"case": case, "modality": name, "file": shorten(text, 120)}
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            self.not_found.append(text)
            self.table.note(line, "file not found (relative to {root})", root=self.root, **place)
            return None
        except OSError as error:  # a name too long, a circle of links, no permission
            self.table.note(line, "{error}", error=error.strerror, **place)
            return None
        except ValueError:  # letters that this machine's names of files cannot have
            self.table.note(line, "no name of a file; is the language of this machine set to UTF-8?", **place)
            return None
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            self.table.note(line, "neither a file nor a folder", **place)
            return None
        if not self.allow_outside_root and (what := self._way_out(path, is_folder=stat.S_ISDIR(mode))) is not None:
            template = "{link}leaves {root}; if meant: data.allow_outside_root=true"
            self.table.note(line, template, link=what, root=self.root, **place)
            return None
        self.num_found += 1
        return path.absolute()

    def _is_within(self, path: Path) -> bool:
        """Whether a path is in the root once all links are followed; those of a folder are followed once."""
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = Path(os.path.realpath(folder)).is_relative_to(self.real_root)
        if self._folders[folder] and path.name != ".." and not path.is_symlink():
            return True
        return Path(os.path.realpath(path)).is_relative_to(self.real_root)

    def _way_out(self, path: Path, *, is_folder: bool) -> str | None:
        """The path that leads out of the root: itself, or a link among a folder's files; None: none does."""
        if not self._is_within(path):
            return ""
        try:
            links = sorted(entry.name for entry in os.scandir(path) if entry.is_symlink()) if is_folder else []
        except OSError:  # the reader will report it
            return None
        for link in links:
            target = Path(os.path.realpath(path / link))
            if os.path.isfile(target) and not target.is_relative_to(self.real_root):
                return f"has a link {shorten(link)!r} that "
        return None


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
