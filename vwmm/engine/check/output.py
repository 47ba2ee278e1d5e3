"""Writes the check's page, JSON and terminal summary."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vwmm import __version__
from vwmm.analysis.pages.check_report import Modality, Page, Thumbnail, as_json, render_check
from vwmm.analysis.pages.origin import Origin
from vwmm.data.cohort.cases import SPLITS
from vwmm.engine.check.acquisition import describe_shortcut, spacing_text
from vwmm.engine.check.cohort_check import Checked
from vwmm.system.errors import MAX_PROBLEMS_SHOWN
from vwmm.system.problems import KINDS, SEVERITIES, Problem, count_severities

SHOWN_PER_KIND = 5


def page_of(checked: Checked, origin: Origin) -> str:
    """The HTML page."""
    cohort = checked.cohort
    shortcut = checked.acquisition.shortcut
    parts = [part for part in SPLITS if part in checked.assigned.values()] or ["cases"]
    counts = Counter((case.label, checked.assigned.get(case.name, "cases")) for case in cohort.cases)
    page = Page(
        title=f"Check of {cohort.csv_path.name}",
        summary=summary(checked),
        findings=checked.findings,
        classes=[(label, [counts[label, part] for part in parts]) for label in cohort.classes],
        parts=parts,
        has_split=bool(checked.assigned),
        tables=checked.acquisition.tables,
        shortcut=_capital(describe_shortcut(shortcut)) + "." if shortcut else NO_SHORTCUT,
        is_shortcut=shortcut is not None and shortcut.is_suspicious,
        modalities=[_modality(checked, name) for name in checked.modalities],
        remarks=[*(f"{note}." for note in checked.notes), *checked.remarks],
        origin=origin,
    )
    return render_check(page)


NO_SHORTCUT = (
    "It cannot be computed how well acquisition parameters alone predict the label: nothing differs, or a class has "
    "fewer than five patients."
)


def json_of(checked: Checked) -> str:
    """All results as JSON: the same text for the same cohort with any number of workers."""
    shortcut = checked.acquisition.shortcut
    content = {
        "program": "vwmm check",
        "version": __version__,
        "cohort": str(checked.cohort.csv_path),
        "cases": len(checked.cohort.cases),
        "patients": len({case.patient for case in checked.cohort.cases}),
        "images": len(checked.facts),
        "counts": count_severities(checked.findings),
        "kinds": {kind: count for kind in KINDS if (count := sum(one.kind == kind for one in checked.findings))},
        "findings": [one.as_json() for one in checked.findings],
        "tables": [as_json(table) for table in checked.acquisition.tables],
        "shortcut": None if shortcut is None else _shortcut_json(shortcut),
        "modalities": {name: _modality_json(checked, name) for name in checked.modalities},
        "notes": list(checked.notes),
        "remarks": list(checked.remarks),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def summary(checked: Checked) -> str:
    """The result in a sentence."""
    cases = checked.cohort.cases
    counts = count_severities(checked.findings)
    found = ", ".join(_counted(counts[severity], severity) for severity in SEVERITIES if counts[severity])
    return (
        f"{_counted(len(cases), 'case')} of {_counted(len({case.patient for case in cases}), 'patient')}, "
        f"{_counted(len(checked.facts), 'image')} read: {found or 'no problem found'}"
    )


def lines_of(findings: Sequence[Problem]) -> list[str]:
    """The findings for a terminal: by kind, the first ones of each, at most as many as a screen holds."""
    lines, left = list[str](), MAX_PROBLEMS_SHOWN
    for kind, what in KINDS.items():
        found = [one for one in findings if one.kind == kind]
        if not found:
            continue
        shown = found[: min(SHOWN_PER_KIND, max(left, 1))]
        left -= len(shown)
        lines += ["", f"{what.severity}: {what.title}: {len(found)}"]
        lines += [f"  - {one.text}" for one in shown]
        lines += [f"  ... and {len(found) - len(shown)} more, in the report"] if len(found) > len(shown) else []
        lines += [f"  to do: {what.action}"] if what.action else []
    return lines


def _modality(checked: Checked, name: str) -> Modality:
    cases = checked.cohort.cases
    facts = [checked.facts[case.name, name] for case in cases if (case.name, name) in checked.facts]
    num_present = sum(case.images[name] is not None for case in cases)
    return Modality(
        name=name,
        num_present=num_present,
        num_missing=len(cases) - num_present,
        num_read=len(facts),
        shapes=Counter(" x ".join(map(str, one.shape)) for one in facts),
        spacings=Counter(spacing_text(one) for one in facts),
        levels=np.array([one.levels[1:3] for one in facts], dtype=np.float64).reshape(-1, 2),
        thumbnails=_thumbnails(checked, name),
    )


def _thumbnails(checked: Checked, name: str) -> list[Thumbnail]:
    """Of the cases that are shown, and of all images that something was found about."""
    about: dict[str, list[Problem]] = {}
    for one in checked.findings:
        if one.case and (one.modality == name or one.kind == "swapped"):
            about.setdefault(one.case, []).append(one)
    shown = []
    for case in checked.cohort.cases:
        if case.images[name] is None or case.name not in checked.pictured:
            continue
        facts, found = checked.facts.get((case.name, name)), about.get(case.name, [])
        severity = found[0].severity if found and found[0].severity != "note" else ""
        why = "; ".join(KINDS[one.kind].title for one in found)
        shown.append(Thumbnail(case.name, case.label or "", None if facts is None else facts.plane, severity, why))
    return shown


def _modality_json(checked: Checked, name: str) -> dict[str, Any]:
    one = _modality(checked, name)
    return {
        "present": one.num_present,
        "missing": one.num_missing,
        "read": one.num_read,
        "matrices": dict(sorted(one.shapes.items())),
        "voxel_sizes": dict(sorted(one.spacings.items())),
    }


def _shortcut_json(shortcut: Any) -> dict[str, Any]:
    interval = shortcut.interval
    return {
        "balanced_accuracy": round(shortcut.score, 6),
        "interval": None if interval is None else [round(interval.low, 6), round(interval.high, 6)],
        "chance": round(shortcut.chance, 6),
        "auroc": round(shortcut.auroc, 6) if shortcut.auroc == shortcut.auroc else None,
        "p": shortcut.probability,
        "rows": shortcut.num_rows,
        "telling": list(shortcut.telling),
        "is_suspicious": shortcut.is_suspicious,
    }


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
