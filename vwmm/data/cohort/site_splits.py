"""Splits by site: stratified by site, or whole sites held out.

Sites are the patients' own; a draw depends on names, labels, sites and the generator, never on the order of the rows.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vwmm.data.cohort.cases import Case, Cohort
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

_NUM_ORDERS = 256


def sites_of_patients(cohort: Cohort, by_site: str) -> dict[str, str]:
    """The site of each patient; raises UserError with every case that has none, or another one than before."""
    name = cohort.csv_path.name
    if all(case.site is None for case in cohort.cases):
        raise UserError(f"split.by_site={by_site}: {name} has no column of sites; set data.columns.site")
    problems, first = list[Problem](), dict[str, Case]()
    for case in cohort.cases:
        before = first.setdefault(case.patient, case)
        if not case.site:
            found = "the site is empty, which split.by_site needs; fill it in"
            problems.append(Problem(found, "table", case.line, case.name, where=name))
        elif before.site and case.site != before.site and by_site == "hold_out":
            found = (
                f"patient {case.patient} is of site {case.site}, but of {before.site} in line {before.line}: "
                "split.by_site=hold_out would tear the patient apart"
            )
            problems.append(Problem(found, "table", case.line, case.name, where=name))
    if problems:
        raise UserError(problems)
    return {patient: str(case.site) for patient, case in first.items()}


def check_named_sites(named: Mapping[str, Sequence[str] | None], known: Sequence[str]) -> None:
    """Raises UserError with every site that a key names and no patient is of; named: by key."""
    problems = [
        Problem(f"no case is of site {site!r}; the sites are {', '.join(known)}", key=key)
        for key, sites in named.items()
        for site in sites or ()
        if site not in known
    ]
    if problems:
        raise UserError(problems)


def draw_evenly(
    patients: Sequence[str], labels: Sequence[str], sites: Sequence[str], wanted: int, generator: np.random.Generator
) -> list[str]:
    """So many patients, each label and each site of it in proportion, to within one patient.

    Within a label the patients are ordered by site, at random within a site, and every so-manieth is taken from a
    random start: systematic sampling (Madow and Madow 1944, Ann. Math. Statist. 15:1-24). `wanted` leaves at least one
    patient of each label on both sides.
    """
    order, drawn = generator.permutation(len(patients)), list[str]()
    for label, quota in sorted(_quotas(wanted, Counter(labels)).items()):
        members = sorted((n for n in order if labels[n] == label), key=lambda n: sites[n])
        start, step = generator.random(), len(members) / quota
        drawn += [patients[members[int((start + turn) * step)]] for turn in range(quota)]
    return drawn


def deal_evenly(
    patients: Sequence[str], labels: Sequence[str], sites: Sequence[str], folds: int, generator: np.random.Generator
) -> dict[str, int]:
    """The fold of each patient: the patients, sorted by label and site, are dealt out in turn.

    So the folds differ by one patient at most, over all, in each label, and in each site of a label.
    """
    order = generator.permutation(len(patients))
    dealt = sorted(order, key=lambda n: (labels[n], sites[n]))
    numbers = generator.permutation(folds)  # else fold 0 would always be among the larger ones
    return {patients[n]: int(numbers[turn % folds]) for turn, n in enumerate(dealt)}


def draw_sites(
    labels: Sequence[str], sites: Sequence[str], wanted: int, generator: np.random.Generator, *, left: int
) -> set[str]:
    """Whole sites with about `wanted` patients; at least `left` sites remain.

    labels, sites: of each patient. Among the beginnings of random orders of the sites, the one is taken after which
    the fewest labels are missing on either side, and of those the one nearest to `wanted`.
    """
    of_site: dict[str, Counter[str]] = {}
    for label, site in zip(labels, sites, strict=True):
        of_site.setdefault(site, Counter())[label] += 1
    names, total = sorted(of_site), Counter(labels)
    best: tuple[int, int] | None = None
    chosen: set[str] = set()
    for _ in range(_NUM_ORDERS):
        order, inside = generator.permutation(len(names)), Counter[str]()
        for end in range(1, len(names) - left + 1):
            inside += of_site[names[order[end - 1]]]
            missing = sum(inside[label] in (0, count) for label, count in total.items())
            cost = (missing, abs(inside.total() - wanted))
            if best is None or cost < best:
                best, chosen = cost, {names[n] for n in order[:end]}
    return chosen


def fold_sites(
    patients: Sequence[str], labels: Sequence[str], sites: Sequence[str], folds: int, seed: int
) -> dict[str, int]:
    """The fold of each patient; each site is in one fold, and labels are spread as far as that allows."""
    from sklearn.model_selection import StratifiedGroupKFold

    if (count := len(set(sites))) < folds:
        raise UserError(f"split.folds={folds}: there are {count} sites, fewer than folds (split.by_site=hold_out)")
    if max(Counter(labels).values()) < folds:
        raise UserError(f"split.folds={folds}: no label has as many patients as there are folds; fewer folds")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        kind = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        found = [list(held_out) for _, held_out in kind.split(patients, labels, groups=sites)]
    if empty := [number for number, members in enumerate(found) if not members]:
        raise UserError(f"split.folds={folds}: no site is left for fold {empty[0]}; fewer folds, or another split.seed")
    return {patients[n]: number for number, members in enumerate(found) for n in members}


def _quotas(wanted: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """How many of each label, in proportion by largest remainders; at least one of each, and at least one is left."""
    total = sum(sizes.values())
    quotas = {label: min(max(1, wanted * size // total), size - 1) for label, size in sizes.items()}
    while missing := wanted - sum(quotas.values()):
        turn = 1 if missing > 0 else -1
        able = [label for label, size in sorted(sizes.items()) if 1 <= quotas[label] + turn < size]
        nearest = max(able, key=lambda label: turn * (wanted * sizes[label] / total - quotas[label]))
        quotas[nearest] += turn
    return quotas
