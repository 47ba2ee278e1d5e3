"""Acquisition parameters by patient and label, for the association tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vwmm.analysis.association.confounding import Association, associations
from vwmm.analysis.association.shortcut import Shortcut, shortcut_score
from vwmm.data.checks.duplicates import Key
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.cohort.cases import Case
from vwmm.system.problems import Problem

UNKNOWN = "not stated"


@dataclass(frozen=True)
class Acquisition:
    """The results of the tests."""

    tables: Sequence[Association]
    """The label against each fact."""
    shortcut: Shortcut | None
    """How well all of them together predict the label; None if it cannot be computed."""
    findings: Sequence[Problem]
    """Warnings."""


def survey_acquisition(
    cases: Sequence[Case], modalities: Sequence[str], facts: Mapping[Key, ImageFacts], site_column: str, *, seed: int
) -> Acquisition:
    """Tables, tests and the shortcut's score of the cases that have a label."""
    rows: dict[tuple[str, str], Case] = {}
    for case in cases:
        if case.label is not None:
            rows.setdefault((case.patient, case.label), case)
    kept = list(rows.values())
    labels, patients = [str(case.label) for case in kept], [case.patient for case in kept]
    tables = associations(labels, _for_tables(kept, modalities, facts, site_column), seed=seed)
    shortcut = shortcut_score(labels, patients, acquisition_facts(kept, modalities, facts, site_column), seed=seed)
    findings = [
        Problem(
            f"label by {one.name}: Cramér's V {one.strength:.2f}, p {_small(one.corrected)} (Holm, "
            f"N = {one.num_patients} patients): {one.telling}",
            "confounded",
        )
        for one in tables
        if one.is_suspicious
    ]
    if shortcut is not None and shortcut.is_suspicious:
        findings.append(Problem(describe_shortcut(shortcut), "shortcut"))
    return Acquisition(tables, shortcut, findings)


def describe_shortcut(shortcut: Shortcut) -> str:
    """The score in words."""
    span = shortcut.interval
    interval = f", 95 % interval {span.low:.2f} to {span.high:.2f}" if span else ""
    return (
        f"acquisition parameters alone predict the label with a balanced accuracy of {shortcut.score:.2f}"
        f"{interval} (chance {shortcut.chance:.2f}, p {_small(shortcut.probability)}, AUROC {shortcut.auroc:.2f}, "
        f"N = {shortcut.num_rows}); it depends most on: {', '.join(shortcut.telling) or 'nothing in particular'}"
    )


def missing_pattern(case: Case, modalities: Sequence[str]) -> str:
    """The modalities that a case has."""
    return " + ".join(name for name in modalities if case.images[name] is not None) or "none"


def _for_tables(
    cases: Sequence[Case], modalities: Sequence[str], facts: Mapping[Key, ImageFacts], site_column: str
) -> dict[str, list[str | None]]:
    table: dict[str, list[str | None]] = {
        "missing images": [missing_pattern(case, modalities) for case in cases],
    }
    if any(site_column in case.extra for case in cases):
        table[site_column] = [case.extra.get(site_column) or UNKNOWN for case in cases]
    for name in modalities:
        own = [facts.get((case.name, name)) for case in cases]
        if any(one is not None and one.header.scanner for one in own):
            table[f"scanner of {name}"] = [None if one is None else one.header.scanner or UNKNOWN for one in own]
        if any(one is not None and one.spacing_mm for one in own):
            table[f"voxel size of {name}"] = [None if one is None else spacing_text(one) for one in own]
    return table


def acquisition_facts(
    cases: Sequence[Case], modalities: Sequence[str], facts: Mapping[Key, ImageFacts], site_column: str
) -> dict[str, Sequence[Any]]:
    """How the images of each case were taken: by name, of each case a text or a number, NaN where it is not known."""
    nothing = float("nan")
    table: dict[str, Sequence[Any]] = {site_column: [case.extra.get(site_column, "") for case in cases]}
    for name in modalities:
        own = [facts.get((case.name, name)) for case in cases]
        table[f"{name} missing"] = [float(case.images[name] is None) for case in cases]
        table[f"scanner of {name}"] = ["" if one is None else one.header.scanner for one in own]
        table[f"format of {name}"] = ["" if one is None else one.format for one in own]
        table[f"file date of {name}"] = [nothing if one is None else float(one.day) for one in own]
        for axis in range(3):
            table[f"matrix of {name} (axis {axis})"] = [
                nothing if one is None or len(one.shape) <= axis else float(one.shape[axis]) for one in own
            ]
            table[f"voxel size of {name} (axis {axis})"] = [
                nothing
                if one is None or not one.spacing_mm or len(one.spacing_mm) <= axis
                else round(one.spacing_mm[axis], 3)
                for one in own
            ]
    return table


def spacing_text(facts: ImageFacts) -> str:
    """The voxel size to two digits, so that what differs by a rounding is the same."""
    if not facts.spacing_mm:
        return UNKNOWN
    return " x ".join(f"{length:.2g}" for length in facts.spacing_mm) + " mm"


def _small(probability: float) -> str:
    return "< 0.0001" if probability < 0.0001 else f"= {probability:.2g}"
