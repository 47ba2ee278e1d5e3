"""A synthetic cohort with a known best possible accuracy.

Its truth is in phantom_truth.py, its images are drawn by phantom_images.py and written by phantom_files.py.
"""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from numpy.random import PCG64, Generator, SeedSequence

from vwmm.data.synthetic.phantom_files import write_dicom, write_nifti
from vwmm.data.synthetic.phantom_images import DRAW, Site
from vwmm.data.synthetic.phantom_truth import FINDINGS_OF, LABELS, MODALITIES, Findings, ceilings_table, label_of
from vwmm.system.errors import UserError

VERSION = 1  # goes up whenever the same options give other bytes
SUFFIXES = {"vw_mri": ".nii.gz", "mri": ".nii.gz", "ct": ".dcm"}
SIZES = ("small", "full")
MIN_CASES = 10
MAX_MISSING = 0.9

_STREAMS = ("cohort", "site", "person", "missing", *MODALITIES)


@dataclass(frozen=True)
class Options:
    """What a cohort is made from: the same options give the same bytes."""

    cases: int = 300
    """Number of cases, one per patient."""
    missing: float = 0.0
    """Chance that an image is missing; a case always keeps one."""
    sites: int = 1
    """Number of hospitals, each with its own voxel size, noise and scanner."""
    size: Literal["small", "full"] = "small"
    """`small`: 64x64x32 voxels and 64x64; `full`: 256x256x96 and 512x512."""
    seed: int = 0
    """Seed of every draw."""

    def problems(self) -> list[str]:
        """What is wrong with them, one line each."""
        checks = (
            (self.cases >= MIN_CASES, f"cases: expected {MIN_CASES} or more, got {self.cases}"),
            (0 <= self.missing <= MAX_MISSING, f"missing: expected 0 to {MAX_MISSING}, got {self.missing}"),
            (self.sites >= 1, f"sites: expected 1 or more, got {self.sites}"),
            (self.size in SIZES, f"size: expected small or full, got {self.size!r}"),
            (self.seed >= 0, f"seed: expected 0 or more, got {self.seed}"),
        )
        return [message for is_fine, message in checks if not is_fine]

    def as_json(self) -> str:
        """The content of `demo.json`, by which a cohort is recognised."""
        return json.dumps({"program": "vwmm demo", "recipe": VERSION, **asdict(self)}, indent=2) + "\n"


@dataclass(frozen=True)
class SyntheticCase:
    """One row of the cohort, and the truth behind it."""

    index: int
    """Counts from 1; independent of the label."""
    findings: Findings
    """The truth."""
    site: int
    """Number of the site, from 1."""
    age: int
    """Years; independent of the label."""
    sex: str
    """`F` or `M`; independent of the label."""
    side: int
    """1: the images show the right carotid, -1: the left."""
    images: tuple[str, ...]
    """The modalities that are not missing."""

    @property
    def name(self) -> str:
        """Name of the case."""
        return f"case_{self.index:04d}"

    @property
    def label(self) -> str:
        """The class."""
        return label_of(self.findings)

    @property
    def patient(self) -> str:
        """Identifier of the patient."""
        return f"patient_{self.index:04d}"

    def path(self, modality: str) -> str:
        """Path of an image relative to the cohort's folder; empty where the image is missing."""
        return f"{modality}/{self.name}{SUFFIXES[modality]}" if modality in self.images else ""


