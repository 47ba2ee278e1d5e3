"""Draws parts and folds of patients, stratified by label and by site.

The draw depends on the patients' names, labels and sites and on the seed; never on the order of the rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vwmm.config.schema import Split
from vwmm.data.cohort.cases import SPLITS, Case, Cohort
from vwmm.data.cohort.site_splits import (
    check_named_sites,
    deal_evenly,
    draw_evenly,
    draw_sites,
    fold_sites,
    sites_of_patients,
)
from vwmm.system.errors import UserError


def sites_to_draw_by(cohort: Cohort, split: Split) -> dict[str, str]:
    """The site of each patient, where the draw looks at it."""
    if split.by_site is None:
        return {}
    sites = sites_of_patients(cohort, split.by_site)
    named = {"split.val_sites": split.val_sites, "split.test_sites": split.test_sites}
    check_named_sites(named, sorted(set(sites.values())))
    return sites


def draw_parts(cohort: Cohort, split: Split) -> dict[str, str]:
    """`train`, `val` or `test` for each case's name."""
    part_of: dict[str, str] = {}
    sites = sites_to_draw_by(cohort, split)
    for part, fraction in (("test", split.test_fraction), ("val", split.val_fraction)):
        part_of |= draw_part(cohort, split, part, fraction, taken=part_of, sites=sites)
    return {case.name: part_of.get(case.patient, "train") for case in cohort.cases}


def draw_part(
    cohort: Cohort, split: Split, part: str, fraction: float, *, taken: Mapping[str, str], sites: Mapping[str, str]
) -> dict[str, str]:
    """The part of each patient drawn for it, from those not `taken`; `fraction` is of all patients."""
    named = split.test_sites if part == "test" else split.val_sites
    if named is not None:
        return {patient: part for patient, site in sites.items() if site in named}
    if fraction == 0:
        return {}
    wanted = max(1, round(fraction * len({case.patient for case in cohort.cases})))
    spoken_for = split.val_sites or () if part == "test" else ()
    patients, labels = _patients(
        [case for case in cohort.cases if case.patient not in taken and sites.get(case.patient) not in spoken_for]
    )
    if split.by_site == "hold_out":
        left = 2 if part == "test" and split.val_sites is None else 1
        return dict.fromkeys(_draw_whole_sites(patients, labels, sites, wanted, split, part, left), part)
    return dict.fromkeys(_draw_patients(patients, labels, wanted, split, part, sites), part)


def draw_folds(cases: Sequence[Case], split: Split, sites: Mapping[str, str]) -> dict[str, int]:
    """The fold of each patient, 0 to `split.folds` - 1."""
    if split.folds is None:
        raise UserError(f"split.fold={split.fold}: set their number (split.folds=5), or add a column 'fold' to the CSV")
    patients, labels = _patients(cases)
    if len(patients) < split.folds:
        raise UserError(f"split.folds={split.folds}: there are {len(patients)} patients, fewer than folds")
    strata, of_patients = labels if split.stratified else [""] * len(labels), [sites.get(name, "") for name in patients]
    if split.by_site == "hold_out":
        return fold_sites(patients, strata, of_patients, split.folds, split.seed)
    rarest, count = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if split.stratified and count < split.folds:
        raise UserError(
            f"split.folds={split.folds}: label {rarest!r} has {count} patients, fewer than folds; "
            "fewer folds, or split.stratified=false"
        )
    if split.by_site == "stratify":
        return deal_evenly(patients, strata, of_patients, split.folds, np.random.default_rng(split.seed))
    fold_of = deal_folds(labels, split.folds, split.seed, stratified=split.stratified)
    return dict(zip(patients, fold_of, strict=True))


def _patients(cases: Sequence[Case]) -> tuple[list[str], list[str]]:
    """Each patient, sorted, with the label that stratifies it: its most frequent, on a tie the rarest of the cohort."""
    labels: dict[str, Counter[str]] = {}
    for case in cases:
        labels.setdefault(case.patient, Counter())[str(case.label)] += 1
    total = Counter(str(case.label) for case in cases)
    names = sorted(labels)
    return names, [min(labels[name], key=lambda label: (-labels[name][label], total[label], label)) for name in names]


def _generator(split: Split, part: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((split.seed, SPLITS.index(part))))


