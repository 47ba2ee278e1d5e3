"""Folders are walked once, to their end, whatever the links."""

import os
from pathlib import Path

import pytest

from vwmm.config.errors import UserError
from vwmm.data import tree
from vwmm.data.tree import walk_tree


def test_files_and_folders_are_sorted_and_hidden_ones_left_out(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", ".hidden/x", "b/._1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = walk_tree(tmp_path)

    assert (found.files, found.folders, found.problems) == (["a", "b/1", "b/2"], ["b"], [])
    assert found.files_in() == {"": ["a"], "b": ["b/1", "b/2"]}


def test_links_from_folder_to_folder_do_not_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "abcdef"
    for name in names:
        (tmp_path / name).mkdir()
    for name in names:
        for other in names:
            os.symlink(f"../{other}", tmp_path / name / other)
    monkeypatch.setattr(tree, "MAX_FOLDERS", 500)

    with pytest.raises(UserError, match="more than 500 folders: links lead to one another"):
        walk_tree(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "a").touch()
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if folder.name == "secret":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)

    found = walk_tree(tmp_path)

    assert found.files == ["a"]
    assert found.problems == [f"{tmp_path / 'secret'}: cannot be read: Permission denied"]
