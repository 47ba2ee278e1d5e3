"""Claim: prediction sets hold the true class of new cases at least as often as promised, overall or in each class, with
5, 20 or 100 validation patients of the rare class; plain sets are larger than MAPIE's by 2 % at most.

Each draw has 100 and 95 patients of two classes and so many of a rare one (plain sets: so many on average, with classes
as they come), from whom the thresholds are, and 300 new cases of each class. MAPIE's sets are those of
SplitConformalClassifier(conformity_score="lac", prefit=True) from the same probabilities, if it is installed.

    python benchmarks/conformal_coverage.py [--draws 2000]      (about two minutes on one core)

Exits with 1 where the mean coverage is below the promise by more than three standard errors, or a set is too large.
"""

import argparse
import sys
from typing import Any

import numpy as np

from vwmm.analysis.recalibration.prediction_sets import LEVELS, fit_sets, sets_of

RARE = (5, 20, 100)
NUM_NEW = 300
MOST_OVER_MAPIE = 1.02


def draw(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """(N, 3) float64: overconfident probabilities of three classes."""
    logits = 2.0 * (generator.normal(size=(len(labels), 3)) + 1.5 * np.eye(3)[labels])
    parts = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def run_cell(rare: int, level: float, num_draws: int, *, by_class: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Coverage of each draw, (D, 3) by class or (D, 1) overall; mean size (D,); share with the rare class always in."""
    generator = np.random.default_rng((rare, int(100 * level), by_class))
    numbers = np.array([100, 95, rare])
    shares, new_labels = numbers / numbers.sum(), np.repeat(np.arange(3), NUM_NEW)
    covered, sizes, always = [], [], []
    for _ in range(num_draws):
        labels = np.repeat(np.arange(3), numbers)
        if not by_class:
            labels = generator.choice(3, size=len(labels), p=shares)
        rule = fit_sets(labels, draw(generator, labels), np.arange(len(labels)), level, by_class=by_class)
        inside = sets_of(draw(generator, new_labels), rule)
        of_class = inside[np.arange(len(new_labels)), new_labels].reshape(3, NUM_NEW).mean(axis=1)
        covered.append(of_class if by_class else [float(of_class @ shares)])
        sizes.append(float(inside.sum(axis=1).reshape(3, NUM_NEW).mean(axis=1) @ shares))
        always.append(rule.thresholds[2] <= 0)
    return np.array(covered), np.array(sizes), float(np.mean(always))


class Given:
    """A classifier that is fitted: its input are its probabilities."""

    classes_ = np.arange(3)
    n_features_in_ = 3

    def fit(self, x: Any, y: Any) -> "Given":
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def __sklearn_is_fitted__(self) -> bool:
        return True


def compare_with_mapie(rare: int, level: float, num_draws: int) -> tuple[float, float] | None:
    """Mean size of plain sets, ours and MAPIE's, on the same cohorts; None where MAPIE is not installed."""
    try:
        from mapie.classification import SplitConformalClassifier  # type: ignore[import-not-found]
    except ImportError:
        return None
    from sklearn.base import BaseEstimator, ClassifierMixin

    estimator = type("GivenClassifier", (Given, ClassifierMixin, BaseEstimator), {})()
    generator, numbers, sizes = np.random.default_rng((8, rare)), np.array([100, 95, rare]), []
    shares = numbers / numbers.sum()
    for _ in range(num_draws):
        labels, new_labels = (generator.choice(3, size=n, p=shares) for n in (numbers.sum(), 2000))
        seen, new = draw(generator, labels), draw(generator, new_labels)
        ours = sets_of(new, fit_sets(labels, seen, np.arange(len(labels)), level, by_class=False))
        theirs = SplitConformalClassifier(estimator, confidence_level=level, conformity_score="lac", prefit=True)
        found = theirs.conformalize(seen, labels).predict_set(new)[1][:, :, 0]
        sizes.append((ours.sum(axis=1).mean(), found.sum(axis=1).mean()))
    mean = np.mean(sizes, axis=0)
    return float(mean[0]), float(mean[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    arguments = parser.parse_args()
    wrong = 0
    print(" rare  level        sets   least    error  of the rare class   size  always")
    for rare in RARE:
        for level in LEVELS:
            for by_class in (False, True):
                covered, sizes, always = run_cell(rare, level, arguments.draws, by_class=by_class)
                mean, error = covered.mean(axis=0), covered.std(axis=0) / np.sqrt(len(covered))
                is_wrong = bool((mean < level - 3 * error).any())
                wrong += is_wrong
                lowest = int(mean.argmin())
                of_rare = f"{mean[2]:.3f}" if by_class else "-"
                name = "by class" if by_class else "plain"
                print(f"{rare:5}{level:7.2f}{name:>12}{mean[lowest]:8.4f}{error[lowest]:9.4f}{of_rare:>19}"
                      f"{sizes.mean():7.3f}{always:8.2f}{'  TOO LOW' * is_wrong}")  # fmt: skip
    for rare in RARE:
        for level in LEVELS:
            sizes_of_both = compare_with_mapie(rare, level, max(20, arguments.draws // 20))
            if sizes_of_both is None:
                print("MAPIE is not installed: pip install mapie==1.6.0")
                return int(wrong > 0)
            ours, theirs = sizes_of_both
            is_wrong = ours > MOST_OVER_MAPIE * theirs
            wrong += is_wrong
            print(f"mean size of plain sets, {rare} of the rare class, {level:.2f}: {ours:.4f}, MAPIE {theirs:.4f}, "
                  f"ratio {ours / theirs:.4f}{'  TOO LARGE' * is_wrong}")  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
