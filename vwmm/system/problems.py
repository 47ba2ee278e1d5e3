"""One record for each thing that is wrong or worth knowing, from where it is found to where it is printed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """What all problems of one kind have in common."""

    severity: Severity
    title: str
    action: str
    """Empty: each message says itself what to do."""


KINDS = {
    "input": Kind("error", "An input that cannot be used", ""),
    "configuration": Kind("error", "A key that does not fit the cohort", ""),
    "table": Kind("error", "A row that cannot be used", ""),
    "unreadable": Kind("error", "An image that cannot be read", "export the image again, or empty the cell"),
    "unusable": Kind("error", "An image that cannot be used as it is", ""),
    "crash": Kind("error", "An image that crashed its reader", "export the image again, or empty the cell"),
    "timeout": Kind(
        "error", "An image that took too long to read", "export the image again; allow more if it is large: --timeout-s"
    ),
    "empty": Kind("error", "An empty file or folder", "export the image again, or empty the cell"),
    "constant": Kind("error", "An image without content", "export the image again, or empty the cell"),
    "not_finite": Kind("error", "Non-finite voxels (NaN or Inf)", "export the image again, or empty the cell"),
    "dimension": Kind("error", "An image of another dimension", "choose one volume or slice, or set modalities.X.dims"),
    "mixed_series": Kind(
        "error",
        "Several series in one folder",
        "move each series into a folder of its own, or choose one by modalities.X.series (UID or description)",
    ),
    "no_spacing": Kind("error", "An image without a voxel size", "convert it from its source, or leave spacing_mm out"),
    "swapped": Kind("error", "CT and MR in each other's column", "exchange the two paths of this row"),
    "wrong_kind": Kind("error", "An image of another kind than its column", "put the right image there"),
    "hu_range": Kind("error", "A CT that is not in Hounsfield units", "export it with its rescale slope and intercept"),
    "two_splits": Kind("error", "A patient in two splits", "keep all cases of a patient in one split"),
    "checkpoint": Kind(
        "error", "A checkpoint that cannot be used", "copy the folder back from a backup, or train the run again"
    ),
    "two_folds": Kind("error", "A patient in two folds", "keep all cases of a patient in one fold"),
    "same_image": Kind(
        "error", "The same image under two patients", "find out who it shows; remove or join the others"
    ),
    "similar_names_apart": Kind(
        "error",
        "Patients with almost the same name in different parts",
        "write the name alike if it is one person; else give one of them another name",
    ),
    "precision_wrong": Kind(
        "error",
        "A precision that this cuDNN computes wrongly",
        "install cuDNN 9.15 or newer with torch 2.9.1 or newer; until then train.mixed_precision=auto",
    ),
    "no_gpu": Kind("error", "A GPU that torch cannot use", ""),
    "nccl": Kind("error", "GPUs that cannot talk to each other", "install a build of torch with NCCL"),
    "place": Kind("error", "A folder that cannot be used", ""),
    "tracker": Kind("error", "A tracker that cannot be used", ""),
    "precision_slow": Kind(
        "warning",
        "A precision that this torch computes slowly",
        "install torch 2.9.1 or newer with cuDNN 9.15 or newer; until then train.mixed_precision=auto",
    ),
    "precision_avoided": Kind(
        "warning",
        "Half precision is not used",
        "install torch 2.9.1 or newer with cuDNN 9.15 or newer for bf16",
    ),
    "few_in_batch_norm": Kind(
        "warning",
        "Batch norm with few cases",
        "try a larger train.micro_batch_size, or model.norm=group (docs/missing_images.md)",
    ),
    "slow_disk": Kind(
        "warning",
        "A slow disk for the cache",
        "put cache.dir on a local disk, or read less of it: cache.dtype=float16 halves it, uint8 quarters it",
    ),
    "small_shm": Kind(
        "warning",
        "A small /dev/shm",
        "start the container with --shm-size=1g or more, or --ipc=host",
    ),
    "nccl_setting": Kind("warning", "A setting that slows NCCL", "unset it, unless this machine needs it"),
    "no_key": Kind("warning", "No key for a tracker", "`wandb login`, or tracking.mode=offline and later `vwmm sync`"),
    "similar_patient_names": Kind(
        "warning", "Patients with almost the same name", "write the name alike if it is one person"
    ),
    "similar_site_names": Kind(
        "warning", "Sites with almost the same name", "write the name one way if it is one site"
    ),
    "near_duplicate": Kind("warning", "Almost the same image under two patients", "look at both; is it one person?"),
    "repeated_image": Kind("warning", "The same image in two cases of a patient", "put each visit's own image there"),
    "inverted": Kind(
        "warning",
        "A background that is brighter than the patient",
        "look at it; its source may have 0 as white",
    ),
    "doubtful_header": Kind(
        "warning", "A header that contradicts itself or leaves something open", "look at the image; convert it again"
    ),
    "mixed_formats": Kind(
        "warning", "Pictures beside images with a patient orientation", "convert all of them from their source"
    ),
    "same_columns": Kind("warning", "The same image in two columns", "put each modality's own image there"),
    "confounded": Kind(
        "warning", "The label is associated with acquisition parameters", "balance it, or report each group by itself"
    ),
    "shortcut": Kind(
        "warning", "Acquisition parameters alone predict the label", "balance these parameters, or validate across them"
    ),
    "identifiers": Kind("warning", "Identifiers of persons", "pseudonymise the files before they are passed on"),
    "table_note": Kind("note", "Table cells that were ignored or treated as empty", "nothing, if that is right"),
    "dated_names": Kind("note", "Dates in the names of files", "rename the files if these are dates of birth"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or worth knowing: what, where, and of which kind, which gives severity and action."""

    found: str
    """In words; never a value from a DICOM header that names a person."""
    kind: str = "input"
    """One of `KINDS`."""
    line: int | None = None
    """Line of the file; None: of the whole file or cohort."""
    case: str = ""
    """The case's name."""
    modality: str = ""
    """The modality's name."""
    file: str = ""
    """The image as the CSV has it, or nearly so; control characters are written out."""
    where: str = ""
    """The file that `line` counts in, or the argument: `cohort.csv`, `argument train.lr=x`."""
    named_by: str = ""
    """The key or option that names the file of `where`: `split.file`, `RUN`."""
    key: str = ""
    """The dotted key of the configuration, or the option."""
    template: str = ""
    """`found` before its values were filled in; equal for problems that differ in these only."""

    def __post_init__(self) -> None:
        for name in ("found", "file"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def severity(self) -> Severity:
        """Whether it is an error, a warning or a note."""
        return KINDS[self.kind].severity

    @property
    def action(self) -> str:
        """What to do about it; empty: `found` says it."""
        return KINDS[self.kind].action

    @property
    def place(self) -> str:
        """`line 12: case c7: ct ct/7.dcm`, as far as it is known: where it is within the cohort."""
        return _joined(f"line {self.line}" if self.line else "", self._image)

    @property
    def text(self) -> str:
        """`cohort.csv line 12: case c7: ct ct/7.dcm: what was found`: the line that is printed of it."""
        line = f"line {self.line}" if self.line else ""
        return _joined(self.named_by, f"{self.where} {line}".strip(), self._image, self.key, self.found)

    @property
    def _image(self) -> str:
        return _joined(f"case {self.case}" if self.case else "", f"{self.modality} {self.file}".strip())

    def within(self, place: str) -> "Problem":
        """The same problem, with a place before its own: `fold 2: split.csv line 3: ...`."""
        own = ": ".join(part for part in (self.named_by, self.where) if part)
        return replace(self, where=f"{place}: {own}" if own else place, named_by="")

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        fields = {name: getattr(self, name) for name in ("kind", "found", "line", "case", "modality", "file")}
        return {"severity": self.severity, **fields, "action": self.action}


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By severity and kind, then by line, case and modality; each once."""
    kinds = list(KINDS)
    return sorted(
        dict.fromkeys(problems),
        key=lambda one: (
            SEVERITIES.index(one.severity), kinds.index(one.kind), one.line or 0, one.case, one.modality, one.found,
        ),
    )  # fmt: skip


def count_severities(problems: Iterable[Problem]) -> dict[Severity, int]:
    """How many errors, warnings and notes."""
    counts = Counter(one.severity for one in problems)
    return {severity: counts[severity] for severity in SEVERITIES}


def _joined(*parts: str) -> str:
    return printable(": ".join(part for part in parts if part))


def printable(text: str) -> str:
    """A text in one line that a terminal can show: control characters, as names of files may have, are written out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
