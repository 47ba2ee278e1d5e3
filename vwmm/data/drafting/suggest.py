"""Proposes patterns for a folder tree."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

from vwmm.data.drafting.dicom_series import Series
from vwmm.data.drafting.draft import part_of
from vwmm.data.drafting.patterns import compile_pattern
from vwmm.data.drafting.tree import Tree
from vwmm.data.readers.read import known_suffixes

MAX_PROPOSED = 12
DESCRIPTION = "dataset_description.json"
_BIDS = re.compile(r"sub-[^/]+/(?P<session>ses-[^/]+/)?(?P<kind>[a-z]+)/[^/]*_(?P<suffix>[A-Za-z0-9]+\.nii(?:\.gz)?)")


def is_image(path: str) -> bool:
    """Whether a file's name ends as an image's does."""
    return path.lower().endswith(tuple(known_suffixes()))


def propose_patterns(tree: Tree, series: Sequence[Series]) -> list[tuple[str, int]]:
    """(`MODALITY=PATTERN`, how many images it means), the most frequent first."""
    if DESCRIPTION in tree.files:
        parted = {_kind_of(file) for file in tree.files if part_of(file)}
        texts = dict.fromkeys(text for file in tree.files if (text := _of_bids(file, parted)))
        return _ranked(Counter({text: _count(text.partition("=")[2], tree.files) for text in texts}))
    folders, whole = set(tree.folders), {found.path for found in series}
    places = [f"{found.path}/" if found.path in folders else found.path for found in series if not found.num_others]
    places += [file for file in tree.files if is_image(file) and not {file, file.rpartition("/")[0]} & whole]
    images = [_parts(place) for place in places]
    level = _patient_level(images)
    return _ranked(Counter(text for parts in images if (text := _of_parts(parts, level))))


def propose_series(series: Sequence[Series]) -> list[tuple[str, int]]:
    """(`MODALITY=DESCRIPTION`, of how many patients), the most frequent first."""
    patients: dict[str, set[str]] = {}
    for found in series:
        if found.description and "=" not in found.description:
            patients.setdefault(found.description, set()).add(found.patient_id)
    return _ranked(Counter({f"{_word(name)}={_literal(name)}": len(of) for name, of in patients.items()}))


def _parts(place: str) -> list[str]:
    """The names of a path, the last without its suffix, and what repeats an earlier name written as `*`."""
    *folders, last = place.rstrip("/").split("/")
    suffix = max((end for end in known_suffixes() if last.lower().endswith(end)), key=len, default="")
    cut = len(last) if place.endswith("/") else len(last) - len(suffix)
    stem, end = last[:cut], "/" if place.endswith("/") else last[cut:]
    for name in folders:
        if len(name) > 1 and name in stem:
            stem = stem.replace(name, "*", 1)
    return [*folders, stem, end]


def _patient_level(images: Sequence[list[str]]) -> int:
    """The level with the most different names; the first of equals."""
    depth = max((len(parts) - 1 for parts in images), default=0)
    counts = [len({parts[level] for parts in images if len(parts) - 1 > level}) for level in range(depth)]
    return counts.index(max(counts)) if counts else 0


def _of_parts(parts: Sequence[str], level: int) -> str:
    """The pattern of one image; empty where it lies above the patients."""
    *names, suffix = parts
    if level >= len(names):
        return ""
    others = [name for number, name in enumerate(names) if number != level]
    written = [_literal(name) for name in names]
    written[level] = "{patient}"
    return f"{_word('_'.join(others) or 'image')}={'/'.join(written)}{suffix}"


def _of_bids(file: str, parted: Collection[str]) -> str:
    """The pattern of a file of a BIDS data set. parted: the kinds of which some files are magnitudes or phases."""
    match = _BIDS.fullmatch(file)
    if not match:
        return ""
    name, session = _word(match["suffix"].split(".")[0]), "ses-{session}/" if match["session"] else ""
    start = f"sub-{{patient}}/{session}{match['kind']}/"
    if part := part_of(file):  # magnitude and phase are images of different kinds
        return f"{name}_{part}={start}*_part-{part}*_{match['suffix']}"
    if _kind_of(file) in parted and len(file.rpartition("/")[2].split("_")) == (3 if session else 2):
        return f"{name}={start}sub-{{patient}}{'_ses-{session}' if session else ''}_{match['suffix']}"
    return f"{name}={start}*_{match['suffix']}"


def _kind_of(file: str) -> str:
    """The last folder and the suffix of a file of a BIDS data set; empty of any other."""
    match = _BIDS.fullmatch(file)
    return f"{match['kind']}/{match['suffix']}" if match else ""


def _count(pattern: str, files: Sequence[str]) -> int:
    regex = compile_pattern(pattern)
    return sum(regex.fullmatch(file) is not None for file in files)


def _ranked(counts: "Counter[str]") -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_PROPOSED]


def _literal(text: str) -> str:
    """A name as a pattern: what has a meaning there stands for any character."""
    return "".join("?" if c in "{}?[]" or not c.isprintable() else c for c in text)


def _word(text: str) -> str:
    """A modality's name made from a file's."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower() or "image"
