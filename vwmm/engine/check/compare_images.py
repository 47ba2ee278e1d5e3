"""Finds near-duplicates in worker processes.

Images are compared within a modality, slices and volumes by themselves, and of equal ones the first only. Where a pair
is found there may be more of the same, so both are then compared with many others. Many images that are all alike are
found as one group, each connected with the others by pairs that are alike, without a look at all its pairs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vwmm.data.cache.content_index import content_hash
from vwmm.data.checks.duplicates import Key
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.checks.near_duplicate_record import NearPair, keep_near_pairs
from vwmm.data.checks.near_duplicates import (
    Candidate,
    Pair,
    PairJob,
    as_pair,
    candidates,
    jobs_of,
    judge,
    near_pairs,
    pair_jobs,
)
from vwmm.data.checks.worker_pool import Died, for_each
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.engine.console import ProgressBar
from vwmm.system.problems import Problem

# Of so many connected images all pairs are looked at; of more only those that connect them with others.
_WHOLE = 16
# Pairs of a connected group that are looked at in the first round, and how many times as many in each further one.
_FIRST_ROUND, _MORE = 64, 4
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
    waiting: dict[Pair, Candidate] = field(default_factory=dict)
    """Pairs that are worth a look, and that nobody has looked at."""
    num_at_once: int = 0
    """How many pairs a connected group of images gets in the next round."""

    def next_jobs(self) -> list[PairJob]:
        """The best partners of each image; then, as long as there are new ones, more partners of those with a copy."""
        patients = [case.patient for case in self.cases]
        if not self.num_at_once:
            self.num_at_once = _FIRST_ROUND
            return pair_jobs(self.miniatures, patients)
        if copied := {number for pair in self.alike for number in pair} - self.expanded:
            self.expanded |= copied
            known = self.judged | self.waiting.keys()
            found = candidates(self.miniatures, patients, copied=copied, judged=known)
            self.waiting |= {as_pair(*one[:2]): one for one in reversed(found)}
        return jobs_of(self.miniatures, self._choose())

    def _choose(self) -> list[Candidate]:
        """Pairs to look at now: in each round more of a group, so that those that get connected meanwhile are left."""
        labels = self.labels()
        is_large = np.bincount(labels) > _WHOLE
        chosen, num_taken = list[Candidate](), Counter[int]()
        for pair in sorted(self.waiting):
            first, second = (int(labels[number]) for number in pair)
            if first == second and is_large[first]:
                del self.waiting[pair]
            elif max(num_taken[first], num_taken[second]) < self.num_at_once:
                num_taken.update({first, second})
                chosen.append(self.waiting.pop(pair))
        self.num_at_once *= _MORE
        return chosen

    def labels(self) -> np.ndarray:
        """(N,) a number for each connected group of images that are alike."""
        ends = np.array(list(self.alike), dtype=int).reshape(-1, 2).T
        edges = coo_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(len(self.cases),) * 2)
        return np.asarray(connected_components(edges, directed=False)[1])

    def learn(self, job: PairJob, values: np.ndarray) -> None:
        """Takes in how alike the pairs of a job are."""
        self.judged |= {as_pair(*pair) for pair in job.numbers}
        self.alike |= near_pairs([(job, values)])


def near_duplicates(
    cases: Sequence[Case],
    modalities: Sequence[str],
    facts: MutableMapping[Key, ImageFacts],
    files: Mapping[Key, str],
    *,
    num_workers: int,
) -> tuple[list[Problem], list[NearPair]]:
    """One finding for each image that is alike to an earlier one of another patient, and pairs that connect them all.

    facts: their miniatures become parts of one array. files: each as the CSV has it.
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


def _group(cases: Sequence[Case], name: str, dims: int, facts: MutableMapping[Key, ImageFacts]) -> _Group | None:
    firsts: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.line):
        if (one := facts.get((case.name, name))) is not None and one.miniature.ndim == dims:
            firsts.setdefault(one.content, case)
    own = list(firsts.values())
    if len(own) < 2:
        return None
    miniatures = np.empty((len(own), *facts[own[0].name, name].miniature.shape), np.uint8)
    for number, case in enumerate(own):
        one = facts[case.name, name]
        miniatures[number] = one.miniature
        facts[case.name, name] = replace(one, miniature=miniatures[number])  # else each would be there twice
    return _Group(name, own, miniatures)


def _pairs(group: _Group) -> list[NearPair]:
    return [
        NearPair(
            (group.cases[one].name, group.modality), (group.cases[other].name, group.modality), min(value, _NEARLY)
        )
        for (one, other), value in sorted(group.alike.items())
    ]


def _findings(group: _Group, files: Mapping[Key, str]) -> list[Problem]:
    """Each image but the first of a connected group with the first one that it is alike to."""
    partners = defaultdict[int, dict[int, float]](dict)
    for (one, other), value in sorted(group.alike.items()):
        partners[one][other] = partners[other][one] = value
    labels, findings, name = group.labels(), [], group.modality
    begun = set[int]()
    for number in sorted(partners):
        if labels[number] not in begun:
            begun.add(int(labels[number]))
            continue
        partner = min(partners[number])
        first, second = group.cases[partner], group.cases[number]
        text = (
            f"is alike by {partners[number][partner]:.2f} to line {first.line}: case {first.name} of patient "
            f"{first.patient}: {name} {files[first.name, name]}"
        )
        findings.append(Problem(text, "near_duplicate", second.line, second.name, name, files[second.name, name]))
    return findings
