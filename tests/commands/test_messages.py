"""Messages of bad input: each names its place once, and tells once what to do."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.data.mutating import valid
from vwmm.__main__ import main
from vwmm.system.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID
from vwmm.system.problems import KINDS

SHAPE = [
    "modalities.vw_mri=null",
    "modalities.ct=null",
    "modalities.mri.size=[32,32]",
    "run.dir=runs",
    "cache.dir=cache",
]
HEADER = "case,patient,label,mri,split,fold,site"
ROWS = [f"c{n},p{n},{'ab'[n % 2]},{n}.png,{'train' if n < 6 else 'val'},{n % 2},{'xy'[n % 2]}" for n in range(8)]
# What is changed in the good table, and the keys that it is read with.
EDITED: dict[str, tuple[dict[str, str], Sequence[str]]] = {
    "label empty": ({"p3,b": "p3,"}, ()),
    "label is a word for none": ({"p3,b": "p3,NA"}, ()),
    "label of no class": ({}, ["data.labels=[a,c]"]),
    "patient empty": ({"c3,p3": "c3,"}, ()),
    "case twice": ({"c3,": "c2,"}, ()),
    "no image": ({"3.png": ""}, ()),
    "image not there": ({"3.png": "nowhere.png"}, ()),
    "image outside": ({"3.png": "../outside.png"}, ()),
    "image damaged": ({"3.png": "damaged.png"}, ()),
    "image empty": ({"3.png": "empty.png"}, ()),
    "image of one value": ({"3.png": "no.format"}, ()),
    "images damaged": ({"3.png": "damaged.png", "4.png": "damaged2.png", "5.png": "empty.png"}, ()),
    "same image": ({"7.png": "0.png"}, ()),
    "part unknown": ({"2.png,train": "2.png,tain"}, ()),
    "fold unknown": ({"train,1,y": "train,x,y"}, ()),
    "patient in two parts": ({"c7,p7": "c7,p1"}, ()),
    "patient in two spellings": ({"c7,p7": "c7,P-001", "c1,p1": "c1,P001"}, ()),
    "site empty": ({",1,y": ",1,"}, ["split.by_site=stratify", "data.columns.split=none", "data.columns.fold=none"]),
    "patient of two sites": (
        {"c7,p7": "c7,p0"}, ["split.by_site=hold_out", "data.columns.split=none", "data.columns.fold=none"],
    ),
    "split file lacks a case": ({"c0,": "c9,"}, ["split.file=split.csv"]),
    "split file of other patients": ({"c1,p1": "c1,p9"}, ["split.file=split.csv"]),
    "split file has a case twice": ({}, ["split.file=twice.csv"]),
    "split file of unknown parts": ({}, ["split.file=unknown.csv"]),
}  # fmt: skip


def assert_said_once(lines: Sequence[str]) -> None:
    """No line repeats the case, the line or the image of its place, and no action stands twice."""
    for line in lines:
        case, image = re.search(r"\bcase (\S+?): ", line), re.search(r": (mri \S+?): ", line)
        own_line = re.search(r"\bline (\d+): ", line)
        for place in (case and case[0][:-2], image and image[1], own_line and own_line[0][:-2]):
            assert place is None or len(re.findall(rf"\b{re.escape(place)}\b", line)) == 1, line
    told = [line.split(": ", 1)[1] for line in lines if line.startswith("    to do")]
    assert len(set(told)) == len(told), lines
    messages = "\n".join(line for line in lines if line.startswith("  - "))
    for action in told:
        assert not any(part.strip() in messages for part in re.split("[;,]", action)), lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messages")
    (folder / "outside.png").write_bytes(valid("a.png"))
    inside = folder / "inside"
    inside.mkdir()
    for n in range(8):
        (inside / f"{n}.png").write_bytes(valid("a.png") + bytes(n))
    for name, content in {"damaged": valid("a.png")[:20], "damaged2": valid("a.png")[:18], "empty": b""}.items():
        (inside / f"{name}.png").write_bytes(content)
    (inside / "no.format").write_bytes(b"?")
    split = "case,patient,label,split\n" + "".join(
        f"c{n},p{n},{'ab'[n % 2]},{'train' if n < 6 else 'val'}\n" for n in range(8)
    )
    (inside / "split.csv").write_text(split)
    (inside / "twice.csv").write_text(split + "c1,p1,b,val\n")
    (inside / "unknown.csv").write_text(split.replace("val", "vla"))
    return inside


def run(command: str, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main([command, *arguments, *SHAPE])
    said = capsys.readouterr()
    return code, [*said.err.splitlines(), *said.out.splitlines()]


@pytest.mark.parametrize("name", EDITED)
def test_messages_of_bad_tables_name_their_place_once_and_their_action_once(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    table, (changes, keys) = folder / "cohort.csv", EDITED[name]
    content = "\n".join([HEADER, *ROWS, ""])
    for old, new in changes.items():
        assert old in content
        content = content.replace(old, new)
    table.write_text(content)

    said = dict[str, list[str]]()
    for command, more in (("split", []), ("prepare", []), ("train", ["train.epochs=1"]), ("check", ["--workers=1"])):
        arguments = [f"data.csv={table}", *keys, *more]
        if command == "train" and "same image" in name:
            continue  # found when the images have been read
        code, said[command] = run(command, arguments, capsys)
        assert code in (EXIT_DONE, EXIT_FAILED, EXIT_INVALID)
        assert_said_once(said[command])

    shown = "\n".join(line for lines in said.values() for line in lines if line.startswith("  - "))
    assert re.search(r"\.csv line \d+|\.csv: |data\.labels|\bline \d+: case", shown), said


def test_images_that_cannot_be_read_are_told_with_their_case_and_one_action(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    table = folder / "three.csv"
    content = "\n".join([HEADER, *ROWS, ""]).replace("2.png", "nowhere.png")
    table.write_text(
        content.replace("3.png", "damaged.png").replace("4.png", "damaged2.png").replace("5.png", "empty.png")
    )

    code, said = run("prepare", [f"data.csv={table}"], capsys)

    lines = said[said.index("vwmm: 4 errors to fix before this can run:") :]
    assert code == EXIT_INVALID
    assert lines[1] == f"  - three.csv line 4: case c2: mri nowhere.png: file not found (relative to {folder})"
    assert [line.split(": ")[:3] for line in lines[2:5]] == [
        ["  - three.csv line 5", "case c3", "mri damaged.png"],
        ["  - three.csv line 6", "case c4", "mri damaged2.png"],
        ["  - three.csv line 7", "case c5", "mri empty.png"],
    ]
    assert lines[5:] == [f"    to do for these 3: {KINDS['unreadable'].action}"]