def _draw_whole_sites(
    patients: list[str], labels: list[str], sites: Mapping[str, str], wanted: int, split: Split, part: str, left: int
) -> list[str]:
    of_patients = [sites[name] for name in patients]
    if (count := len(set(of_patients))) <= left:
        named = [f"split.{key}" for key in ("test_sites", "val_sites") if getattr(split, key)]
        raise UserError(
            f"split.by_site=hold_out: {left + 1} sites are needed to set one aside as {part!r} and keep {left} for the "
            f"other parts; found {count}" + "".join(f" beside those of {key}" for key in named)
        )
    strata = labels if split.stratified else [""] * len(labels)
    chosen = draw_sites(strata, of_patients, wanted, _generator(split, part), left=left)
    return [name for name in patients if sites[name] in chosen]


def _draw_patients(
    patients: list[str], labels: list[str], wanted: int, split: Split, part: str, sites: Mapping[str, str]
) -> list[str]:
    classes = Counter(labels)
    if split.stratified:
        # Each class needs a patient on both sides; a small cohort gets a part as large as that takes.
        wanted = min(max(wanted, len(classes)), len(patients) - len(classes))
    if not 0 < wanted < len(patients):
        why = f"; each part takes one of each of the {len(classes)} classes, unless split.stratified=false"
        raise UserError(
            f"split: too few patients are left to set some aside as {part!r}: {len(patients)}" + why * split.stratified
        )
    if split.stratified and min(classes.values()) < 2:
        rare = min(classes, key=lambda label: (classes[label], label))
        raise UserError(
            f"split: label {rare!r} has too few patients for {part!r}; more of them, "
            "split.test_fraction=0 or split.stratified=false"
        )
    if split.by_site == "stratify":
        strata = labels if split.stratified else [""] * len(labels)
        return draw_evenly(patients, strata, [sites[name] for name in patients], wanted, _generator(split, part))
    seed = np.random.SeedSequence((split.seed, SPLITS.index(part))).generate_state(1)[0]
    return [patients[index] for index in draw_indices(labels, wanted, int(seed), stratified=split.stratified)]


# The two draws below are scikit-learn's, number by number (`train_test_split`, `StratifiedKFold` and `KFold` of 1.8).
# Every process of every start draws, and the import of scikit-learn takes 1.1 s of CPU time.


def draw_indices(strata: Sequence[str], wanted: int, seed: int, *, stratified: bool = True) -> list[int]:
    """Draws `wanted` of the patients, in random order; of each label its share where it is stratified.

    strata: the label of each patient; each label needs 2 patients, and one for either side.
    """
    rng = np.random.RandomState(seed)
    if not stratified:
        return [int(index) for index in rng.permutation(len(strata))[:wanted]]
    _, labels, counts = np.unique(np.array(strata), return_inverse=True, return_counts=True)
    of_labels = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    num_kept = _shares(counts, len(strata) - wanted, rng)
    num_drawn = _shares(counts - num_kept, wanted, rng)
    kept, drawn = list[int](), list[int]()
    for label, indices in enumerate(of_labels):
        shuffled = indices[rng.permutation(counts[label])]
        kept += shuffled[: num_kept[label]].tolist()
        drawn += shuffled[num_kept[label] :][: num_drawn[label]].tolist()
    rng.permutation(kept)  # drawn by scikit-learn as well, before the others
    return [int(index) for index in rng.permutation(drawn)]


def _shares(counts: np.ndarray, wanted: int, rng: np.random.RandomState) -> np.ndarray:
    """How many of each label, (K,) int64: their shares, rounded so that they add up; equal remainders are drawn."""
    exact = counts / counts.sum() * wanted
    shares = np.floor(exact)
    missing = int(wanted - shares.sum())
    remainders = exact - shares
    for remainder in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        labels = np.flatnonzero(remainders == remainder)
        chosen = rng.choice(labels, size=min(len(labels), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return shares.astype(np.int64)


def deal_folds(strata: Sequence[str], num_folds: int, seed: int, *, stratified: bool = True) -> list[int]:
    """The fold of each patient, from 0; each fold has its share of each label where it is stratified."""
    rng = np.random.RandomState(seed)
    folds = np.empty(len(strata), dtype=np.int64)
    if not stratified:
        order = np.arange(len(strata))
        rng.shuffle(order)
        for number, members in enumerate(np.array_split(order, num_folds)):
            folds[members] = number
        return [int(fold) for fold in folds]
    known = {label: number for number, label in enumerate(dict.fromkeys(strata))}  # in the order of their appearance
    labels = np.array([known[label] for label in strata])
    in_order = np.sort(labels)
    sizes = np.array([np.bincount(in_order[n::num_folds], minlength=len(known)) for n in range(num_folds)])
    for label in range(len(known)):
        dealt = np.arange(num_folds).repeat(sizes[:, label])
        rng.shuffle(dealt)
        folds[labels == label] = dealt
    return [int(fold) for fold in folds]
