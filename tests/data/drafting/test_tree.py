"""Folders are walked once, to their end, whatever the links."""

import os
from pathlib import Path

import pytest

from vwmm.data.drafting import tree
from vwmm.data.drafting.tree import walk_tree
from vwmm.system.errors import UserError


def test_files_and_folders_are_sorted_and_hidden_ones_left_out(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", ".hidden/x", "b/._1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = walk_tree(tmp_path)

    assert (found.files, found.folders, found.problems) == (["a", "b/1", "b/2"], ["b"], [])
    assert found.files_in() == {"": ["a"], "b": ["b/1", "b/2"]}


def test_links_from_folder_to_folder_do_not_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "abcdefgh"
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct").touch()
        for other in names:
            os.symlink(f"../{other}", tmp_path / name / f"to_{other}")

    found = walk_tree(tmp_path)

    linked = [f"{name}/to_{other}" for name in names for other in names if name != other]
    assert found.folders == sorted([*names, *linked])
    assert found.files == sorted(f"{folder}/ct" for folder in found.folders)
    monkeypatch.setattr(tree, "MAX_FOLDERS", 50)
    with pytest.raises(UserError, match="more than 50 folders: links lead to one another"):
        walk_tree(tmp_path)


def test_a_folder_is_found_under_every_link_and_behind_links_in_links(tmp_path: Path) -> None:
    (tmp_path / "store/scan").mkdir(parents=True)
    (tmp_path / "store/scan/1").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "patients").mkdir()
    for name in "ab":
        (tmp_path / "patients" / name).mkdir()
        os.symlink("../../store/scan", tmp_path / "patients" / name / "ct")
        os.symlink(f"../patients/{name}", tmp_path / "root" / name)

    assert walk_tree(tmp_path / "root").files == ["a/ct/1", "b/ct/1"]


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
