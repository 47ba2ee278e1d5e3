"""The whole check: reads every image once and compares it with the others."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vwmm.config.schema import Config
from vwmm.data.checks.dicom_identifiers import FILE_NAME, NAME_IN_CSV
from vwmm.data.checks.duplicates import Key, same_contents, similar_patient_names, similar_site_names, split_leaks
from vwmm.data.checks.image_facts import ImageFacts, names_with_dates
from vwmm.data.checks.near_duplicate_record import NearPair
from vwmm.data.checks.near_duplicates import MANY
from vwmm.data.checks.plausibility import mixed_formats, plausibility
from vwmm.data.checks.preflight import key_problems
from vwmm.data.checks.same_columns import same_columns
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.cohort.cohort_notes import cohort_notes
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.splits import split_cohort
from vwmm.engine.check.acquisition import Acquisition, survey_acquisition
from vwmm.engine.check.compare_images import keep_for_training, near_duplicates
from vwmm.engine.check.survey import survey_images
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem, in_order

MAX_PICTURED = 400
"""Cases that the contact sheets show; of more, as many are drawn."""
_PICTURED = 1
_IDENTIFIED = {
    FILE_NAME: "the patient's own data stand in the file's name",
    NAME_IN_CSV: "the CSV's name of the patient or the case is the one in PatientName",
}
FEW_PATIENTS = 30
"""With fewer, even a site that gives each label away may have a probability above the level of the tables."""


@dataclass(frozen=True)
class Checked:
    """All that was found out about a cohort."""

    cohort: Cohort
    """The rows that could be read."""
    modalities: tuple[str, ...]
    """Their names."""
    assigned: Mapping[str, str]
    """The part of each case; empty where no split could be made."""
    facts: Mapping[Key, ImageFacts]
    """Of each image that could be read."""
    acquisition: Acquisition
    """Tables and tests."""
    findings: Sequence[Problem]
    """In order."""
    pictured: frozenset[str]
    """Names of the cases that the contact sheets show."""
    remarks: Sequence[str] = field(default=())
    """Checks that were not made."""
    notes: Sequence[str] = field(default=())
    """Notes without an error."""


def check_everything(config: Config, *, num_workers: int, timeout_s: float) -> Checked:
    """Reads the cohort with all its images, each in `timeout_s`. Raises UserError where there is no table to read."""
    cohort, problems = survey_cohort(config.data, config.modalities)
    if cohort is None or not cohort.cases:
        raise UserError(problems or ["data.csv: no row could be read"])
    cases, modalities = cohort.cases, tuple(config.modalities)
    findings = table_findings(problems, cohort)
    assigned, more = _split(config, cohort, problems)
    findings += more
    pictured = _drawn(cases, config.split.seed)
    files = image_names(cases, Path(config.data.root) if config.data.root else cohort.csv_path.parent)
    survey = survey_images(
        cases, config.modalities, files, num_workers=num_workers, pictured=pictured, timeout_s=timeout_s
    )
    findings += survey.findings
    for case in cases:
        own = {name: survey.facts[case.name, name] for name in modalities if (case.name, name) in survey.facts}
        names = {name: files[case.name, name] for name in own}
        findings += plausibility(case, own, config.modalities, names)
        findings += [
            Problem(doubt, "doubtful_header", case.line, case.name, name, names[name])
            for name, facts in own.items()
            for doubt in facts.doubts
        ]
    findings += mixed_formats(cases, modalities, survey.facts)
    compared = _compare(config, cohort, survey.facts, files, num_workers=num_workers)
    acquisition = survey_acquisition(cases, modalities, survey.facts, config.data.columns.site, seed=config.split.seed)
    findings += [
        *compared.findings,
        *acquisition.findings,
        *similar_patient_names(cases, assigned),
        *similar_site_names(cases),
    ]
    findings += _privacy(cases, modalities, survey.facts)
    notes = cohort_notes(cohort, assigned, config.data.columns.site, weights=config.train.class_weights)
    remarks = _remarks(cases, modalities, survey.facts, config.data.columns.site)
    return Checked(
        cohort, modalities, assigned, survey.facts, acquisition, in_order(findings), pictured,
        [*remarks, *compared.remarks], [*notes, *compared.notes],
    )  # fmt: skip


@dataclass(frozen=True)
class _Compared:
    """The results of comparing the images with one another."""

    findings: Sequence[Problem]
    notes: Sequence[str]
    remarks: Sequence[str]


def _compare(
    config: Config, cohort: Cohort, facts: dict[Key, ImageFacts], files: Mapping[Key, str], *, num_workers: int
) -> _Compared:
    """Equal images, almost equal ones, and columns that hold the same; keeps the pairs for training."""
    contents = {key: one.content for key, one in facts.items()}
    copies, same = same_contents(cohort.cases, contents, files)
    columns = same_columns(cohort.cases, config.modalities, contents)
    near, pairs = near_duplicates(cohort.cases, tuple(config.modalities), facts, files, num_workers=num_workers)
    not_kept = keep_for_training(Path(config.cache.dir), cohort, [*pairs, *_same_voxels(cohort.cases, same)])
    suspicious = [Problem(one.text, "same_columns", one.line) for one in columns if one.is_warning]
    notes = [one.text for one in columns if not one.is_warning]
    return _Compared([*copies, *near, *suspicious], notes, [] if not_kept is None else [not_kept])


def _same_voxels(cases: Sequence[Case], pairs: Iterable[frozenset[Key]]) -> list[NearPair]:
    """Images of the same voxels under two patients, in any format."""
    patients = {case.name: case.patient for case in cases}
    keys = [sorted(pair) for pair in pairs]
    return [NearPair(one, other, 1.0) for one, other in sorted(keys) if patients[one[0]] != patients[other[0]]]


def table_findings(problems: Iterable[Problem], cohort: Cohort) -> list[Problem]:
    """The problems of the table, each with its line; patients in two splits as such, once for each."""
    cases = {case.line: case for case in cohort.cases}
    findings = split_leaks(cohort.cases)
    for problem in problems:
        if problem.kind == "two_splits":
            continue
        case = cases.get(problem.line or 0)
        findings.append(
            Problem(problem.text, "table")
            if problem.line is None
            else replace(problem, where="", case=case.name if case else problem.case)
        )
    return findings


def image_names(cases: Sequence[Case], root: Path) -> dict[Key, str]:
    """Each image as the CSV has it: relative to `root`, where it is in there."""
    folder = root.absolute()
    return {
        (case.name, name): str(path.relative_to(folder) if path.is_relative_to(folder) else path)
        for case in cases
        for name, path in case.images.items()
        if path is not None
    }


def _split(config: Config, cohort: Cohort, problems: Sequence[Problem]) -> tuple[dict[str, str], list[Problem]]:
    """The parts, and keys that do not fit the cohort; empty while rows have errors."""
    if problems:
        return {}, []
    try:
        assigned = split_cohort(cohort, config.split)
    except UserError as error:
        return {}, [Problem(problem.text, "configuration") for problem in error.problems]
    problems = key_problems(config, cohort, assigned)
    return assigned, [Problem(problem.text, "configuration") for problem in problems]


def _drawn(cases: Sequence[Case], seed: int) -> frozenset[str]:
    names = [case.name for case in cases]
    if len(names) > MAX_PICTURED:
        generator = np.random.default_rng(np.random.SeedSequence((_PICTURED, seed)))
        names = [names[number] for number in generator.choice(len(names), MAX_PICTURED, replace=False)]
    return frozenset(names)


def _privacy(cases: Sequence[Case], modalities: Sequence[str], facts: Mapping[Key, ImageFacts]) -> list[Problem]:
    """How many headers and names of files name a person: numbers only."""
    findings = []
    for name in modalities:
        headers = [one.header for case in cases if (one := facts.get((case.name, name)))]
        num_dicom = sum(bool(header.modality or header.scanner or header.identifiers) for header in headers)
        counts = Counter(keyword for header in headers for keyword in header.identifiers)
        for keyword, count in sorted(counts.items()):
            what = _IDENTIFIED.get(keyword, f"{keyword} is filled in")
            findings.append(Problem(f"{what}: {count} of {num_dicom} DICOM images", "identifiers", modality=name))
        paths = [path for case in cases if (path := case.images[name]) is not None]
        if dated := names_with_dates(paths):
            findings.append(Problem(f"{dated} of {len(paths)} files", "dated_names", modality=name))
    return findings


def _remarks(
    cases: Sequence[Case], modalities: Sequence[str], facts: Mapping[Key, ImageFacts], site_column: str
) -> list[str]:
    remarks = []
    if len(cases) > MAX_PICTURED:
        remarks.append(f"The contact sheets show {MAX_PICTURED} of {len(cases)} cases, drawn by split.seed.")
    large = [name for name in modalities if sum((case.name, name) in facts for case in cases) > MANY]
    if large:
        remarks.append(
            f"Of {', '.join(large)} there are more than {MANY} images: near-duplicates were searched in the stored "
            "orientation only, not rotated or mirrored."
        )
    if not any(case.extra.get(site_column) for case in cases):
        remarks.append(
            f"The cohort has no column {site_column!r}: nothing was tested by site. If another column has it: "
            "data.columns.site=COLUMN."
        )
    if (num_patients := len({case.patient for case in cases})) < FEW_PATIENTS:
        remarks.append(
            f"{num_patients} patients are too few for the tables and the shortcut's score: if they find nothing, "
            "that is little evidence."
        )
    return remarks
