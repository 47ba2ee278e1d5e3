"""The cohort's CSV, read strictly: what is accepted, and each mistake with its line."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import texts
from tests.data.making import write_csv
from vwmm.config.schema import Columns, Data, Modality
from vwmm.data.cohort.cases import Cohort, sorted_classes
from vwmm.data.cohort.read_cases import read_cohort, survey_cohort
from vwmm.data.cohort.split_file import rows_of_cohort, split_file_text
from vwmm.data.cohort.splits import split_table
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

TWO = {"mri": Modality(dims=2, size=[32, 32]), "ct": Modality(dims=2, size=[32, 32])}
ORIGINAL = {
    name: Modality(dims=2, size=[32, 32], folder=folder) for name, folder in (("mri", "mri_files"), ("ct", "ct_files"))
}
GOOD = ["case,patient,label,mri,ct", "c1,p1,a,1.png,2.png", "c2,p2,a,1.png,", "c3,p3,b,,2.png", "c4,p4,b,1.png,2.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two images, which are not opened."""
    for name in ("1.png", "2.png", "sub/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(folder: Path, lines: list[str] | str | bytes, modalities: dict[str, Modality] = TWO, **data: object) -> Cohort:
    return read_cohort(written(folder, lines, **data), modalities)


def written(folder: Path, lines: list[str] | str | bytes, **data: object) -> Data:
    content = "\n".join(lines) + "\n" if isinstance(lines, list) else lines
    (folder / "cohort.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return Data.model_validate({"csv": str(folder / "cohort.csv"), **data})


def problems_of(
    folder: Path, lines: list[str] | str | bytes, modalities: dict[str, Modality] = TWO, **data: object
) -> list[str]:
    return texts(survey_cohort(written(folder, lines, **data), modalities)[1])


def changed(line: int, old: str, new: str) -> list[str]:
    """The good table with one line (from 1) changed."""
    assert old in GOOD[line - 1]
    return [text.replace(old, new) if number == line else text for number, text in enumerate(GOOD, 1)]


# --- what is accepted ----------------------------------------------------------------------------------------------


def test_a_row_is_a_case_with_its_images_and_label(root: Path) -> None:
    cohort = read(root, GOOD)

    assert [case.name for case in cohort.cases] == ["c1", "c2", "c3", "c4"]
    assert cohort.classes == ("a", "b")
    first, second = cohort.cases[:2]
    assert (first.patient, first.label, first.line) == ("p1", "a", 2)
    assert first.images == {"mri": root / "1.png", "ct": root / "2.png"}
    assert second.images == {"mri": root / "1.png", "ct": None}
    assert [cohort.class_of(case) for case in cohort.cases] == [0, 0, 1, 1]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_the_dialects_of_spreadsheets_read_the_same(
    end: str, delimiter: str, quote: str, start: bytes, root: Path
) -> None:
    rows = [delimiter.join(f"{quote}{cell}{quote}" for cell in line.split(",")) for line in GOOD]

    cohort = read(root, start + end.join([*rows, ""]).encode())

    expected = read(root, GOOD)
    shift = 2 if start == b"\n \n" else 0
    assert cohort.cases == tuple(replace(case, line=case.line + shift) for case in expected.cases)


def test_a_semicolon_table_may_have_commas_in_its_header(root: Path) -> None:
    rows = [line.replace(",", ";") for line in GOOD]

    cohort = read(root, [rows[0] + ";size (mm, mm)", *(f"{row};1, 2" for row in rows[1:])])

    assert cohort.cases[0].extra == {"size (mm, mm)": "1, 2"}


def test_quoted_commas_and_line_breaks_keep_the_line_numbers_right(root: Path) -> None:
    lines = [
        f"{GOOD[0]},note",
        'c1,p1,a,1.png,2.png,"one\ntwo, ""three""\n"',
        "",
        " , ,,,,",
        "c2,p2,a,1.png,,x",
        "c3,p3,b,,2.png,",
        "c4,p4,b,nowhere.png,2.png,",
    ]

    cohort, problems = survey_cohort(written(root, lines), TWO)

    assert texts(problems) == [f"cohort.csv line 9: case c4: mri nowhere.png: file not found (relative to {root})"]
    assert cohort is not None
    assert [case.line for case in cohort.cases] == [2, 7, 8, 9]
    assert cohort.cases[0].extra == {"note": 'one\ntwo, "three"'}


def test_spaces_around_cells_do_not_matter(root: Path) -> None:
    cohort = read(root, [line.replace(",", " , ") for line in GOOD])

    assert cohort.cases == read(root, GOOD).cases


def test_the_case_defaults_to_the_patient_and_the_patient_to_the_case(root: Path) -> None:
    without_case = read(root, [line.partition(",")[2] for line in GOOD])
    without_patient = read(root, [",".join([*line.split(",")[:1], *line.split(",")[2:]]) for line in GOOD])

    assert {(case.name, case.patient) for case in without_case.cases} == {(f"p{n}", f"p{n}") for n in range(1, 5)}
    assert {(case.name, case.patient) for case in without_patient.cases} == {(f"c{n}", f"c{n}") for n in range(1, 5)}


def test_several_visits_of_a_patient_are_cases(root: Path) -> None:
    cohort = read(root, [*GOOD, "c5,p4,b,1.png,"])

    assert [case.patient for case in cohort.cases] == ["p1", "p2", "p3", "p4", "p4"]


def test_further_columns_are_carried_through(root: Path) -> None:
    lines = [GOOD[0] + ",site,age,split,fold", *(f"{line},north,{n},train,0" for n, line in enumerate(GOOD[1:]))]

    cases = read(root, lines).cases

    assert [case.extra for case in cases] == [{"site": "north", "age": str(n)} for n in range(4)]
    assert {(case.split, case.fold) for case in cases} == {("train", 0)}


def test_columns_may_have_other_names(root: Path) -> None:
    modalities = {"mri": TWO["mri"].model_copy(update={"column": "MR path"}), "ct": TWO["ct"]}
    columns = Columns(case="ID", patient="Person", label="Dx")

    cohort = read(root, ["ID,Person,Dx,MR path,ct", *GOOD[1:]], modalities, columns=columns.model_dump())

    assert cohort.cases == read(root, GOOD).cases


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"10", "9", "-1"}, ("-1", "9", "10")),
        ({"10", "9", "x"}, ("10", "9", "x")),
        ({"01", "1"}, ("01", "1")),
        ({"1.5", "1"}, ("1", "1.5")),
        ({"9" * 5000, "1"}, ("1", "9" * 5000)),
    ],
)
def test_classes_are_sorted_as_numbers_where_all_are(labels: set[str], expected: tuple[str, ...]) -> None:
    assert sorted_classes(labels) == expected


