"""Claim: every 95 % interval that vwmm prints covers the true value in 93 to 98.5 of 100 cohorts; average precision's,
and the band of a ROC curve, in 93 or more.

Cohorts are drawn from a population whose true values are known: scores of two classes are normal, those of three have a
normal error in each logit; cases of one patient share half of their variance. Each is asked for the intervals that the
pages print. Beside them stand those of before: the percentiles of a bootstrap over patients (300 resamples; Wilson for
a share where each patient has one case). The true value differs a little from cohort to cohort, since the coverage of a
share jumps by some points from one true value to the next (Brown, Cai and DasGupta 2001). AUROC, balanced accuracy,
sensitivity and specificity: with so many patients of each class. Accuracy, predictive values, F1, Matthews'
correlation, Brier score and calibration depend on how many there are: with patients drawn at random, so many of each
class on average.

    python benchmarks/interval_coverage.py [--draws 2000] [--only WORD]      (about ten minutes on one core)

Exits with 1 where an interval is printed that covers less or more.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom, rankdata
from sklearn.metrics import average_precision_score

from vwmm.analysis.figures.decision_curve import decision_curve
from vwmm.analysis.figures.roc_band import roc_band
from vwmm.analysis.statistics import class_metrics
from vwmm.analysis.statistics.auroc_intervals import auroc_limits, macro_auroc_limits
from vwmm.analysis.statistics.bootstrap import mean_limits
from vwmm.analysis.statistics.calibration import group_limits, group_numbers
from vwmm.analysis.statistics.class_metrics import average_precision_limits
from vwmm.analysis.statistics.intervals import Limits, balanced_accuracy_limits, excess_limits, share_limits
from vwmm.analysis.statistics.logistic_calibration import calibration_intercept, calibration_slope, log_odds
from vwmm.analysis.statistics.metrics import class_ranks
from vwmm.analysis.statistics.results import NO_INTERVAL_OF_LOSS

LOWEST, HIGHEST = 0.93, 0.985
# Wider than need be in most cells.
MAY_COVER_MORE = ("average precision", "net benefit")
NUM_BEFORE = 300
SHARED_VARIANCE = 0.5
# Of intervals that are printed in so few cohorts the coverage is not known.
LEAST_SHARE = 0.1
# The threshold of the net benefit.
AT = np.array([0.3])
Arrays = Mapping[str, np.ndarray]
Found = tuple[str, float, Limits, tuple[float, float] | None]
"""A number's name, its true value, its interval, and that of before."""


@dataclass(frozen=True)
class Cell:
    """A population and how many are drawn from it."""

    name: str
    patients: tuple[int, ...]
    """Of each class."""
    auroc: float
    """About this."""
    repeats: tuple[int, ...] = (1,)
    """Cases of the patients, over and over; `extra` of the last one besides."""
    extra: int = 0
    sharpness: float = 1.0
    """The logits are so many times as large as the truth's."""


@dataclass
class Tally:
    """What came of one number in one cell."""

    method: str = "none"
    asked: int = 0
    printed: int = 0
    covered: int = 0
    width: float = 0.0
    before: list[bool] = field(default_factory=list)
    width_before: list[float] = field(default_factory=list)

    @property
    def is_printed(self) -> bool:
        """Whether the interval is printed at all: not only where chance brings a few more patients of a class."""
        return self.printed > LEAST_SHARE * self.asked

    @property
    def coverage(self) -> float:
        """Of the intervals that are printed."""
        return self.covered / self.printed

    def add(self, true: float, limits: Limits, before: tuple[float, float] | None) -> None:
        self.asked += 1
        if limits.interval is not None:
            low, high = limits.interval
            self.method, self.printed = limits.method, self.printed + 1
            self.covered += low - 1e-12 <= true <= high + 1e-12
            self.width += high - low
        elif not self.printed:
            self.method = f"none: {limits.reason}"
        if before is not None:
            self.before.append(bool(before[0] <= true <= before[1]))
            self.width_before.append(before[1] - before[0])


