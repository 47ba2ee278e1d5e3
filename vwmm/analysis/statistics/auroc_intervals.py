"""Confidence intervals of the AUROC, by patient."""

import numpy as np

from vwmm.analysis.statistics.intervals import MIN_OF_CLASS, Interval, Limits, mover_mean, solve, too_few

# Where between the estimate and the bound the design effect is taken: at the estimate few patients with many cases are
# covered too rarely (0.91), at the bound too often (0.99); see benchmarks/interval_coverage.py.
_WAY_TO_BOUND = 2 / 3


def auroc_limits(is_positive: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> Limits:
    """The interval of the area for positives against negatives. is_positive: (N,) bool; scores, patients: (N,).

    Source: method 5 of Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2", Stat. Med. 25(4):559-573, doi:10.1002/sim.2324: the bounds are the areas t with
    |estimate - t| = z sqrt(V(t)), V being the variance of Hanley and McNeil with a pooled number of cases. With
    repeated patients the numbers of positives and negatives are divided by a design effect (`_Area.design_effect`).
    """
    groups = np.unique(patients, return_inverse=True)[1]
    if reason := _too_few(is_positive, groups):
        return Limits(None, reason=reason)
    area = _Area(is_positive, scores, groups)
    return Limits(area.interval(), area.method)


def macro_auroc_limits(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> Limits:
    """That of class 1 for two classes, else of the mean of the K one-vs-rest areas, by MOVER over their intervals.

    labels: (N,) int64; scores: (N, K), as of `metrics.class_ranks`; patients: (N,).
    """
    num_classes = scores.shape[1]
    if num_classes == 2:
        return auroc_limits(labels == 1, scores[:, 1], patients)
    groups = np.unique(patients, return_inverse=True)[1]
    for label in range(num_classes):
        if reason := _too_few(labels == label, groups):
            return Limits(None, reason=reason)
    areas = [_Area(labels == label, scores[:, label], groups) for label in range(num_classes)]
    residuals = [area.residuals(area.value) for area in areas]
    found = mover_mean([area.value for area in areas], [area.interval() for area in areas], residuals)
    return Limits(found, "MOVER of Newcombe 5")


def area_residuals(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(P,) float64: what each patient adds to the error of the area that `macro_auroc_limits` is about.

    labels: (N,) int64; scores: (N, K), as of `metrics.class_ranks`; groups: (N,) int64, the patient, from 0.
    """
    judged = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    areas = [_Area(labels == label, scores[:, label], groups) for label in judged]
    return np.asarray(np.mean([area.residuals(area.value) for area in areas], axis=0))


class _Area:
    """An area and what each patient adds to it."""

    def __init__(self, is_positive: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> None:
        positives, negatives = scores[is_positive], scores[~is_positive]
        self._numbers = len(positives), len(negatives)
        # Structural components (DeLong et al. 1988, doi:10.2307/2531595): the share of pairs that a case wins.
        self._won = np.empty(len(scores))
        self._won[is_positive] = _share_below(np.sort(negatives), positives)
        self._won[~is_positive] = 1 - _share_below(np.sort(positives), negatives)
        self._weights = np.where(is_positive, 1 / len(positives), 1 / len(negatives))  # (N,)
        self._groups = groups
        self.value = float(self._won[is_positive].mean())
        self.is_repeated = int(np.bincount(groups).max()) > 1
        self.method = "Newcombe 5, effective numbers of cases" if self.is_repeated else "Newcombe 5"

    def residuals(self, area: float) -> np.ndarray:
        """(P,) float64: what each patient adds to the difference from `area`."""
        return np.bincount(self._groups, weights=self._weights * (self._won - area))

    def design_effect(self, area: float) -> float:
        """How many times as large the variance is as with independent cases: 1 or more.

        From the sums over patients (Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data", Biometrics
        53:567-578, doi:10.2307/2533958), with differences from a hypothetical area.
        """
        of_cases = self._weights * (self._won - area)
        of_patients = self.residuals(area)
        return max(1.0, float(of_patients @ of_patients) / max(float(of_cases @ of_cases), 1e-300))

    def interval(self) -> Interval:
        num_positives, num_negatives = self._numbers

        def variance(t: float) -> float:
            effect = 1.0
            if self.is_repeated:
                effect = self.design_effect(self.value + _WAY_TO_BOUND * (t - self.value))
            positives, negatives = num_positives / effect, num_negatives / effect
            pooled = (positives + negatives) / 2 - 1
            return t * (1 - t) / (positives * negatives) * (1 + pooled * ((1 - t) / (2 - t) + t / (1 + t)))

        return solve(self.value, variance)


def _share_below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each value the share of `ordered` that is below it, ties counting one half: (V,) float64."""
    left, right = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((left + right) / (2 * len(ordered)))


def _too_few(is_positive: np.ndarray, groups: np.ndarray) -> str:
    """Why there are too few patients in one of the two classes, or nothing."""
    for is_chosen in (is_positive, ~is_positive):
        if too_few(np.bincount(groups[is_chosen]), MIN_OF_CLASS):
            return f"fewer than {MIN_OF_CLASS} patients of a class, counted by their cases"
    return ""
