"""Cases and cohorts: one row of the cohort's table, and all of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vwmm.system.problems import Problem

SPLITS = ("train", "val", "test")


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


def sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """The classes in their order: as numbers where all are whole numbers, else as text."""
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))