def cells() -> list[Cell]:
    """All of them."""
    areas = (0.6, 0.8, 0.9, 0.97)
    sizes = ((10, 10), (45, 5), (50, 10), (30, 30), (100, 100))
    found = [Cell("one case a patient", size, area) for size in sizes for area in areas]
    for size in ((10, 10), (45, 5), (50, 50)):
        found += [Cell("2 cases a patient", size, area, (2,)) for area in (0.6, 0.8, 0.97)]
    found += [Cell("one of 60 has 2 cases", (50, 10), area, extra=1) for area in (0.6, 0.8, 0.97)]
    for size, number in (((10, 10), 10), ((20, 5), 5), ((4, 4), 20)):
        found += [Cell(f"{number} cases a patient", size, area, (number,)) for area in (0.6, 0.8, 0.97)]
    found += [Cell("1 to 6 cases a patient", (20, 20), area, (1, 2, 3, 6)) for area in (0.6, 0.8, 0.97)]
    for size in ((10, 10), (50, 10), (100, 100)):
        found += [Cell("overconfident", size, area, sharpness=3) for area in (0.8, 0.97)]
    for three in ((10, 10, 10), (45, 20, 5), (100, 100, 100)):
        found += [Cell("3 classes", three, area) for area in (0.6, 0.8, 0.97)]
    return found


def draw(generator: np.random.Generator, cell: Cell, skill: float, labels: np.ndarray) -> Arrays:
    """Cases of patients of these classes: labels, patients, probabilities."""
    counts = np.resize(cell.repeats, len(labels))
    counts[-1] += cell.extra
    patients = np.repeat(np.arange(len(labels)), counts)
    num_classes, num_cases = len(cell.patients), len(patients)
    width = 1 if num_classes == 2 else num_classes
    shared = SHARED_VARIANCE if num_cases > len(labels) else 0.0
    noise = np.sqrt(1 - shared) * generator.normal(size=(num_cases, width))
    if shared:
        noise += np.sqrt(shared) * generator.normal(size=(len(labels), width))[patients]
    of_case = labels[patients]
    if num_classes == 2:
        logits = np.zeros((num_cases, 2))
        logits[:, 1] = skill * (noise[:, 0] + skill * (of_case - 0.5))
    else:
        logits = noise + skill * np.eye(num_classes)[of_case]
    logits = cell.sharpness * (logits - logits.max(axis=1, keepdims=True))
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return {"labels": of_case, "patients": patients, "probabilities": probabilities}


def values_of(cell: Cell, drawn: Arrays, *, is_mixed: bool) -> dict[str, float]:
    """The numbers themselves, of a very large draw: the true values."""
    labels, probabilities = drawn["labels"], drawn["probabilities"]
    right = probabilities.argmax(axis=1) == labels
    if is_mixed:
        of_true = probabilities[np.arange(len(labels)), labels]
        squares = ((probabilities - np.eye(len(cell.patients))[labels]) ** 2).sum(axis=1) / 2
        score, hit = _judged(cell, drawn)
        called = probabilities.argmax(axis=1) == 1
        return {
            "accuracy": right.mean(),
            "precision": (labels[called] == 1).mean(),
            "brier": squares.mean(),
            "loss": -np.log(of_true).mean(),
            "excess": (score - hit).mean(),
            **_further_values(cell, drawn),
        }
    areas = [_area(labels == k, probabilities[:, k]) for k in range(len(cell.patients))]
    return {
        "auroc": float(np.mean(areas)),
        "auroc of a class": areas[1],
        "average precision": float(average_precision_score(labels == 1, probabilities[:, 1])),
        "balanced accuracy": float(np.mean([right[labels == k].mean() for k in range(len(cell.patients))])),
        "sensitivity": right[labels == 1].mean(),
        "specificity": (probabilities.argmax(axis=1) != 1)[labels != 1].mean(),
    }


