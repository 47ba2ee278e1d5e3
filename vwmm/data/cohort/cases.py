"""Reads the cohort's CSV into cases, strictly, with all errors at once.

Every error of the file is found in one pass and reported with its line, so that a radiologist can fix all of them at
once. Nothing here opens an image.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.config.messages import shorten
from vwmm.config.schema import Columns, Data, Modality
from vwmm.data.cohort.csv_table import read_table
from vwmm.data.cohort.labels import label_note, label_problems, nearest_class
from vwmm.data.cohort.path_cells import WindowsPaths, find_file
from vwmm.data.cohort.spelling import is_missing, is_one_line
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

SPLITS = ("train", "val", "test")
# So many images of which none is there: not they are wrong, but the folder.
MIN_NOT_FOUND = 4
MAX_FOLDERS_TRIED = 200
ORIGINAL_SUFFIXES = ("", ".nii.gz", ".nii", ".dcm", ".png", ".npy")


@dataclass(frozen=True)
class Case:
    """One patient's visit: its images, some of them perhaps missing, and its label."""

    name: str
    """Unique name of the case."""
    patient: str
    """The patient; all cases of one patient are in the same part of the split."""
    label: str | None
    """The class as it stands in the CSV; None in a cohort without labels."""
    images: Mapping[str, Path | None]
    """Path of each modality's image; None: missing."""
    line: int
    """Line of the CSV."""
    split: str | None = None
    """The part that the CSV assigns, if it does."""
    fold: int | None = None
    """The fold that the CSV assigns, if it does."""
    site: str | None = None
    """The hospital or scanner; None without such a column, empty where its cell is."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Every further column, `site` among them, carried through to the predictions."""


