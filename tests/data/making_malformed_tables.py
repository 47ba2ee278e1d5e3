"""A hospital's worst tables: what is wrong with each, and those that are odd but fine."""

import gzip
import io
import os
import zipfile
from pathlib import Path

from tests.data.mutating import valid

HEADER = "case,patient,label,mri"
ROWS = ["c1,p1,a,1.png", "c2,p2,a,1.png", "c3,p3,b,1.png", "c4,p4,b,1.png"]
GOOD = "\n".join([HEADER, *ROWS]) + "\n"
WIDE = [f"f{number}" for number in range(10_000)]
NOT_TEXT = "line 1: not UTF-8 text; save the table as 'CSV UTF-8'"


def edited(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1).encode()


def workbook() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return stream.getvalue()


def columns(*extra: str) -> bytes:
    """The good table with more columns, of which each cell is 0."""
    return "\n".join([",".join([HEADER, *extra]), *(row + ",0" * len(extra) for row in ROWS), ""]).encode()


# Contents, and a pattern of what is said of them.
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty; expected a header such as case,label,mri"),
    "blank": (b"\n \n\t\n", "the file is empty"),
    "mark_only": (b"\xef\xbb\xbf", "the file is empty"),
    "header_only": (HEADER.encode(), "no cases: the header is not followed by any row"),
    "utf16": (GOOD.encode("utf-16"), NOT_TEXT),
    "utf16_big": (b"\xfe\xff" + GOOD.encode("utf-16-be"), NOT_TEXT),
    "utf16_unmarked": (GOOD.encode("utf-16-le"), "line 1: a NUL character; this is no text file"),
    "utf32": (GOOD.encode("utf-32"), "line 1: (not UTF-8|a NUL)"),
    "latin1": (edited("p3", "Möller").decode().encode("latin-1"), "line 4: not UTF-8 text"),
    "windows": (edited("p2", "“p2”").decode().encode("cp1252"), "line 3: not UTF-8 text"),
    "japanese": (edited("p4", "患者").decode().encode("shift-jis"), "line 5: not UTF-8 text"),
    "cut_letter": (edited("p4", "ü").split(b"\xbc")[0], "line 5: not UTF-8 text"),
    "overlong": (edited("p1", "X").replace(b"X", b"\xc0\xaf"), "line 2: not UTF-8 text"),
    "surrogate": (edited("p1", "X").replace(b"X", b"\xed\xa0\x80"), "line 2: not UTF-8 text"),
    "nul": (edited("p3", "p\0"), "line 4: a NUL character"),
    "gzip": (gzip.compress(GOOD.encode()), "line 1: no text, but a gzip file: unpack it"),
    "workbook": (workbook(), "line 1: no text, but a zip file or an Excel workbook: save"),
    "old_workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "line 1: no text, but an Excel workbook: save"),
    "picture": (valid("a.png"), "line 1: no text, but a picture; expected a table of cases"),
    "page": (b"<!DOCTYPE html>\n<title>404</title>\n", "line 1: column 'mri' is missing"),
    "json": (b'[{"case": "c1", "label": "a"}]\n', "line 1: (column 'mri' is missing|not valid CSV)"),
    "document": (b"%PDF-1.7\n%\n1 0 obj\n", "line 1: column 'mri' is missing"),
    "bars": (GOOD.replace(",", "|").encode(), "line 1: column 'mri' is missing .found: case.patient.label.mri."),
    "capitals": (edited("mri", "MRI"), "line 1: column 'mri' is missing"),
    "no_label": (edited("label", "class"), "line 1: column 'label' is missing"),
    "no_case": (edited("case,patient", "id,name"), "line 1: column 'case' is missing"),
    "column_twice": (edited("patient", "case"), "line 1: column 'case' stands 2 times"),
    "column_thrice": (columns("mri", "mri"), "line 1: column 'mri' stands 3 times"),
    "column_unnamed": (columns(""), "line 1: a column has no name"),
    "many_columns_twice": (columns(*WIDE, *WIDE[:3]), "line 1: column 'f0' stands 2 times"),
    "columns_absurd": (",".join(["x"] * 100_000).encode(), "line 1: 100,000 columns; expected 16,384 at most"),
    "too_few_cells": (edited("c2,p2", "c2"), "line 3: 3 cells, but the header has 4 columns"),
    "too_many_cells": (edited("c2,p2", "c2,p2,p2"), "line 3: 5 cells, but the header has 4 columns"),
    "decimal_comma": (edited("c2,p2", "c2,0,5"), "line 3: 5 cells, but the header has 4 columns"),
    "quote_open": (edited("c4", '"c4'), "line 5: not valid CSV: unexpected end of data"),
    "quote_open_early": (edited("c1", '"c1'), "not valid CSV|cells, but the header"),
    "quote_then_text": (edited("c1", '"c1"x'), "line 2: not valid CSV"),
    "quote_in_header": (edited("case", '"case'), "not valid CSV|line 1"),
    "field_absurd": (edited("p3", "x" * 200_000), "line 4: not valid CSV: field larger than field limit"),
    "line_absurd": (GOOD.encode() + b"x" * 2**21, "line 6: longer than 1,048,576 bytes"),
    "line_of_cells": (GOOD.encode() + b"x," * 2**20, "line 6: longer than 1,048,576 bytes"),
    "line_of_100_mb": (GOOD.encode() + b"x" * 10**8, "line 6: longer than 1,048,576 bytes"),
    "rows_absurd": (HEADER.encode() + b"\nc,p,a,1.png" * 300_000, "line 262146: a table of more than 262,144 rows"),
    "cells_absurd": (columns(*WIDE) + (b"x" + b",1" * 10_003 + b"\n") * 900, r"a table of more than .* cells"),
    "case_twice": (edited("c3", "c1"), "line 4: case c1: this name already stands in line 2"),
    "case_empty": (edited("c3", ""), "line 4: column 'case' is empty"),
    "patient_empty": (edited("p3", ""), "line 4: case c3: column 'patient' is empty"),
    "case_of_two_lines": (edited("c3", '"c\n3"'), r"line 4: column 'case' has a line break .*'c\\n3'"),
    "case_that_rings": (edited("c3", "c\x07\x1b[2J3"), "line 4: column 'case' has a line break or a control character"),
    "patient_control": (edited("p3", "p\x9b3"), "line 4: column 'patient' has a line break or a control character"),
    "case_that_rings_twice": (edited("c3", "c\x1b[2J").replace(b"c4", b"c\x1b[2J"), r"line 5: case c\\x1b\[2J: this"),
    "label_of_two_lines": (edited(",a,", ',"a\nb",'), r"line 2: column 'label' has a line break .*'a\\nb'"),
    "label_empty": (edited(",a,", ",,"), "line 2: case c1: the label is empty"),
    "label_control": (edited(",a,", ",a\x1b[31m,"), "line 2: column 'label' has a line break or a control character"),
    "label_once": (edited(",b,", ",c,"), "line 4: label 'c' occurs in one patient only"),
    "label_of_one_kind": (GOOD.replace(",b,", ",a,").encode(), "every case has the same label 'a'"),
    "no_image": (edited("c1,p1,a,1.png", "c1,p1,a,"), "line 2: case c1: no image at all"),
    "split_unknown": (columns("split"), "line 2: case c1: column 'split' must be train, val or test; found '0'"),
    "fold_of_words": (columns("fold").replace(b"1.png,0", b"1.png,one"), "line 2: case c1: column 'fold' must be 0, 1"),
    "fold_of_digits": (columns("fold").replace(b"1.png,0", "1.png,²".encode()), "line 2: case c1: column 'fold'"),
    "formula": (edited("1.png", "=HYPERLINK()"), r"line 2: case c1: mri =HYPERLINK\(\): file not found"),
    "site_control": (columns("site").replace(b"1.png,0", b"1.png,n\x1b[2J"), "line 2: column 'site' has a line break"),
}  # fmt: skip
FINE: dict[str, bytes] = {
    "plain": GOOD.encode(),
    "mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "two_marks": b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD.encode(),
    "windows_ends": GOOD.replace("\n", "\r\n").encode(),
    "old_mac_ends": GOOD.replace("\n", "\r").encode(),
    "no_last_end": GOOD.rstrip().encode(),
    "blank_lines_at_the_end": GOOD.encode() + b"\n\n , , , \n\n",
    "blank_lines_at_the_start": b"\n\n" + GOOD.encode(),
    "semicolons": GOOD.replace(",", ";").encode(),
    "tabs": GOOD.replace(",", "\t").encode(),
    "tabs_and_mark": b"\xef\xbb\xbf" + GOOD.replace(",", "\t").replace("\n", "\r\n").encode(),
    "quotes": ("\n".join(",".join(f'"{c}"' for c in row.split(",")) for row in [HEADER, *ROWS]) + "\n").encode(),
    "spaces": GOOD.replace(",", "  ,  ").encode(),
    "columns_in_thousands": columns(*WIDE),
    "note_of_two_lines": columns("note").replace(b"1.png,0", b'1.png,"one\ntwo, ""three"""', 1),
    "other_order": ("\n".join([HEADER, *reversed(ROWS)]) + "\n").encode(),
    "dots": GOOD.replace("1.png", "./sub/../1.png").encode(),
    "link_within": GOOD.replace("1.png", "link.png").encode(),
}
# Paths that are no table at all.
NO_FILES = {
    "nowhere": r"data\.csv: file not found: .*nowhere\.csv",
    "folder": r"data\.csv: not a file: .*folder\.csv",
    "pipe": r"data\.csv: not a file: .*pipe\.csv",
    "device": r"data\.csv: not a file: .*device\.csv",
    "circle": r"data\.csv: (file not found|.*cannot be read)",
    "hole": r"hole\.csv: more than 134,217,728 bytes",
}


def write_tables(folder: Path) -> None:
    """Every table as NAME.csv, beside the one image that they name."""
    (folder / "sub").mkdir(parents=True)
    (folder / "1.png").write_bytes(valid("a.png"))
    (folder / "link.png").symlink_to("1.png")
    for name, content in {**{name: content for name, (content, _) in MALFORMED.items()}, **FINE}.items():
        (folder / f"{name}.csv").write_bytes(content)
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    (folder / "device.csv").symlink_to("/dev/zero")
    (folder / "circle.csv").symlink_to("circle.csv")
    with (folder / "hole.csv").open("wb") as stream:
        stream.truncate(2**40)  # zeros without room on the disk
