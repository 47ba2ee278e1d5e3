"""Lists the files below a folder; follows links once.

Folders that link to one another are not followed for ever: of the ways to a folder, those are taken that go through the
fewest links, and through one more.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.system.errors import UserError

MAX_FOLDERS = 2_000_000


@dataclass
class Tree:
    """Paths relative to a folder, with `/` between their parts, sorted; hidden ones are left out."""

    root: Path
    """The folder."""
    files: list[str] = field(default_factory=list)
    """Every file."""
    folders: list[str] = field(default_factory=list)
    """Every folder below the root."""
    problems: list[str] = field(default_factory=list)
    """Folders that cannot be read."""
    absent: list[str] = field(default_factory=list)
    """Links to files that are not there: content that was not fetched."""

    def files_in(self) -> dict[str, list[str]]:
        """The files of each folder; the root's own under an empty name."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            found.setdefault(file.rpartition("/")[0], []).append(file)
        return found


def walk_tree(root: Path) -> Tree:
    """Everything below a folder. Raises UserError where it is none, or where links never come to an end."""
    try:
        if not root.is_dir():
            raise UserError(f"DIR {root}: {'not a folder' if root.exists() else 'folder not found'}")
    except OSError as error:
        raise UserError(f"DIR {root}: cannot be read: {error.strerror}") from error
    tree = Tree(root)
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    behind_links, num_links = list[tuple[str, frozenset[tuple[int, int]]]](), 0
    fewest_links: dict[tuple[int, int], int] = {}
    while stack or behind_links:
        if not stack:
            stack, behind_links, num_links = behind_links, [], num_links + 1
        prefix, above = stack.pop()
        folder = root / prefix
        try:
            facts = folder.stat()
            identity = (facts.st_dev, facts.st_ino)
            if identity in above or num_links > fewest_links.setdefault(identity, num_links) + 1:
                continue  # a link to a folder that this one is in, or one of the ever longer ways to a folder
            entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=_name)
        except OSError as error:
            tree.problems.append(f"{folder}: cannot be read: {error.strerror}")
            continue
        if prefix:
            tree.folders.append(prefix.rstrip("/"))
        if len(tree.folders) > MAX_FOLDERS:
            raise UserError(f"DIR {root}: more than {MAX_FOLDERS:,} folders: links lead to one another; name one below")
        kinds = [_kind(entry) for entry in entries]
        for entry, kind in zip(entries, kinds, strict=True):
            if kind == "folder":
                way = behind_links if entry.is_symlink() else stack
                way.append((f"{prefix}{entry.name}/", above | {identity}))
        tree.files += [f"{prefix}{entry.name}" for entry, kind in zip(entries, kinds, strict=True) if kind == "file"]
        tree.absent += [f"{prefix}{entry.name}" for entry, kind in zip(entries, kinds, strict=True) if kind == "absent"]
    tree.files.sort()
    tree.absent.sort()
    tree.folders.sort()
    return tree


def _kind(entry: "os.DirEntry[str]") -> str:
    """`folder`, `file`, `absent` (a link that leads nowhere), or nothing: a link to itself, a socket."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "absent" if entry.is_symlink() and not os.path.exists(entry.path) else ""
    except OSError:
        return ""


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name
