"""Keeps near-duplicates beside the cache, so that training can report them.

CACHE/near_duplicates/HASH.json     one file a cohort that was checked: pairs of the images' content hashes

Images are identified by content, so changed or removed images, and two of one patient, are not reported; and no
name of a case, a patient or a file is kept.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vwmm.config.run_folder import write_whole
from vwmm.data.checks.duplicates import Key
from vwmm.data.cohort.cases import Cohort

_FOLDER = "near_duplicates"
_MAX_PLACES = 20  # of one image; more copies in the cohort are reported elsewhere
Hashes = Mapping[str, Mapping[str, str]]
"""Content hash of each image, by case and modality."""


@dataclass(frozen=True)
class NearPair:
    """Two images of two patients that are almost the same."""

    first: Key
    """The one that stands earlier in the table."""
    second: Key
    """The other one."""
    likeness: float
    """From 0 to 1: they have the same voxels."""


def keep_near_pairs(cache_dir: Path, cohort: Cohort, pairs: Sequence[NearPair], hashes: Hashes) -> None:
    """Stores the findings of a check of the cohort; replaces those of an earlier one. Raises OSError.

    hashes: of the images of the pairs at least.
    """
    path = cache_dir / _FOLDER / f"{cohort.content_hash()}.json"
    if not pairs:
        path.unlink(missing_ok=True)
        return
    rows = [
        [*(hashes[case][name] for case, name in (pair.first, pair.second)), round(pair.likeness, 4)] for pair in pairs
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"pairs": sorted(rows)}) + "\n")


def find_near_pairs(cache_dir: Path, cohort: Cohort, hashes: Hashes) -> list[NearPair]:
    """The pairs that any check has found and that are two patients' images in this cohort, by line."""
    places = defaultdict[str, list[Key]](list)
    cases = {case.name: case for case in cohort.cases}
    for name in cases:
        for modality, content in hashes.get(name, {}).items():
            places[content].append((name, modality))
    found = dict[tuple[Key, Key], float]()
    for one, other, likeness in _rows(cache_dir):
        for key in places.get(one, [])[:_MAX_PLACES]:
            for partner in places.get(other, [])[:_MAX_PLACES]:
                if cases[key[0]].patient != cases[partner[0]].patient:
                    first, second = sorted((key, partner), key=lambda key: (cases[key[0]].line, key[1]))
                    found[first, second] = likeness
    pairs = [NearPair(first, second, likeness) for (first, second), likeness in found.items()]
    return sorted(
        pairs, key=lambda pair: (cases[pair.second[0]].line, cases[pair.first[0]].line, pair.second, pair.first)
    )


def across_parts(pairs: Iterable[NearPair], assigned: Mapping[str, str]) -> list[NearPair]:
    """Those of which one image is in another part of the split than the other."""
    return [pair for pair in pairs if assigned[pair.first[0]] != assigned[pair.second[0]]]


def describe(pairs: Iterable[NearPair], cohort: Cohort, assigned: Mapping[str, str]) -> list[str]:
    """The pairs for a log."""
    lines = {case.name: case.line for case in cohort.cases}
    return [_describe(pair, cohort.csv_path.name, lines, assigned) for pair in pairs]


def _describe(pair: NearPair, table: str, lines: Mapping[str, int], assigned: Mapping[str, str]) -> str:
    (first, modality), (second, name) = pair.first, pair.second
    how = "has the voxels of" if pair.likeness >= 1 else f"is alike by {pair.likeness:.2f} to"
    parts = sorted({assigned[first], assigned[second]})
    apart = f", and one is in {parts[0]!r}, one in {parts[1]!r}" if len(parts) > 1 else ""
    other = f"line {lines[first]}: {modality} of case {first}, of another patient"
    own = f"{table} line {lines[second]}: {name} of case {second}"
    return f"{own} {how} {other}, as `vwmm check` found{apart}: is it one person?"


def _rows(cache_dir: Path) -> Iterator[tuple[str, str, float]]:
    """(content, content, likeness) of every pair in the records; damaged ones are ignored."""
    for path in sorted((cache_dir / _FOLDER).glob("*.json")):
        try:
            rows = [
                (str(one), str(other), float(value)) for one, other, value in json.loads(path.read_bytes())["pairs"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield from rows
