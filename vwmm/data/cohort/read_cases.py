"""Reads the cohort's CSV into cases, strictly, with all errors at once.

Every error of the file is found in one pass and reported with its line, so that a radiologist can fix all of them at
once. Nothing here opens an image.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from vwmm.config.messages import shorten
from vwmm.config.schema import DEFAULT_MODALITIES, Columns, Data, Modality
from vwmm.data.cohort.cases import SPLITS, Case, Cohort, sorted_classes
from vwmm.data.cohort.csv_table import read_table
from vwmm.data.cohort.image_cells import ORIGINAL_SUFFIXES, ImageCells
from vwmm.data.cohort.labels import label_note, label_problems, nearest_class
from vwmm.data.cohort.spelling import is_missing, is_one_line
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem


def read_cohort(
    data: Data, modalities: Mapping[str, Modality], *, need_labels: bool = True, classes: tuple[str, ...] = ()
) -> Cohort:
    """Reads `data.csv`; raises UserError with every problem found, each with its line.

    `classes`: those of a trained model; a label outside them is an error. `need_labels`: whether each case must have
    one, as in training.
    """
    cohort, problems = survey_cohort(data, modalities, need_labels=need_labels, classes=classes)
    if problems:
        raise UserError(problems)
    assert cohort is not None
    return cohort


def survey_cohort(
    data: Data, modalities: Mapping[str, Modality], *, need_labels: bool = True, classes: tuple[str, ...] = ()
) -> tuple[Cohort | None, list[Problem]]:
    """Like `read_cohort`, but returns the problems, with the rows that could be read."""
    try:
        return _Reader(data, modalities, need_labels, classes).read()
    except UserError as error:
        return None, error.problems


class _Reader:
    """The state of one reading: the problems so far and what must be unique."""

    def __init__(
        self, data: Data, modalities: Mapping[str, Modality], need_labels: bool, classes: tuple[str, ...]
    ) -> None:
        if data.csv is None:
            raise UserError("data.csv: no cohort was given; set data.csv=COHORT.csv (or --config configs/demo.yaml)")
        self.path = Path(data.csv)
        self.data = data
        self.modalities = modalities
        self.need_labels = need_labels
        self.classes = tuple(data.labels or classes)
        self.table = read_table(self.path, example=self._example())
        self.problems, self.note, self.add = self.table.problems, self.table.note, self.table.add
        self.root = Path(data.root) if data.root else self.path.parent
        self.taken_as_empty: dict[str, dict[int, str]] = {}
        self.left_out: dict[int, str] = {}
        self.images = ImageCells(self.table, self.root, self.taken_as_empty, allow_outside_root=data.allow_outside_root)

    def read(self) -> tuple[Cohort, list[Problem]]:
        self._check_columns()
        cases = [case for line, row in self.table.rows if (case := self._case(line, row)) is not None]
        self.images.check_root()
        self._check_dots()
        self._check_unique(cases)
        self._check_one_split_per_patient(cases)
        for line, text in self.images.windows_paths.problems(self.root):
            self.add(line, text)
        if self.need_labels and self.table.is_whole:
            self._check_labels(cases)
        classes = self.classes or sorted_classes({case.label for case in cases if case.label is not None})
        cohort = Cohort(tuple(sorted(cases, key=lambda case: case.name)), classes, self.path, tuple(self._notes()))
        return cohort, self.problems

    def _notes(self) -> list[Problem]:
        """Ignored columns, and cells with a word for a missing value, which count as empty."""
        notes = [Problem(text, "table_note", line) for line, text in self.table.notes]
        for column, cells in self.taken_as_empty.items():
            words = ", ".join(dict.fromkeys(cells.values()))
            what = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            which = "" if column in (self.data.columns.site, self.data.columns.label) else ": the image is missing"
            text = f"column {column!r}: {what} ({words}) {'is' if len(cells) == 1 else 'are'} taken as empty{which}"
            notes.append(Problem(text, "table_note", min(cells)))
        if self.left_out:
            counted = "1 case is" if len(self.left_out) == 1 else f"{len(self.left_out)} cases are"
            shown = shorten(", ".join(self.left_out.values()), 60)
            text = f"{counted} left out, with none of the images used ({', '.join(self.modalities)}): {shown}"
            notes.append(Problem(text, "table_note", min(self.left_out)))
        return sorted(notes, key=lambda note: note.line or 0)

    def _example(self) -> str:
        return ",".join([self.data.columns.case, self.data.columns.label, *self.modalities])

    def _image_column(self, name: str) -> str:
        modality = self.modalities[name]
        if modality.column is None and modality.folder is not None:
            return self.data.columns.filename
        return modality.column or name

    def _check_columns(self) -> None:
        """Raises UserError if a column or the image folder is missing, to avoid one error per row."""
        columns, header = self.data.columns, self.table.header
        wanted = {f"modalities.{name}.column": self._image_column(name) for name in self.modalities}
        if self.need_labels:
            wanted["data.columns.label"] = columns.label
        missing = {key: column for key, column in wanted.items() if column not in header}
        if columns.case not in header and columns.patient not in header and columns.filename not in header:
            missing["data.columns.case"] = columns.case
        found = shorten(", ".join(header), 150)
        for key, column in missing.items():
            template = "column {column!r} is missing (found: {found}); rename it there, or set {key}"
            self.note(1, template, column=column, found=found, key=key)
        folders = {f"modalities.{name}.folder": m.folder for name, m in self.modalities.items() if m.folder is not None}
        absent = {k: f for k, f in {"data.root": "", **folders}.items() if not os.path.isdir(self.root / f)}
        self.problems += [Problem(f"folder not found: {self.root / f}", key=key) for key, f in absent.items()]
        if missing or absent:
            raise UserError(self.problems)

    def _case(self, line: int, row: dict[str, str]) -> Case | None:
        columns = self.data.columns
        self._empty_site(line, row)
        name = self._name(line, row)
        if name is None:
            return None
        patient = row.get(columns.patient, "")
        if columns.patient in row and (not patient or is_missing(patient)):
            found = f"has no name ({patient})" if patient else "is empty"
            template = "column {column!r} {found}: fill it in, or leave the column out"
            self.note(line, template, case=name, column=columns.patient, found=found)
        self._check_one_line(line, row)
        num_before = self.images.num_wrong
        columns_of = {modality: self._image_column(modality) for modality in self.modalities}
        images = {
            modality: self.images.read(
                line, modality, row[column], case=name, folder=self.modalities[modality].folder, column=column
            )
            for modality, column in columns_of.items()
        }
        if not any(images.values()) and self.images.num_wrong == num_before:
            if self._has_other_image(row):
                self.left_out[line] = name
                return None
            template = "no image at all; at least one of {modalities} is needed"
            self.note(line, template, case=name, modalities=", ".join(images))
        return Case(
            name=name,
            patient=patient or name,
            label=self._label(line, row, name),
            images=images,
            line=line,
            split=self._split(line, row, name),
            fold=self._fold(line, row, name),
            site=row.get(columns.site),
            extra={key: value for key, value in row.items() if key not in self._own_columns()},
        )

    def _has_other_image(self, row: dict[str, str]) -> bool:
        """Whether a row without images of this recipe has one in a column that the recipe does not use."""
        further = [column for column in row if column not in self._own_columns()]
        return any(self.images.leads_to_image(row[name], is_named=name in DEFAULT_MODALITIES) for name in further)

    def _name(self, line: int, row: dict[str, str]) -> str | None:
        """The case's name: its own, else the patient's, else the file's; None, and a problem, where there is none."""
        columns = self.data.columns
        column = next((one for one in (columns.case, columns.patient, columns.filename) if row.get(one)), columns.case)
        if columns.case in row and not row[columns.case]:
            self.note(line, "column {column!r} is empty: each case needs a name", column=columns.case)
            return None
        name = _stem(row.get(column, "")) if column == columns.filename else row.get(column, "")
        if not name:
            template = "neither {column!r} nor {other!r} has a value: who is this?"
            self.note(line, template, column=columns.case, other=columns.patient)
        elif is_missing(name):
            self.note(line, "column {column!r} has no name ({name}): each case needs one", column=column, name=name)
            return None
        return name or None

    def _empty_site(self, line: int, row: dict[str, str]) -> None:
        column = self.data.columns.site
        if is_missing(row.get(column, "")):
            self.taken_as_empty.setdefault(column, {})[line] = row[column]
            row[column] = ""

    def _check_one_line(self, line: int, row: dict[str, str]) -> None:
        """What figures and tables show, and what cases are found again by, is one line without control characters."""
        columns = self.data.columns
        for column in (columns.case, columns.patient, columns.filename, columns.label, columns.site):
            if not is_one_line(row.get(column, "")):
                template = "column {column!r} has a line break or a control character: {text!r}"
                self.note(line, template, column=column, text=row[column])

    def _own_columns(self) -> set[str]:
        columns: Columns = self.data.columns
        return {columns.case, columns.patient, columns.label, columns.split, columns.fold, columns.filename} | {
            self._image_column(name) for name in self.modalities
        }

    def _label(self, line: int, row: dict[str, str], name: str) -> str | None:
        label = row.get(self.data.columns.label, "")
        if not label:
            if self.need_labels:
                self.note(line, "the label is empty; fill it in, or remove the row", case=name)
            return None
        if label not in self.classes and is_missing(label, is_label=True):
            if self.need_labels:
                template = (
                    "label is missing ({label}); fill it in, remove the row, or, if it is a class, name it in "
                    "data.labels"
                )
                self.note(line, template, case=name, label=label)
            else:
                self.taken_as_empty.setdefault(self.data.columns.label, {})[line] = label
            return None
        if self.classes and label not in self.classes:
            template = "label {label!r} is none of {classes}{hint}"
            hint = nearest_class(label, self.classes)
            self.note(line, template, case=name, label=label, classes=", ".join(self.classes), hint=hint)
        return label

    def _split(self, line: int, row: dict[str, str], name: str) -> str | None:
        if self.data.columns.split not in row:
            return None
        split = row[self.data.columns.split]
        if split not in SPLITS:
            found = f"found {split!r}" if split else "the cell is empty (all cases are assigned, or the column goes)"
            template = "column {column!r} must be train, val or test; {found}"
            self.note(line, template, case=name, column=self.data.columns.split, found=found)
            return None
        return split

    def _fold(self, line: int, row: dict[str, str], name: str) -> int | None:
        if self.data.columns.fold not in row:
            return None
        text = row[self.data.columns.fold]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            template = "column {column!r} must be 0, 1, 2, ...; found {text!r}"
            self.note(line, template, case=name, column=self.data.columns.fold, text=text)
            return None
        return int(text)

    def _check_dots(self) -> None:
        """A column of nothing but dots may have been meant for the folder of the table: that is not guessed."""
        for column in dict.fromkeys(map(self._image_column, self.modalities)) if len(self.modalities) > 1 else ():
            if self.table.rows and all(row[column] == "." for _, row in self.table.rows):
                template = (
                    "column {column!r}: every cell is '.', which stands for no image; leave them empty, or name the "
                    "images"
                )
                self.note(None, template, column=column)

    def _check_unique(self, cases: list[Case]) -> None:
        first: dict[str, int] = {}
        for case in cases:
            if case.name in first:
                hint = "" if self.data.columns.case in self.table.header else "; several visits need a column 'case'"
                template = "this name already stands in line {earlier}: remove a row, or rename one{hint}"
                self.note(case.line, template, case=case.name, earlier=first[case.name], hint=hint)
            first.setdefault(case.name, case.line)

    def _check_one_split_per_patient(self, cases: list[Case]) -> None:
        first: dict[str, Case] = {}
        for case in cases:
            before = first.setdefault(case.patient, case)
            for what, value, other in (("split", case.split, before.split), ("fold", case.fold, before.fold)):
                if value is not None and other is not None and value != other:
                    found = f"patient {case.patient} is in {what} {value}, but in {what} {other} in line {before.line}"
                    self.add(case.line, found, kind=f"two_{what}s", case=case.name)

    def _check_labels(self, cases: list[Case]) -> None:
        lines: dict[str, list[tuple[str, int]]] = {}
        for case in cases:
            if case.label is not None:
                lines.setdefault(case.label, []).append((case.patient, case.line))
        if not cases and not self.problems:
            self.add(None, "no cases: the header is not followed by any row")
        for line, text in label_problems(lines, self.data.columns.label, self.data.labels or ()):
            self.add(line, text)
        if (note := label_note(lines, self.data.columns.label, self.data.labels or ())) is not None:
            self.table.notes.append((None, note))


def _stem(filename: str) -> str:
    name = Path(filename).name
    for suffix in ORIGINAL_SUFFIXES[1:]:
        name = name.removesuffix(suffix)
    return name