def find_intervals(cell: Cell, drawn: Arrays, true: Mapping[str, float], *, is_mixed: bool) -> list[Found]:
    """What the pages print for one cohort, and what they printed before."""
    labels, patients, probabilities = drawn["labels"], drawn["patients"], drawn["probabilities"]
    predicted = probabilities.argmax(axis=1)
    right, called, of_class = predicted == labels, predicted == 1, labels == 1
    if is_mixed:
        squares = ((probabilities - np.eye(len(cell.patients))[labels]) ** 2).sum(axis=1) / 2
        losses = -np.log(probabilities[np.arange(len(labels)), labels])
        score, hit = _judged(cell, drawn)
        return [
            _share("accuracy", true, right, patients),
            _share("precision", true, of_class[called], patients[called]),
            ("brier", true["brier"], mean_limits(squares, patients), _mean_before(squares, patients)),
            ("loss", true["loss"], NO_INTERVAL_OF_LOSS, _mean_before(losses, patients)),
            ("excess", true["excess"], excess_limits(score, hit, patients), _mean_before(score - hit, patients)),
            *_calibration_groups(cell, drawn),
            *_further_intervals(cell, drawn, true),
        ]
    ranks = class_ranks(probabilities)
    areas_before = _areas_before(labels, ranks, patients)
    macro = areas_before[:, 1] if len(cell.patients) == 2 else areas_before.mean(axis=1)
    limits = macro_auroc_limits(labels, ranks, patients)
    of_one = []
    if len(cell.patients) > 2:
        single = auroc_limits(of_class, ranks[:, 1], patients)
        of_one = [("auroc of a class", true["auroc of a class"], single, _percentiles(areas_before[:, 1]))]
    balanced, before = balanced_accuracy_limits(labels, predicted, patients), _balanced_before(labels, right, patients)
    return [
        ("auroc", true["auroc"], limits, _percentiles(macro)),
        *of_one,
        (
            "average precision",
            true["average precision"],
            average_precision_limits(float(average_precision_score(of_class, ranks[:, 1])), patients[of_class]),
            None,
        ),
        ("balanced accuracy", true["balanced accuracy"], balanced, before),
        _share("sensitivity", true, called[of_class], patients[of_class]),
        _share("specificity", true, ~called[~of_class], patients[~of_class]),
    ]


def _further_values(cell: Cell, drawn: Arrays) -> dict[str, float]:
    """Of cohorts as they come: negative predictive value, F1, Matthews' correlation, calibration slope, intercept."""
    labels, probabilities, num_classes = drawn["labels"], drawn["probabilities"], len(cell.patients)
    predicted = probabilities.argmax(axis=1)
    odds, hit = log_odds(probabilities, _class_judged(cell, drawn)), _judged(cell, drawn)[1]
    everyone = np.arange(len(labels))
    values = {
        "npv": float((labels[predicted != 1] != 1).mean()),
        "f1": class_metrics.macro_f1(labels, predicted, num_classes),
        "mcc": class_metrics.matthews(labels, predicted, num_classes),
        "calibration slope": calibration_slope(odds, hit, everyone).value,
        "calibration intercept": calibration_intercept(odds, hit, everyone).value,
        "net benefit": float(decision_curve(labels == 1, probabilities[:, 1], everyone, AT).model[0]),
    }
    return {name: float("nan") if value is None else value for name, value in values.items()}


def _further_intervals(cell: Cell, drawn: Arrays, true: Mapping[str, float]) -> list[Found]:
    labels, patients, num_classes = drawn["labels"], drawn["patients"], len(cell.patients)
    predicted, found = drawn["probabilities"].argmax(axis=1), list[Found]()
    found.append(_share("npv", true, (labels != 1)[predicted != 1], patients[predicted != 1]))
    if class_metrics.macro_f1(labels, predicted, num_classes) is not None:
        limits = class_metrics.macro_f1_limits(labels, predicted, patients, num_classes)
        found.append(("f1", true["f1"], limits, None))
    if class_metrics.matthews(labels, predicted, num_classes) is not None:
        limits = class_metrics.matthews_limits(labels, predicted, patients, num_classes)
        found.append(("mcc", true["mcc"], limits, None))
    curve = decision_curve(labels == 1, drawn["probabilities"][:, 1], patients, AT)
    found.append(("net benefit", true["net benefit"], curve.limits[0], None))
    odds, hit = log_odds(drawn["probabilities"], _class_judged(cell, drawn)), _judged(cell, drawn)[1]
    for name, estimate in (("slope", calibration_slope), ("intercept", calibration_intercept)):
        one = estimate(odds, hit, patients)
        if one.value is not None:
            found.append((f"calibration {name}", true[f"calibration {name}"], one.limits, None))
    return found


