"""Finds near-duplicates in worker processes.

Images are compared within a modality, slices and volumes by themselves, and of equal ones the first only. Where a pair
is found there may be more of the same, so both are then compared with many others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vwmm.data.cache.content_index import content_hash
from vwmm.data.checks.duplicates import Key
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.checks.near_duplicate_record import NearPair, keep_near_pairs
from vwmm.data.checks.near_duplicates import Pair, PairJob, as_pair, judge, near_pairs, pair_jobs
from vwmm.data.checks.worker_pool import Died, for_each
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.engine.console import ProgressBar
from vwmm.system.problems import Problem

# Of equal voxels the likeness is 1; no other pair is rounded to it.
_NEARLY = 0.9999


@dataclass
class _Group:
    """Images that are compared with one another, and what is known of them."""

    modality: str
    cases: Sequence[Case]
    miniatures: np.ndarray
    """(N, ...) uint8."""
    alike: dict[Pair, float] = field(default_factory=dict)
    """Pairs that were found."""
    judged: set[Pair] = field(default_factory=set)
    """All pairs that were looked at."""
    expanded: set[int] = field(default_factory=set)
    """Images that were compared with many others."""
    is_begun: bool = False

    def next_jobs(self) -> list[PairJob]:
        """The best partners of each image; then, as long as there are new ones, more partners of those with a copy."""
        copied = {number for pair in self.alike for number in pair} - self.expanded
        if self.is_begun and not copied:
            return []
        self.is_begun, self.expanded = True, self.expanded | copied
        patients = [case.patient for case in self.cases]
        return pair_jobs(self.miniatures, patients, copied=copied, judged=self.judged)

    def learn(self, job: PairJob, values: np.ndarray) -> None:
        """Takes in how alike the pairs of a job are."""
        self.judged |= {as_pair(*pair) for pair in job.numbers}
        self.alike |= near_pairs([(job, values)])


def near_duplicates(
    cases: Sequence[Case],
    modalities: Sequence[str],
    facts: Mapping[Key, ImageFacts],
    files: Mapping[Key, str],
    *,
    num_workers: int,
) -> tuple[list[Problem], list[NearPair]]:
    """One finding for each image that is alike to an earlier one of another patient, and all pairs of such images.

    files: each as the CSV has it.
    """
    groups = [
        group for name in modalities for dims in (2, 3) if (group := _group(cases, name, dims, facts)) is not None
    ]
    with ProgressBar("comparing", 0, "pair") as progress:
        while work := [(group, job) for group in groups for job in group.next_jobs()]:
            progress.to(progress.done, progress.total + sum(len(job.numbers) for _, job in work))
            jobs, found = [job for _, job in work], dict[int, np.ndarray]()
            for number, values in for_each(judge, jobs, num_workers=num_workers, preload=[judge.__module__]):
                progress.advance(len(jobs[number].numbers))
                found[number] = np.zeros(len(jobs[number].numbers)) if isinstance(values, Died) else values
            for number, (group, job) in enumerate(work):
                group.learn(job, found[number])
    findings = [finding for group in groups for finding in _findings(group, files)]
    return findings, [pair for group in groups for pair in _pairs(group)]


def keep_for_training(cache_dir: Path, cohort: Cohort, pairs: Iterable[NearPair]) -> str | None:
    """Keeps the pairs where training finds them, but for equal files, which it finds itself; None, or why it cannot."""
    paths = {case.name: case.images for case in cohort.cases}
    kept, hashes = list[NearPair](), dict[str, dict[str, str]]()
    try:
        for pair in pairs:
            found = []
            for case, name in (pair.first, pair.second):
                path = paths[case][name]
                assert path is not None
                own = hashes.setdefault(case, {})
                found.append(own[name] if name in own else own.setdefault(name, content_hash(path)))
            if found[0] != found[1]:
                kept.append(pair)
        keep_near_pairs(cache_dir, cohort, kept, hashes)
    except OSError as error:
        return (
            f"Training will not repeat the near-duplicates: they could not be kept in cache.dir, {cache_dir} "
            f"({error.strerror})."
        )
    return None


def _group(cases: Sequence[Case], name: str, dims: int, facts: Mapping[Key, ImageFacts]) -> _Group | None:
    firsts: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.line):
        if (one := facts.get((case.name, name))) is not None and one.miniature.ndim == dims:
            firsts.setdefault(one.content, case)
    own = list(firsts.values())
    return _Group(name, own, np.stack([facts[case.name, name].miniature for case in own])) if len(own) > 1 else None


def _pairs(group: _Group) -> list[NearPair]:
    return [
        NearPair(
            (group.cases[one].name, group.modality), (group.cases[other].name, group.modality), min(value, _NEARLY)
        )
        for (one, other), value in sorted(group.alike.items())
    ]


def _findings(group: _Group, files: Mapping[Key, str]) -> list[Problem]:
    """Each later image with the first one that it is alike to: as many findings as there are images too many."""
    told, findings, name = set[int](), [], group.modality
    for (one, other), value in sorted(group.alike.items()):
        first, second = group.cases[one], group.cases[other]
        if other not in told:
            told.add(other)
            text = (
                f"is alike by {value:.2f} to line {first.line}: case {first.name} of patient {first.patient}: {name} "
                f"{files[first.name, name]}"
            )
            findings.append(Problem(text, "near_duplicate", second.line, second.name, name, files[second.name, name]))
    return findings
