"""How a split was made, and the size of each part.

It stands in a run's `environment.json` under `split`; runs of earlier versions have none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

PURPOSES = {"train": "to train on", "val": "to validate on", "test": "set aside to test"}


@dataclass(frozen=True)
class PartCount:
    """The size of a part."""

    cases: int
    patients: int

    def __str__(self) -> str:
        return f"{_counted(self.cases, 'case')} of {_counted(self.patients, 'patient')}"


@dataclass(frozen=True)
class SplitRecord:
    """The origin of the split."""

    by: Literal["draw", "column", "file"]
    """Origin of the validation part."""
    source: str
    """Name of the column or of the file; empty for a draw."""
    test_by: Literal["draw", "sites", "column", "file", ""]
    """Origin of the test part; empty: there is none."""
    test_source: str
    """Name of that column or file."""
    parts: Mapping[str, PartCount]
    """Cases and patients of `train`, `val` and `test`, as far as there are any."""
    fold: int | None = None
    """The fold that is validated on."""
    folds: Sequence[int] = ()
    """All folds."""
    val_fraction: float | None = None
    """Of a draw without folds, unless sites are named."""
    test_fraction: float | None = None
    """Where test cases are drawn by it."""
    val_sites: Sequence[str] = ()
    """The sites that were named to be validated on."""
    test_sites: Sequence[str] = ()
    """The sites named for the test part."""
    seed: int | None = None
    """Of a draw."""
    is_stratified: bool | None = None
    """Of a draw: by class."""
    by_site: Literal["stratify", "hold_out"] | None = None
    """Of a draw."""
    unused: Sequence[str] = ()
    """Ignored split or fold columns of the cohort."""

    def words(self) -> str:
        """The origin in words: `fold 1 of 0, 1, 2, by the column 'fold'`."""
        fold = "" if self.fold is None else f"fold {self.fold} of {', '.join(map(str, self.folds))}, "
        tail = "".join(f"; the column '{name}' is not used" for name in self.unused)
        return fold + self.how() + tail

    def words_of_folds(self) -> str:
        """The origin of all folds together: `folds 0, 1, 2, drawn: seed 0, stratified by class`."""
        tail = "".join(f"; the column '{name}' is not used" for name in self.unused)
        return f"folds {', '.join(map(str, self.folds))}, {self.how()}{tail}"

    def notes_of_folds(self) -> list[str]:
        """Which columns of the cohort the folds pass over, a line each."""
        why = "since the folds define the validation part"
        notes = [f"column '{name}': not used, {why}" for name in self.unused]
        if self.test_by == "column":
            aside = f"{self.parts['test']} {PURPOSES['test']}"
            notes.append(f"column '{self.test_source}': {aside}; 'train' and 'val' are not used, {why}")
        return notes

    def how(self) -> str:
        """As `words`, without the fold and the ignored columns."""
        if self.by != "draw":
            return f"by the {self.by} {_quoted(self.by, self.source)}{self._test_words()}"
        if self.val_sites:
            test = f", test {', '.join(self.test_sites)}" if self.test_sites else ""
            drawn = "" if self.test_sites else self._test_words()
            return f"whole sites held out: validation {', '.join(self.val_sites)}{test}{drawn}"
        return f"drawn: {self._draw_words()}{self._test_words()}"

    def counts(self) -> str:
        """The size of each part in words."""
        return ", ".join(f"{self.parts[part]} {what}" for part, what in PURPOSES.items() if part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """As environment.json has it."""
        return asdict(self)

    @classmethod
    def of_json(cls, content: Any) -> "SplitRecord | None":
        """The record of environment.json; None where it has none, or none that can be understood."""
        try:
            parts = {str(part): PartCount(int(c["cases"]), int(c["patients"])) for part, c in content["parts"].items()}
            lists = {name: tuple(content[name]) for name in ("folds", "val_sites", "test_sites", "unused")}
            return cls(**{**content, "parts": parts, **lists})
        except (TypeError, KeyError, ValueError, AttributeError):
            return None

    def _draw_words(self) -> str:
        shares = []
        if self.val_fraction is not None:
            test = f", test {self.test_fraction:g}" if self.test_fraction else ""
            shares.append(f"validation {self.val_fraction:g}{test} of the patients")
        return ", ".join([*shares, *self._conditions()])

    def _conditions(self) -> list[str]:
        """The constraints of a draw."""
        if self.by_site == "hold_out":
            return ["in whole sites", f"seed {self.seed}", "each class in each part if that can be"]
        strata = ["class"] * bool(self.is_stratified) + ["site"] * (self.by_site == "stratify")
        return [f"seed {self.seed}", f"stratified by {' and '.join(strata)}" if strata else "not stratified"]

    def _test_words(self) -> str:
        """The origin of the test part, if it differs from that of the validation part."""
        if self.test_by == "sites":
            return f"; test site{'s' * (len(self.test_sites) > 1)} {', '.join(self.test_sites)} held out"
        if self.test_by == "draw" and (self.fold is not None or self.val_sites):
            return f"; test cases drawn: {', '.join([f'{self.test_fraction:g} of the patients', *self._conditions()])}"
        if self.test_by == "column" and self.fold is not None:
            return f"; test cases by the column {_quoted('column', self.test_source)}, {PASSED_OVER}"
        return ""


PASSED_OVER = "of which 'train' and 'val' are not used"


def _quoted(kind: str, name: str) -> str:
    return f"'{name}'" if kind == "column" else name


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