def make_cohort(
    out: Path,
    *,
    cases: int = 300,
    missing: float = 0.0,
    sites: int = 1,
    size: Literal["small", "full"] = "small",
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes the cohort in the folder `out` and returns the path of its CSV; a cohort of these options is left as it is.

    The number of `workers` (processes) changes no byte. `progress` receives (cases done, cases) after each case.
    Raises UserError if an option is impossible or `out` holds something else.
    """
    options = Options(cases=cases, missing=float(missing), sites=sites, size=size, seed=seed)
    if existing_cohort(out, options):
        return out / "cohort.csv"
    staging = out.absolute().parent / f".{out.absolute().name}.{uuid4().hex[:8]}.partial"
    try:
        staging.mkdir(parents=True)
        drawn = draw_cases(options)
        for modality in MODALITIES:
            (staging / modality).mkdir()
        for done, _ in enumerate(_for_each(partial(_write_images, staging, options), drawn, workers), start=1):
            if progress:
                progress(done, cases)
        _write_tables(staging, options, drawn)
        _publish(staging, out, options)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return out / "cohort.csv"


def existing_cohort(out: Path, options: Options) -> bool:
    """Whether `out` holds the cohort of these options; UserError if they are wrong or it holds anything else."""
    problems = [f"--{problem}" for problem in options.problems()]
    if out.is_dir() and any(out.iterdir()):
        if not ((out / "demo.json").is_file() and (out / "cohort.csv").is_file()):
            problems.append(f"--out {out}: exists and is not empty; give another --out, or remove it")
        elif (out / "demo.json").read_bytes() != options.as_json().encode():
            problems.append(
                f"--out {out}: holds a cohort of other options (see its demo.json); give another --out, or remove it"
            )
        elif not problems:
            return True
    elif out.exists() and not out.is_dir():
        problems.append(f"--out {out}: is a file, not a folder; give another --out")
    if problems:
        raise UserError(problems)
    return False


def draw_cases(options: Options) -> list[SyntheticCase]:
    """The cases in the order of their numbers: truth by balanced quotas, shuffled, then each case's own draws."""
    rng = _generator(options.seed, 0, "cohort")
    truth = [
        findings
        for label, quota in zip(LABELS, _quotas(rng, options.cases, len(LABELS)), strict=True)
        for findings, number in zip(FINDINGS_OF[label], _quotas(rng, quota, len(FINDINGS_OF[label])), strict=True)
        for _ in range(number)
    ]
    # Dealt out in turn over cases sorted by their findings: the sites are balanced within each class and finding.
    start = int(rng.integers(options.sites))
    dealt = [(findings, (start + i) % options.sites + 1) for i, findings in enumerate(truth)]
    return [_draw_case(options, index, *dealt[i]) for index, i in enumerate(rng.permutation(len(dealt)), start=1)]


def draw_site(options: Options, number: int) -> Site:
    """The scanner of a site."""
    rng = _generator(options.seed, number, "site")
    return Site(
        name=f"site_{number}",
        scanner=f"Synthetic Scanners {number}",
        field_of_view=rng.uniform(0.95, 1.08),
        slice_thickness=rng.uniform(0.9, 1.1),
        noise=rng.uniform(0.8, 1.3),
    )


def _generator(seed: int, index: int, stream: str) -> Generator:
    """Random numbers for one purpose and case (or site), independent of draws for others."""
    return Generator(PCG64(SeedSequence((seed, index, _STREAMS.index(stream)))))


def _quotas(rng: Generator, total: int, kinds: int) -> list[int]:
    """`total` divided as evenly as possible; a draw decides which kinds get one more."""
    return [total // kinds + (int(rank) < total % kinds) for rank in rng.permutation(kinds)]


def _draw_case(options: Options, index: int, findings: Findings, site: int) -> SyntheticCase:
    rng = _generator(options.seed, index, "person")
    age, sex, side = round(rng.normal(68, 9)), "FM"[int(rng.integers(2))], 1 - 2 * int(rng.integers(2))
    rng = _generator(options.seed, index, "missing")
    images: tuple[str, ...] = ()
    while not images:  # drawn again until one is left
        images = tuple(
            m for m, chance in zip(MODALITIES, rng.random(len(MODALITIES)), strict=True) if chance >= options.missing
        )
    return SyntheticCase(index, findings, site, min(max(age, 40), 95), sex, side, images)


def _for_each(function: Callable[[SyntheticCase], None], cases: list[SyntheticCase], workers: int) -> Iterator[None]:
    """Calls the function for each case, here or in fresh processes; yields after each, in order."""
    if workers <= 1:
        yield from map(function, cases)
        return
    pool = ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn"))
    try:
        yield from pool.map(function, cases, chunksize=max(1, min(16, len(cases) // (4 * workers))))
    finally:
        pool.shutdown(cancel_futures=True)


def _write_images(folder: Path, options: Options, case: SyntheticCase) -> None:
    """Draws and writes the images of one case; each from its own generator and its own finding."""
    site = draw_site(options, case.site)
    for modality in case.images:
        rng = _generator(options.seed, case.index, modality)
        finding = case.findings[MODALITIES.index(modality)]
        canvas = DRAW[modality](rng, site, options.size, case.side, finding)
        path = folder / case.path(modality)
        if modality == "ct":
            tags = {
                "PatientName": f"Synthetic^{case.name}", "PatientID": case.patient, "PatientAge": f"{case.age:03d}Y",
                "PatientSex": case.sex, "Manufacturer": site.scanner,
            }  # fmt: skip
            identity = f"{case.name}|{options.as_json()}"
            write_dicom(path, canvas, rng, case.side, tags=tags, identity=identity)
        else:
            write_nifti(path, canvas, rng, case.side)


def _write_tables(folder: Path, options: Options, cases: list[SyntheticCase]) -> None:
    """Writes cohort.csv, truth.csv, README.txt and demo.json."""
    header = ["case", "patient", "label", *MODALITIES, "site", "age", "sex"]
    rows: list[list[Any]] = [
        [c.name, c.patient, c.label, *map(c.path, MODALITIES), f"site_{c.site}", c.age, c.sex] for c in cases
    ]
    _write_csv(folder / "cohort.csv", [header, *rows])
    truth = [[c.name, *map(int, c.findings), c.label] for c in cases]
    _write_csv(folder / "truth.csv", [["case", *Findings._fields, "label"], *truth])
    (folder / "README.txt").write_text(_readme(options, cases), encoding="utf-8", newline="\n")
    (folder / "demo.json").write_text(options.as_json(), encoding="utf-8", newline="\n")


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _readme(options: Options, cases: list[SyntheticCase]) -> str:
    flags = " ".join(f"--{name} {value}" for name, value in asdict(options).items())
    counts = ", ".join(f"{number} {label}" for label, number in sorted(Counter(c.label for c in cases).items()))
    return f"""SYNTHETIC images, made by a program: no patient, no scanner, no diagnosis.

Made by: vwmm demo {flags}
Cases: {counts}

cohort.csv  one row per case: label, the paths of its images (an empty cell is a missing image), site, age, sex
vw_mri/     vessel-wall MRI of the carotid artery, 3D NIfTI
mri/        T1 MRI, one slice, NIfTI
ct/         CT angiography, one slice, DICOM, Hounsfield units
truth.csv   what is hidden in the images: three findings, each to be seen in one modality only
demo.json   the options; `vwmm demo` with the same options makes the same bytes

The truth: wall_thick (in vw_mri), haemorrhage (in mri), calcification (in ct).
  no_plaque          the wall is not thick; haemorrhage and calcification in all four combinations, equally often
  stable_plaque      the wall is thick, calcification without haemorrhage
  vulnerable_plaque  the wall is thick, the other three combinations, equally often
The classes are equally frequent. Site, age, sex, side, names and order do not depend on them.

The best accuracy that any model can reach on complete cases of such cohorts, by the modalities it sees:
{ceilings_table()}
"""


def _publish(staging: Path, out: Path, options: Options) -> None:
    """Moves the finished cohort to its place; cohort.csv comes last where the folder cannot be renamed at once."""
    if not out.exists():
        staging.rename(out)
    elif not existing_cohort(out, options):  # else another process was faster, with the same bytes
        for path in sorted(staging.iterdir(), key=lambda path: path.name == "cohort.csv"):
            path.rename(out / path.name)
