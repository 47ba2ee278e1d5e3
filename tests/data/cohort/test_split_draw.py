"""The draws are those of scikit-learn, number by number, so that a split is the same for any version of it."""

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from vwmm.data.cohort.split_draw import deal_folds, draw_indices


def strata_of(rng: np.random.Generator) -> list[str]:
    """1 to 5 labels of 2 to 40 patients each, in any order."""
    strata = [f"label{k}" for k in range(rng.integers(1, 6)) for _ in range(rng.integers(2, 41))]
    return [strata[index] for index in rng.permutation(len(strata))]


@pytest.mark.parametrize("seed", range(40))
def test_drawn_part_is_that_of_train_test_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = strata_of(rng)
    num_labels = len(set(strata))
    wanted = int(rng.integers(num_labels, len(strata) - num_labels + 1))
    patients = list(range(len(strata)))

    _, stratified = train_test_split(patients, test_size=wanted, stratify=strata, random_state=seed)
    _, plain = train_test_split(patients, test_size=wanted, random_state=seed)

    assert draw_indices(strata, wanted, seed) == stratified
    assert draw_indices([""] * len(strata), wanted, seed, stratified=False) == plain


@pytest.mark.parametrize("seed", range(40))
def test_folds_are_those_of_k_fold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = strata_of(rng)
    rarest = min(strata.count(label) for label in strata)
    num_folds = int(rng.integers(2, rarest + 1))

    for stratified, kind in ((True, StratifiedKFold), (False, KFold)):
        expected = np.empty(len(strata), dtype=np.int64)
        for number, (_, held_out) in enumerate(kind(num_folds, shuffle=True, random_state=seed).split(strata, strata)):
            expected[held_out] = number
        assert deal_folds(strata, num_folds, seed, stratified=stratified) == expected.tolist()