def test_the_order_of_the_classes_can_be_given(root: Path) -> None:
    assert read(root, GOOD, labels=["b", "a"]).classes == ("b", "a")


def test_labels_may_be_absent_where_none_are_needed(root: Path) -> None:
    data = written(root, ["case,mri,ct", "c1,1.png,"])

    cohort = read_cohort(data, TWO, need_labels=False, classes=("a", "b"))

    assert (cohort.cases[0].label, cohort.classes) == (None, ("a", "b"))
    assert read_cohort(written(root, ["case,label,mri,ct", "c1,,1.png,"]), TWO, need_labels=False).classes == ()


def test_a_label_outside_a_models_classes_is_refused(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_cohort(written(root, GOOD), TWO, need_labels=False, classes=("a", "c"))

    assert texts(caught.value.problems) == [
        "cohort.csv line 4: case c3: label 'b' is none of a, c",
        "cohort.csv line 5: case c4: label 'b' is none of a, c",
    ]


# --- the original layout -------------------------------------------------------------------------------------------


def original(root: Path) -> list[str]:
    for name in (
        "mri_files/001.nii.gz",
        "mri_files/002.nii.gz",
        "ct_files/001.nii.gz",
        "ct_files/003",
        "ct_files/4.dcm",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    return ["filename,label", "001.nii.gz,0", "002,1", "003,0", "4,1"]


def test_the_original_layout_looks_for_the_file_in_each_folder(root: Path) -> None:
    cohort = read(root, original(root), ORIGINAL)

    assert [case.name for case in cohort.cases] == ["001", "002", "003", "4"]
    assert [list(map(bool, case.images.values())) for case in cohort.cases] == [
        [True, True],
        [True, False],
        [False, True],
        [False, True],
    ]
    assert cohort.cases[3].images["ct"] == root / "ct_files" / "4.dcm"


@pytest.mark.parametrize(
    ("header", "cell"), [("pet", "1.png"), ("pet", "sub/3.png"), ("pet", "./sub"), ("vw_mri", "sub")]
)
def test_a_case_with_images_of_other_modalities_only_is_left_out_with_a_note(
    root: Path, header: str, cell: str
) -> None:
    lines = [f"{line},{header if number == 0 else ''}" for number, line in enumerate(GOOD)]
    lines[3] = f"c3,p3,b,,,{cell}"
    lines.append("c5,p5,b,1.png,,")

    cohort = read(root, lines)

    assert [case.name for case in cohort.cases] == ["c1", "c2", "c4", "c5"]
    note = Problem("1 case is left out, with none of the images used (mri, ct): c3", "table_note", 4)
    assert cohort.notes == (note,)


@pytest.mark.parametrize("cell", ["", "54", "NA", "elsewhere.png", "sub", "."])
def test_a_case_without_any_image_is_refused_beside_other_columns(root: Path, cell: str) -> None:
    (root / "54").mkdir()
    lines = [f"{line},{'age' if number == 0 else ''}" for number, line in enumerate(GOOD)]
    lines[3] = f"c3,p3,b,,,{cell}"

    assert problems_of(root, lines) == [
        "cohort.csv line 4: case c3: no image at all; at least one of mri, ct is needed"
    ]


def test_in_the_original_layout_a_file_in_no_folder_and_a_missing_folder_are_problems(root: Path) -> None:
    lines = original(root)

    assert problems_of(root, [*lines, "5,1"], ORIGINAL) == [
        "cohort.csv line 6: case 5: no image at all; at least one of mri, ct is needed"
    ]
    (root / "ct_files").rename(root / "elsewhere")
    assert problems_of(root, lines, ORIGINAL) == [f"modalities.ct.folder: folder not found: {root / 'ct_files'}"]


def test_the_original_layout_leaves_no_way_out_of_the_root(root: Path) -> None:
    data = root / "inner"
    data.mkdir()
    lines = original(data)

    assert problems_of(data, [*lines, "../../1.png,1"], ORIGINAL)[0] == (
        f"cohort.csv line 6: case 1: mri ../../1.png: leaves {data}; if meant: data.allow_outside_root=true"
    )


# --- mistakes ------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[list[str] | str | bytes, list[str]]] = {
    "too few cells": (changed(3, ",1.png,", ",1.png"), ["line 3: 4 cells, but the header has 5 columns"]),
    "too many cells": (changed(3, "c2,", "c2,x,"), ["line 3: 6 cells, but the header has 5 columns"]),
    "a column twice": (changed(1, "patient", "case"), ["line 1: column 'case' stands 2 times"]),
    "a column without a name": ([f"{line}," for line in GOOD], ["line 1: a column has no name; name or remove it"]),
    "a missing column": (
        changed(1, "mri", "MRI"),
        ["line 1: column 'mri' is missing (found: case, patient, label, MRI, ct); rename it there, or set"],
    ),
    "no label column": (changed(1, "label", "class"), ["line 1: column 'label' is missing"]),
    "neither case nor patient": (
        [GOOD[0].replace("case,patient", "id,name"), *GOOD[1:]],
        ["line 1: column 'case' is missing"],
    ),
    "an empty file": ("", ["the file is empty; expected a header such as case,label,mri,ct"]),
    "only blank lines": ("\n \n\n", ["the file is empty"]),
    "a header only": (GOOD[:1], ["no cases: the header is not followed by any row"]),
    "an empty label": (
        changed(2, ",a,", ",,"),
        ["line 2: case c1: the label is empty", "line 3: label 'a' occurs in one"],
    ),
    "a label once": (
        changed(5, ",b,", ",c,"),
        ["line 4: label 'b' occurs in one patient", "line 5: label 'c' occurs in"],
    ),
    "one class": ([*GOOD[:3]], ["every case has the same label 'a': there is nothing to tell apart"]),
    "a case twice": (changed(4, "c3", "c1"), ["line 4: case c1: this name already stands in line 2"]),
    "an empty case": (changed(4, "c3", ""), ["line 4: column 'case' is empty", "line 5: label 'b' occurs"]),
    "an empty patient": (changed(4, "p3", ""), ["line 4: case c3: column 'patient' is empty"]),
    "no image": (changed(4, "2.png", ""), ["line 4: case c3: no image at all; at least one of mri, ct is needed"]),
    "a missing file": (
        changed(4, "2.png", "x/y.png"),
        ["line 4: case c3: ct x/y.png: file not found (relative to ROOT)"],
    ),
    "below a file": (
        changed(4, "2.png", "1.png/y"),
        ["line 4: case c3: ct 1.png/y: file not found (relative to ROOT)"],
    ),
    "a long path": (changed(4, "2.png", "x" * 5000), [f"line 4: case c3: ct {'x' * 117}...: File name too long"]),
    "a circle of links": (
        changed(4, "2.png", "circle"),
        ["line 4: case c3: ct circle: Too many levels of symbolic links"],
    ),
    "a dead link": (changed(4, "2.png", "dead"), ["line 4: case c3: ct dead: file not found"]),
    "a pipe": (changed(4, "2.png", "pipe"), ["line 4: case c3: ct pipe: neither a file nor a folder"]),
    "a path out of the root": (
        changed(4, "2.png", "../2.png"),
        ["line 4: case c3: ct ../2.png: leaves ROOT; if meant: data.allow"],
    ),
    "an absolute path": (
        changed(4, "2.png", "/etc/passwd"),
        ["line 4: case c3: ct /etc/passwd: leaves ROOT; if meant"],
    ),
    "a link out of the root": (
        changed(4, "2.png", "out/2.png"),
        ["line 4: case c3: ct out/2.png: leaves ROOT; if meant"],
    ),
    "an unclosed quote": (changed(5, "c4", '"c4'), ["line 5: not valid CSV: unexpected end of data"]),
    "text after a quote": (changed(2, "c1", '"c1"x'), ["line 2: not valid CSV: ',' expected after '\"'"]),
    "a NUL": ("case,label,mri,ct\nc1,a\0,1.png,\n", ["line 2: a NUL character; this is no text file"]),
    "not UTF-8": ("case,label,mri,ct\nc1,ä,1.png,\n".encode("latin-1"), ["line 2: not UTF-8 text; save the table as"]),
    "UTF-16": ("\n".join(GOOD).encode("utf-16"), ["line 1: not UTF-8 text"]),
    "a cell without end": (f"{GOOD[0]}\n{'x' * 200_000}", ["line 2: not valid CSV: field larger than field limit"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named_with_its_line(mistake: str, root: Path) -> None:
    lines, expected = MISTAKES[mistake]
    data = root / "data"
    data.mkdir()
    for name in ("1.png", "2.png"):
        (root / name).rename(data / name)
        (root / name).write_bytes(b"x")
    (data / "circle").symlink_to(data / "circle")
    (data / "dead").symlink_to(data / "nothing")
    (data / "out").symlink_to(root)
    os.mkfifo(data / "pipe")

    problems = problems_of(data, lines)

    assert len(problems) == len(expected), problems
    for problem, start in zip(problems, expected, strict=True):
        where = "cohort.csv: " if not start.startswith("line") else "cohort.csv "
        assert problem.startswith(where + start.replace("ROOT", str(data))), problem


def test_a_path_out_of_the_root_can_be_allowed(root: Path) -> None:
    data = root / "data"
    data.mkdir()
    (data / "1.png").write_bytes(b"x")
    (data / "2.png").symlink_to(root / "2.png")

    cohort = read(data, changed(2, "1.png", "../sub/../1.png"), allow_outside_root=True)

    image = cohort.cases[0].images["mri"]
    assert image is not None
    assert image.samefile(root / "1.png")


def test_link_out_of_the_root_is_found_beside_files_that_are_none(root: Path) -> None:
    data = root / "data"
    data.mkdir()
    (data / "1.png").write_bytes(b"x")
    (data / "2.png").symlink_to(root / "2.png")

    found = [problem for problem in problems_of(data, GOOD) if "leaves" in problem]

    assert found
    assert all(f" 2.png: leaves {data}; if meant: data.allow_outside_root=true" in problem for problem in found)


def test_a_link_among_a_folders_files_leads_out_of_the_root_only_where_that_is_allowed(root: Path) -> None:
    data = root / "data"
    (data / "series").mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (data / name).write_bytes(b"x")
    (data / "series" / "within").symlink_to(data / "1.png")
    (data / "series" / "up").symlink_to(root)  # a folder, which is not looked into
    (data / "series" / "dead").symlink_to(root / "nothing")
    lines = changed(2, "1.png", "series")

    assert problems_of(data, lines) == []
    (data / "series" / "out").symlink_to(root / "1.png")
    assert problems_of(data, lines) == [
        f"cohort.csv line 2: case c1: mri series: has a link 'out' that leaves {data}; "
        "if meant: data.allow_outside_root=true"
    ]
    assert problems_of(data, lines, allow_outside_root=True) == []


@pytest.mark.parametrize("column", ["case", "patient", "label", "site"])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x9b", "\u2028"])
def test_names_labels_and_sites_with_control_characters_are_refused(column: str, character: str, root: Path) -> None:
    rows = [[*line.split(","), "site" if n == 0 else "north"] for n, line in enumerate(GOOD)]
    place = rows[0].index(column)
    rows[2][place] = rows[2][place][:1] + character + rows[2][place][1:] + "x"
    write_csv(root / "cohort.csv", rows)

    problems = texts(survey_cohort(Data(csv=str(root / "cohort.csv")), TWO)[1])

    assert problems[0].startswith(f"cohort.csv line 3: column '{column}' has a line break or a control character: ")
    assert all(problem.isprintable() for problem in problems)


def test_split_of_names_that_spreadsheets_would_run_is_written_as_text_and_read_back(root: Path) -> None:
    cohort = read(root, [*changed(2, "c1,p1", "=1+1,@clinic"), "-2,+x,b,1.png,"])
    parts = dict.fromkeys((case.name for case in cohort.cases), "train")
    (root / "split.csv").write_text(split_file_text(cohort, parts, {}))
    (root / "run.csv").write_text(split_table(cohort, parts, {case.name: {} for case in cohort.cases}))

    for name in ("split.csv", "run.csv"):
        assert "'=1+1,'@clinic,a,train" in (root / name).read_text()
        rows = rows_of_cohort(cohort, root / name)
        assert {case: row.patient for case, row in rows.items()} == {case.name: case.patient for case in cohort.cases}


def test_table_beside_other_folders_is_an_error_that_locates_the_images(root: Path) -> None:
    table = [GOOD[0], *(f"c{n},p{n},{'ab'[n % 2]},3.png," for n in range(6))]
    problems = problems_of(root, table)
    assert problems[0] == (
        f"cohort.csv: none of the 6 images is there, relative to {root}; set data.root={root / 'sub'}, where they are"
    )
    assert not problems_of(root, table, root=str(root / "sub"))
    (root / "sub" / "3.png").unlink()
    assert problems_of(root, table)[0].endswith("; set data.root to the folder in which the paths begin")


@pytest.mark.parametrize("column", ["data.root", "modalities.mri.folder"])
def test_a_folder_of_a_long_name_is_not_found(column: str, root: Path) -> None:
    name = "x" * 5000
    if column == "data.root":
        (problem,) = problems_of(root, GOOD, TWO, root=name)
    else:
        changed_folder = {**ORIGINAL, "mri": Modality(dims=2, size=[32, 32], folder=name)}
        (problem, *_) = problems_of(root, original(root), changed_folder)

    assert problem.startswith(f"{column}: folder not found: ")


def test_dots_after_a_link_lead_to_the_file_that_was_looked_at(root: Path) -> None:
    """`link/../1.png` is beside the link's target, not beside the link."""
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "9.png").write_bytes(b"right")
    (root / "link").symlink_to(root / "deep" / "er")
    (root / "9.png").write_bytes(b"wrong")

    image = read(root, changed(2, "1.png", "link/../9.png")).cases[0].images["mri"]

    assert image is not None
    assert image.read_bytes() == b"right"


def test_a_folder_may_stand_in_the_place_of_a_file(root: Path) -> None:
    assert read(root, changed(2, "1.png", "sub")).cases[0].images["mri"] == root / "sub"


def test_paths_are_relative_to_the_root(root: Path) -> None:
    (root / "tables").mkdir()

    assert read(root / "tables", GOOD, root=str(root)).cases[0].images["mri"] == root / "1.png"
    assert problems_of(root, GOOD, root=str(root / "nothing")) == [f"data.root: folder not found: {root / 'nothing'}"]


@pytest.mark.parametrize("name", ["absent.csv", "sub", "x" * 5000])
def test_a_csv_that_is_not_there_is_named(name: str, root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.csv: "):
        read_cohort(Data(csv=str(root / name)), TWO)


def test_without_a_csv_there_is_a_hint() -> None:
    with pytest.raises(UserError, match=r"data\.csv: no cohort was given; set data\.csv=COHORT\.csv"):
        read_cohort(Data(), TWO)


@pytest.mark.parametrize(("column", "values"), [("split", ("train", "val")), ("fold", ("0", "1"))])
def test_a_patient_belongs_to_one_part(column: str, values: tuple[str, str], root: Path) -> None:
    ones = [f"{line},{values[0]}" for line in GOOD[1:]]
    lines = [f"{GOOD[0]},{column}", *ones, f"c5,p1,a,1.png,,{values[1]}"]

    assert problems_of(root, lines) == [
        f"cohort.csv line 6: case c5: patient p1 is in {column} {values[1]}, but in {column} {values[0]} in line 2"
    ]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("split", "Train", "column 'split' must be train, val or test; found 'Train'"),
        ("split", "", "column 'split' must be train, val or test; the cell is empty"),
        ("fold", "-1", "column 'fold' must be 0, 1, 2, ...; found '-1'"),
        ("fold", "", "column 'fold' must be 0, 1, 2, ...; found ''"),
        ("fold", "²", "column 'fold' must be 0, 1, 2, ...; found '²'"),
        ("fold", "9" * 5000, "column 'fold' must be 0, 1, 2, ...; found '999"),
    ],
)
def test_parts_and_folds_are_what_they_must_be(column: str, value: str, expected: str, root: Path) -> None:
    other = "train" if column == "split" else "0"
    lines = [f"{GOOD[0]},{column}", f"{GOOD[1]},{value}", *(f"{line},{other}" for line in GOOD[2:])]

    (problem,) = problems_of(root, lines)

    assert problem.startswith(f"cohort.csv line 2: case c1: {expected}")
    assert len(problem) < 350


def test_a_class_that_no_case_has_is_a_problem(root: Path) -> None:
    assert problems_of(root, GOOD, labels=["a", "b", "c"]) == ["cohort.csv: data.labels: no case has label 'c'"]
    assert problems_of(root, GOOD, labels=["a", "c"])[0] == "cohort.csv line 4: case c3: label 'b' is none of a, c"


def test_all_the_mistakes_of_a_file_are_said_at_once(root: Path) -> None:
    lines = [*GOOD, "c1,p5,b,1.png,", "c6,p6,,9.png,", "c7,p7", "c8,p8,a,,"]

    with pytest.raises(UserError) as caught:
        read(root, lines)

    assert [problem.split(": ")[0] for problem in texts(caught.value.problems)] == [
        "cohort.csv line 8",
        "cohort.csv line 7",
        "cohort.csv line 7",
        "cohort.csv line 9",
        "cohort.csv line 6",
    ]


# --- properties ----------------------------------------------------------------------------------------------------

CELLS = st.sampled_from(
    ["case", "patient", "label", "mri", "ct", "split", "fold", "1.png", "a", "b", "train", "", '"', "/"]
)
TEXTS = st.one_of(
    st.text(),
    st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=6).map("\n".join),
    st.lists(st.lists(CELLS, min_size=5, max_size=5).map(",".join), max_size=6).map(
        lambda rows: "\n".join(["case,patient,label,mri,ct", *rows])
    ),
)


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused_in_words(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "1.png").write_bytes(b"x")
    cohort, problems = survey_cohort(written(root, text.encode("utf-8", "surrogatepass")), TWO)

    assert all(one.startswith("cohort.csv") and "\n" not in one for one in texts(problems))
    assert problems or (cohort is not None and len(cohort.classes) >= 2)


@given(content=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_read_or_refused_in_words(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UserError):
        read(tmp_path_factory.getbasetemp(), content)


def test_the_order_of_the_rows_does_not_matter(root: Path) -> None:
    expected = read(root, GOOD)

    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(GOOD[1:]).tolist()
        cohort = read(root, [GOOD[0], *rows])

        assert [replace(case, line=0) for case in cohort.cases] == [replace(case, line=0) for case in expected.cases]
        assert cohort.content_hash() == expected.content_hash()


@pytest.mark.parametrize("change", [("c1", "c9"), ("p1", "p9"), (",a,1.png,2", ",b,1.png,2"), ("2.png", "")])
def test_another_row_is_another_hash(change: tuple[str, str], root: Path) -> None:
    lines = [*GOOD, "c5,p5,a,1.png,"]

    other = [lines[0], lines[1].replace(*change), *lines[2:]]

    assert read(root, other).content_hash() != read(root, lines).content_hash()


def test_a_table_written_by_python_is_read(root: Path) -> None:
    write_csv(root / "cohort.csv", [line.split(",") for line in GOOD], delimiter=";")

    assert len(read_cohort(Data(csv=str(root / "cohort.csv")), TWO).cases) == 4


# --- words for a missing value, and paths of other systems ----------------------------------------------------------


def test_a_path_that_is_a_word_for_a_missing_value_is_a_missing_image_with_a_note(root: Path) -> None:
    lines = [GOOD[0], "c1,p1,a,1.png,NA", "c2,p2,a,1.png,nan", "c3,p3,b,NA,2.png", "c4,p4,b,1.png,2.png"]

    cohort = read(root, lines)

    assert [path is not None for case in cohort.cases for path in case.images.values()] == [
        True, False, True, False, False, True, True, True,
    ]  # fmt: skip
    assert [(note.kind, note.line, note.found) for note in cohort.notes] == [
        ("table_note", 2, "column 'ct': 2 cells (NA, nan) are taken as empty: the image is missing"),
        ("table_note", 4, "column 'mri': 1 cell (NA) is taken as empty: the image is missing"),
    ]


def test_a_lone_dot_is_a_missing_image_with_a_note_and_not_the_folder(root: Path) -> None:
    cohort = read(root, changed(3, "1.png,", "1.png,."))

    assert cohort.cases[1].images["ct"] is None
    assert [(note.line, note.found) for note in cohort.notes] == [
        (3, "column 'ct': 1 cell (.) is taken as empty: the image is missing")
    ]
    assert read(root, changed(3, "1.png,", "1.png,sub")).cases[1].images["ct"] == root / "sub"


def test_a_column_of_dots_is_refused(root: Path) -> None:
    rows = [line.rsplit(",", 1)[0] + ",." if line[0] == "c" and line[1] != "a" else line for line in GOOD]
    rows[3] = "c3,p3,b,1.png,."

    assert problems_of(root, rows) == [
        "cohort.csv: column 'ct': every cell is '.', which stands for no image; leave them empty, or name the images"
    ]


def test_a_row_of_dots_has_no_image(root: Path) -> None:
    assert problems_of(root, changed(3, "1.png,", ".,.")) == [
        "cohort.csv line 3: case c2: no image at all; at least one of mri, ct is needed"
    ]


def test_a_label_that_is_such_a_word_is_none_with_a_note_where_none_is_needed(root: Path) -> None:
    data = written(root, [GOOD[0], "c1,p1,nan,1.png,", *GOOD[2:]])

    cohort = read_cohort(data, TWO, need_labels=False, classes=("a", "b"))

    assert cohort.cases[0].label is None
    assert [note.found for note in cohort.notes] == ["column 'label': 1 cell (nan) is taken as empty"]


def test_a_file_of_such_a_name_is_read(root: Path) -> None:
    (root / "NA").write_bytes(b"x")

    cohort = read(root, [GOOD[0], "c1,p1,a,1.png,NA", *GOOD[2:]])

    assert (cohort.cases[0].images["ct"], cohort.notes) == (root / "NA", ())


def test_word_for_a_missing_value_is_refused_as_patient_case_and_part(root: Path) -> None:
    header = f"{GOOD[0]},split,fold"
    rows = ["c1,NaN,a,1.png,,train,0", "nan,p2,a,1.png,,nan,0", "c3,p3,b,1.png,,train,nan", "c4,p4,b,1.png,,val,1"]

    found = problems_of(root, [header, *rows, "c5,p5,a,1.png,,val,1", "c6,p6,a,1.png,,val,1"])

    assert found == [
        "cohort.csv line 2: case c1: column 'patient' has no name (NaN): fill it in, or leave the column out",
        "cohort.csv line 3: column 'case' has no name (nan): each case needs one",
        "cohort.csv line 4: case c3: column 'fold' must be 0, 1, 2, ...; found 'nan'",
    ]


def test_a_site_that_is_a_word_for_a_missing_value_is_none_with_a_note(root: Path) -> None:
    cohort = read(
        root,
        [f"{GOOD[0]},site", *(f"{line},{site}" for line, site in zip(GOOD[1:], ["N/A", "x", "", "x"], strict=True))],
    )

    assert [case.site for case in cohort.cases] == ["", "x", "", "x"]
    assert [case.extra["site"] for case in cohort.cases] == ["", "x", "", "x"]
    assert [note.found for note in cohort.notes] == ["column 'site': 1 cell (N/A) is taken as empty"]


def test_paths_with_backslashes_are_refused_once_with_the_one_that_is_there(root: Path) -> None:
    lines = [GOOD[0], "c1,p1,a,sub\\3.png,2.png", "c2,p2,a,1.png,sub\\3.png", "c3,p3,b,.\\1.png,", "c4,p4,b,no\\3.png,"]

    assert problems_of(root, lines) == [
        f"cohort.csv line 5: case c4: mri no\\3.png: file not found (relative to {root})",
        "cohort.csv line 2: sub\\3.png not found, but sub/3.png is there: write / for \\ (in 3 cells)",
    ]


def test_paths_of_a_windows_drive_are_refused_once(root: Path) -> None:
    lines = [GOOD[0], "c1,p1,a,C:\\data\\1.png,2.png", "c2,p2,a,1.png,D:/2.png", "c3,p3,b,\\\\host\\1.png,", GOOD[4]]

    assert problems_of(root, lines) == [
        f"cohort.csv line 2: file not found: C:\\data\\1.png is a path of Windows: write it relative to {root}, with / "
        "(in 3 cells)"
    ]


def test_the_original_layout_does_not_take_a_backslash_for_a_missing_image(root: Path) -> None:
    lines = original(root)
    (root / "ct_files" / "sub").mkdir()
    (root / "ct_files" / "sub" / "9.nii.gz").write_bytes(b"x")

    assert problems_of(root, [*lines, "sub\\9,1"], ORIGINAL) == [
        "cohort.csv line 6: sub\\9 not found, but sub/9 is there: write / for \\ (in 1 cell)"
    ]


def test_a_path_in_unicodes_other_form_is_found(root: Path) -> None:
    (root / "l\u00e9ger.png").write_bytes(b"x")

    assert (
        read(root, [GOOD[0], "c1,p1,a,1.png,le\u0301ger.png", *GOOD[2:]]).cases[0].images["ct"]
        == root / "l\u00e9ger.png"
    )


def test_what_a_table_passes_over_is_noted(root: Path) -> None:
    cohort = read(root, [f",{GOOD[0]}", *(f"{number},{line}" for number, line in enumerate(GOOD[1:]))])

    assert [(note.line, note.found) for note in cohort.notes] == [
        (1, "the first column has no name and holds row numbers: it is ignored")
    ]
    assert cohort.cases == read(root, GOOD).cases
