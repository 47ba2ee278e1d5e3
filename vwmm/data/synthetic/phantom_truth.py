"""What is hidden in the synthetic images, the class that follows from it, and the best possible accuracy.

Three hidden findings decide the class, and each shows in one modality only:

    wall_thick (vw_mri)   haemorrhage (mri)   calcification (ct)
    no_plaque: not thick;  stable_plaque: thick, calcified, no haemorrhage;  vulnerable_plaque: thick, the rest

No single modality suffices, so a model that uses all of them scores higher than one that does not (`ceilings`).
"""

from collections import defaultdict
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

MODALITIES = ("vw_mri", "mri", "ct")


class Findings(NamedTuple):
    """What is hidden in a case's images, in the order of `MODALITIES`: each is seen in that one only."""

    wall_thick: bool
    haemorrhage: bool
    calcification: bool


def label_of(findings: Findings) -> str:
    """The class, a function of the findings."""
    if not findings.wall_thick:
        return "no_plaque"
    is_stable = findings.calcification and not findings.haemorrhage
    return "stable_plaque" if is_stable else "vulnerable_plaque"


_ALL_FINDINGS = [Findings(t, h, c) for t in (False, True) for h in (False, True) for c in (False, True)]
LABELS = ("no_plaque", "stable_plaque", "vulnerable_plaque")
# The classes are equally likely, and so are the findings that make up a class.
FINDINGS_OF = {label: tuple(f for f in _ALL_FINDINGS if label_of(f) == label) for label in LABELS}


def ceilings() -> dict[frozenset[str], Fraction]:
    """The best accuracy that a model can reach on complete cases, for each of the 7 subsets of the modalities.

    The Bayes rule, by enumeration: for each thing that the subset can show, the probability of its likeliest class.
    """
    best = {}
    for size in range(1, len(MODALITIES) + 1):
        for subset in combinations(range(len(MODALITIES)), size):
            mass: dict[tuple[bool, ...], dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
            for label, choices in FINDINGS_OF.items():
                for findings in choices:
                    seen = tuple(findings[i] for i in subset)
                    mass[seen][label] += Fraction(1, len(LABELS) * len(choices))
            best[frozenset(MODALITIES[i] for i in subset)] = sum((max(m.values()) for m in mass.values()), Fraction())
    return best


def ceilings_table() -> str:
    """The ceilings as lines of text, one subset of the modalities a line."""
    rows = [(" + ".join(m for m in MODALITIES if m in subset), share) for subset, share in ceilings().items()]
    return "\n".join(f"  {name:<18} {float(share):6.1%}  ({share})" for name, share in rows)