def _class_judged(cell: Cell, drawn: Arrays) -> np.ndarray:
    """(N,) int64: the class whose probability is judged, as in `_judged`."""
    predicted = drawn["probabilities"].argmax(axis=1)
    return np.ones_like(predicted) if len(cell.patients) == 2 else predicted


def _share(name: str, true: Mapping[str, float], hits: np.ndarray, patients: np.ndarray) -> Found:
    return name, true[name], share_limits(hits, patients), _share_before(hits, patients)


def _calibration_groups(cell: Cell, drawn: Arrays) -> list[Found]:
    """Of two classes: the share that came true in each group of cases with about the same probability."""
    if len(cell.patients) > 2:
        return []
    score, hit = _judged(cell, drawn)
    # The odds that the class numbers give, times those that the score gives; inverse, which may be 0.
    odds = cell.patients[0] / cell.patients[1] * ((1 - score) / score) ** (1 / cell.sharpness)
    group_of, patients, found = group_numbers(score), drawn["patients"], list[Found]()
    for group in np.unique(group_of):
        inside = group_of == group
        true = float((1 / (1 + odds))[inside].mean())
        before = _share_before(hit[inside], patients[inside])
        found.append(("calibration group", true, group_limits(hit[inside], patients[inside]), before))
    return found


def run_cell(cell: Cell, num_draws: int, seed: int) -> dict[str, Tally]:
    """The tallies of a cell, by number."""
    generator = np.random.default_rng(np.random.SeedSequence((7, seed)))
    lowest, highest = (_skill(cell, area) for area in (cell.auroc - 0.03, min(cell.auroc + 0.03, 0.975)))
    grid = np.linspace(lowest, highest, 5)
    fixed = np.repeat(np.arange(len(cell.patients)), cell.patients)
    # Not by class: which patients have many cases must not depend on their class.
    shares = np.array(cell.patients) / sum(cell.patients)
    many = Cell(cell.name, cell.patients, cell.auroc, sharpness=cell.sharpness)
    tallies: dict[str, Tally] = {}
    for is_mixed in (False, True):
        at_grid = []
        for skill in grid:
            labels = generator.permutation(np.resize(fixed, 120_000 // len(fixed) * len(fixed)))
            at_grid.append(values_of(cell, draw(generator, many, skill, labels), is_mixed=is_mixed))
        for skill in generator.uniform(lowest, highest, size=num_draws):
            labels = generator.choice(len(cell.patients), size=len(fixed), p=shares) if is_mixed else fixed
            drawn = draw(generator, cell, skill, generator.permutation(labels))
            true = {name: float(np.interp(skill, grid, [at[name] for at in at_grid])) for name in at_grid[0]}
            for name, value, limits, before in find_intervals(cell, drawn, true, is_mixed=is_mixed):
                tallies.setdefault(name, Tally()).add(value, limits, before)
    return tallies


def _skill(cell: Cell, auroc: float) -> float:
    """Distance of two classes' scores, or the same of three classes' logits, that gives about this area."""
    distance = float(np.sqrt(2) * ndtri(auroc))
    return distance if len(cell.patients) == 2 else distance * 0.87


def _judged(cell: Cell, drawn: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The probability whose calibration is shown, and whether it came true."""
    labels, probabilities = drawn["labels"], drawn["probabilities"]
    if len(cell.patients) == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _area(is_positive: np.ndarray, scores: np.ndarray) -> float:
    ranks, positives = rankdata(scores), int(is_positive.sum())
    won = float(ranks[is_positive].sum()) - positives * (positives + 1) / 2
    return won / (positives * (len(scores) - positives))


# The intervals of before.


@lru_cache(maxsize=4)
def _drawn(num_patients: int) -> np.ndarray:
    """(R, P) float64: how often each patient is drawn."""
    share = np.full(num_patients, 1 / num_patients)
    return np.random.default_rng(0).multinomial(num_patients, share, size=NUM_BEFORE).astype(np.float64)


def _weights(patients: np.ndarray) -> np.ndarray:
    names, groups = np.unique(patients, return_inverse=True)
    return np.asarray(_drawn(len(names))[:, groups])


def _percentiles(values: np.ndarray) -> tuple[float, float] | None:
    defined = values[np.isfinite(values)]
    if len(defined) < 0.9 * len(values) or np.ptp(defined) < 1e-12:
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _mean_before(values: np.ndarray, patients: np.ndarray) -> tuple[float, float] | None:
    weights = _weights(patients)
    return _percentiles(weights @ values / weights.sum(axis=1))


def _share_before(hits: np.ndarray, patients: np.ndarray) -> tuple[float, float] | None:
    num_patients = len(np.unique(patients))
    if num_patients == len(hits) or bool(np.all(hits == hits[:1])):
        right = num_patients if num_patients < len(hits) and hits[0] else int(hits.sum())
        return _wilson(right, num_patients) if num_patients else None
    return _mean_before(hits.astype(np.float64), patients)


def _wilson(right: int, of: int) -> tuple[float, float]:
    z, p = 1.959964, right / of
    centre, half = p + z * z / (2 * of), z * np.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return float((centre - half) / (1 + z * z / of)), float((centre + half) / (1 + z * z / of))


def _balanced_before(labels: np.ndarray, right: np.ndarray, patients: np.ndarray) -> tuple[float, float] | None:
    weights, of_class = _weights(patients), np.equal.outer(labels, np.unique(labels)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _percentiles(np.mean(weights @ (of_class * right[:, None]) / (weights @ of_class), axis=1))


def _areas_before(labels: np.ndarray, ranks: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """(R, K) float64: one-vs-rest areas of the resamples; of two classes the first column is empty."""
    weights, areas = _weights(patients), np.full((NUM_BEFORE, ranks.shape[1]), np.nan)
    for label in range(1 if ranks.shape[1] == 2 else 0, ranks.shape[1]):
        inside = labels == label
        above, below = ranks[inside, label][:, None], ranks[~inside, label][None]
        won = (above > below) + 0.5 * (above == below)  # (positives, negatives)
        positives, negatives = weights[:, inside], weights[:, ~inside]
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs = positives.sum(axis=1) * negatives.sum(axis=1)
            areas[:, label] = ((positives @ won) * negatives).sum(axis=1) / pairs
    return areas


def show(results: list[tuple[Cell, dict[str, Tally]]]) -> int:
    """Prints the table by number; how many intervals are out of range."""
    wrong = 0
    for name in dict.fromkeys(name for _, tallies in results for name in tallies):
        print(f"\n{name}\n{'':26}{'patients':>15}{'AUROC':>7}{'covers':>8}{'width':>7}{'printed':>9}"
              f"{'before':>9}{'width':>7}  method")  # fmt: skip
        told = [(cell, tallies[name]) for cell, tallies in results if name in tallies]
        for cell, tally in told:
            highest = 1.0 if name in MAY_COVER_MORE else HIGHEST
            is_wrong = tally.is_printed and not LOWEST <= tally.coverage <= highest
            wrong += is_wrong
            new, before = f"{'-':>8}{'-':>7}", f"{'-':>9}{'-':>7}"
            if tally.is_printed:
                new = f"{tally.coverage:8.3f}{tally.width / tally.printed:7.3f}"
            if tally.before:
                before = f"{np.mean(tally.before):9.3f}{np.mean(tally.width_before):7.3f}"
            print(f"{cell.name:26}{' + '.join(map(str, cell.patients)):>15}{cell.auroc:7.2f}{new}"
                  f"{tally.printed / tally.asked:9.2f}{before}  {tally.method}"
                  f"{'  OUT OF RANGE' * is_wrong}")  # fmt: skip
        earlier = [float(np.mean(tally.before)) for _, tally in told if tally.before]
        if found := [tally.coverage for _, tally in told if tally.is_printed]:
            compared = f"; before {min(earlier):.3f} to {max(earlier):.3f}" if earlier else ""
            print(f"{name}: {min(found):.3f} to {max(found):.3f}{compared}")
    return wrong


def show_bands(num_draws: int) -> int:
    """How often the band of a ROC curve holds the whole true curve; how many of these numbers are too low."""
    print("\nband of a ROC curve: whole true curve inside, mean height of the band, printed")
    generator, cutoffs, wrong = np.random.default_rng(13), np.linspace(-5, 8, 1301), 0
    for patients in ((10, 10), (45, 5), (50, 10), (30, 30), (100, 100)):
        for auroc, repeats in ((0.6, 1), (0.9, 1), (0.8, 3)):
            distance = float(np.sqrt(2) * ndtri(auroc))
            x, y = ndtr(-cutoffs), ndtr(distance - cutoffs)
            of_patient = np.repeat(np.arange(sum(patients)), repeats)
            of_class, held, height, printed = of_patient < patients[0], 0, 0.0, 0
            shared = SHARED_VARIANCE if repeats > 1 else 0.0
            for _ in range(num_draws):
                noise = np.sqrt(shared) * generator.normal(size=sum(patients))[of_patient]
                noise += np.sqrt(1 - shared) * generator.normal(size=len(of_patient))
                band = roc_band(of_class, distance * of_class + noise, of_patient)
                if band is not None:
                    cell = np.searchsorted(band.false_positive_rate, x, "right") - 1
                    held += bool(np.all((band.low[cell] <= y + 1e-9) & (y <= band.high[cell] + 1e-9)))
                    height, printed = height + float(np.mean(band.high - band.low)), printed + 1
            wrong += held < LOWEST * printed
            print(f"  {patients[0]:3} + {patients[1]:3} patients, {repeats} case{'s' * (repeats > 1):1} each, AUROC "
                  f"{auroc}: {held / printed:.3f} {height / printed:.3f} {printed / num_draws:.2f}")  # fmt: skip
    return wrong


def show_skewed_losses(num_draws: int) -> None:
    """Why the loss has no interval."""
    generator, true = np.random.default_rng(11), float(np.exp(1.5**2 / 2))
    print("\nmean of log-normal losses (sigma 1.5), of which no interval is printed")
    for num_cases in (20, 60, 200):
        cohorts = generator.lognormal(0, 1.5, size=(num_draws, num_cases))
        ways: dict[str, Callable[[np.ndarray], tuple[float, float] | None]] = {
            "percentiles": lambda values: _mean_before(values, np.arange(len(values))),
            "bootstrap-t": lambda values: mean_limits(values / 1e6, np.arange(len(values))).interval,
        }
        scales = {"percentiles": 1.0, "bootstrap-t": 1e6}
        for way, find in ways.items():
            spans = [find(values) or (0.0, 0.0) for values in cohorts]
            covered = np.mean([low * scales[way] <= true <= high * scales[way] for low, high in spans])
            print(f"  {num_cases:4} cases: {way} {covered:.3f}")


def show_wilson() -> None:
    """Exact: how far the coverage of a share is from its mean at the least and the most fortunate true value."""
    print("\nWilson's interval at each true value from 0.5 to 0.92, exactly")
    for of in (10, 20, 50, 100, 200):
        bounds = np.array([_wilson(right, of) for right in range(of + 1)])
        values = np.linspace(0.5, 0.92, 421)
        inside = (bounds[:, :1] <= values) & (values <= bounds[:, 1:])
        coverage = (binom.pmf(np.arange(of + 1)[:, None], of, values) * inside).sum(axis=0)
        print(f"  {of:4} cases: mean {coverage.mean():.3f}, lowest {coverage.min():.3f}, highest {coverage.max():.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    start, results = time.monotonic(), list[tuple[Cell, dict[str, Tally]]]()
    for number, cell in enumerate(cells()):
        if arguments.only in cell.name:
            results.append((cell, run_cell(cell, arguments.draws, number)))
    wrong = show(results) + show_bands(min(arguments.draws, 500))
    show_skewed_losses(arguments.draws)
    show_wilson()
    numbers = sum(len(tallies) for _, tallies in results)
    seconds = time.monotonic() - start
    print(f"\n{numbers} numbers in {len(results)} cells of {arguments.draws} cohorts, {seconds:.0f} s: "
          f"{wrong} printed intervals out of {LOWEST} to {HIGHEST}")  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