@dataclass(frozen=True)
class Cohort:
    """All cases, sorted by name: the order of the CSV's rows never matters."""

    cases: tuple[Case, ...]
    """Sorted by name."""
    classes: tuple[str, ...]
    """The classes in the order of the logits; empty in a cohort without labels."""
    csv_path: Path
    """Where it was read from."""
    notes: tuple[Problem, ...] = ()
    """Ignored cells and columns, and cells treated as empty."""

    def class_of(self, case: Case) -> int:
        """The index of the case's label."""
        assert case.label is not None
        return self.classes.index(case.label)

    def content_hash(self) -> str:
        """Hash of the rows (not of the images): equal for equal cohorts in any row order."""
        digest = hashlib.sha256()
        for case in self.cases:
            present = [name for name, path in sorted(case.images.items()) if path is not None]
            row = (case.name, case.patient, case.label, present, case.split, case.fold)
            digest.update(repr(row).encode())
        return digest.hexdigest()[:16]


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
        self.real_root = os.path.realpath(self.root)
        self.windows_paths = WindowsPaths()
        self.not_found: list[str] = []
        self.num_found = 0
        self.taken_as_empty: dict[str, dict[int, str]] = {}

    def read(self) -> tuple[Cohort, list[Problem]]:
        self._check_columns()
        cases = [case for line, row in self.table.rows if (case := self._case(line, row)) is not None]
        self._check_root()
        self._check_dots()
        self._check_unique(cases)
        self._check_one_split_per_patient(cases)
        for line, text in self.windows_paths.problems(self.root):
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
            template = "case {case}: column {column!r} {found}: fill it in, or leave the column out"
            self.note(line, template, case=name, column=columns.patient, found=found)
        self._check_one_line(line, row)
        before = len(self.problems) + len(self.windows_paths)
        images = {modality: self._image(line, modality, row) for modality in self.modalities}
        if not any(images.values()) and len(self.problems) + len(self.windows_paths) == before:
            template = "case {case}: no image at all; at least one of {modalities} is needed"
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
                self.note(line, "case {case}: the label is empty; fill it in, or remove the row", case=name)
            return None
        if label not in self.classes and is_missing(label, is_label=True):
            if self.need_labels:
                template = (
                    "case {case}: label is missing ({label}); fill it in, remove the row, or, if it is a class, name "
                    "it in data.labels"
                )
                self.note(line, template, case=name, label=label)
            else:
                self.taken_as_empty.setdefault(self.data.columns.label, {})[line] = label
            return None
        if self.classes and label not in self.classes:
            template = "case {case}: label {label!r} is none of {classes}{hint}"
            hint = nearest_class(label, self.classes)
            self.note(line, template, case=name, label=label, classes=", ".join(self.classes), hint=hint)
        return label

    def _split(self, line: int, row: dict[str, str], name: str) -> str | None:
        if self.data.columns.split not in row:
            return None
        split = row[self.data.columns.split]
        if split not in SPLITS:
            found = f"found {split!r}" if split else "the cell is empty (all cases are assigned, or the column goes)"
            template = "case {case}: column {column!r} must be train, val or test; {found}"
            self.note(line, template, case=name, column=self.data.columns.split, found=found)
            return None
        return split

    def _fold(self, line: int, row: dict[str, str], name: str) -> int | None:
        if self.data.columns.fold not in row:
            return None
        text = row[self.data.columns.fold]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            template = "case {case}: column {column!r} must be 0, 1, 2, ...; found {text!r}"
            self.note(line, template, case=name, column=self.data.columns.fold, text=text)
            return None
        return int(text)

    def _image(self, line: int, name: str, row: dict[str, str]) -> Path | None:
        """The path of one image, if there is one; a path that leads nowhere or out of the root is a problem."""
        column, modality = self._image_column(name), self.modalities[name]
        text = row[column]
        if not text:
            return None
        folder = self.root / (modality.folder or "")
        suffixes = ("",) if modality.folder is None else ORIGINAL_SUFFIXES
        path = None if text == "." else find_file(folder, text, suffixes)  # Stata and SAS write it for no value
        if path is not None:
            return self._checked(line, name, text, path)
        if is_missing(text):
            self.taken_as_empty.setdefault(column, {})[line] = text
            return None
        is_windows = self.windows_paths.take(line, text, lambda other: find_file(folder, other, suffixes) is not None)
        if is_windows or modality.folder is not None:
            return None
        return self._checked(line, name, text, folder / text)

    def _checked(self, line: int, name: str, text: str, path: Path) -> Path | None:
        shown = shorten(text, 120)
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            self.not_found.append(text)
            template = "{modality} file not found: {file} (relative to {root})"
            self.note(line, template, modality=name, file=shown, root=self.root)
            return None
        except OSError as error:  # a name too long, a circle of links, no permission
            self.note(line, "{modality}: {file}: {error}", modality=name, file=shown, error=error.strerror)
            return None
        except ValueError:  # letters that this machine's names of files cannot have
            template = "{modality}: {file}: no name of a file; is the language of this machine set to UTF-8?"
            self.note(line, template, modality=name, file=shown)
            return None
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            self.note(line, "{modality}: {file} is neither a file nor a folder", modality=name, file=shown)
            return None
        if not self.data.allow_outside_root and (what := self._way_out(path, is_folder=stat.S_ISDIR(mode))) is not None:
            template = "{modality}: {file}{link} leaves {root}; if meant: data.allow_outside_root=true"
            self.note(line, template, modality=name, file=shown, link=what, root=self.root)
            return None
        self.num_found += 1
        return path.absolute()

    def _way_out(self, path: Path, *, is_folder: bool) -> str | None:
        """The path that leads out of the root: itself, or a link among a folder's files; None: none does."""
        if not Path(os.path.realpath(path)).is_relative_to(self.real_root):
            return ""
        try:
            links = sorted(entry.name for entry in os.scandir(path) if entry.is_symlink()) if is_folder else []
        except OSError:  # the reader will report it
            return None
        for link in links:
            target = Path(os.path.realpath(path / link))
            if os.path.isfile(target) and not target.is_relative_to(self.real_root):
                return f" has a link {shorten(link)!r} that"
        return None

    def _check_root(self) -> None:
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
        self.problems.insert(0, Problem(text, "table", where=self.path.name))

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
                template = "case {case} already stands in line {earlier}{hint}"
                self.note(case.line, template, case=case.name, earlier=first[case.name], hint=hint)
            first.setdefault(case.name, case.line)

    def _check_one_split_per_patient(self, cases: list[Case]) -> None:
        first: dict[str, Case] = {}
        for case in cases:
            before = first.setdefault(case.patient, case)
            for what, value, other in (("split", case.split, before.split), ("fold", case.fold, before.fold)):
                if value is not None and other is not None and value != other:
                    found = (
                        f"patient {case.patient} is in {what} {value}, but in {what} {other} in line {before.line}: "
                        "all cases of a patient belong together"
                    )
                    self.add(case.line, found, kind="two_splits" if what == "split" else "table", case=case.name)

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


def sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """The classes in their order: as numbers where all are whole numbers, else as text."""
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _stem(filename: str) -> str:
    name = Path(filename).name
    for suffix in ORIGINAL_SUFFIXES[1:]:
        name = name.removesuffix(suffix)
    return name
