"""The sentence about a comparison, for models whose worth is known."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vwmm.analysis.comparison.compare import ComparedModel, Comparison, compare, part_of, patients_needed
from vwmm.analysis.comparison.conclusion import conclude, conclude_pair, judge_baselines
from vwmm.analysis.comparison.paired_tests import Difference
from vwmm.analysis.statistics.intervals import Limits
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions

TRIO = {"all": ("vw_mri", "mri", "ct"), "only_vw_mri": ("vw_mri",), "only_mri": ("mri",), "only_ct": ("ct",)}


def compared(patients: int, shifts: dict[str, float], *, seed: int = 0) -> Comparison:
    """Models whose scores are apart by a shift in standard deviations; half of their errors are shared."""
    generator = np.random.default_rng(seed)
    labels = np.arange(patients) % 2
    common, models = generator.normal(size=patients), []
    for name, shift in shifts.items():
        score = shift * (labels - 0.5) + np.sqrt(0.5) * (common + generator.normal(size=patients))
        positive = 1 / (1 + np.exp(-2 * score))
        predictions = RecordedPredictions(
            labels, np.stack([1 - positive, positive], axis=1), np.arange(patients).astype(str),
            pd.DataFrame(index=range(patients)),
        )  # fmt: skip
        models.append(ComparedModel(name, TRIO[name], predictions, np.zeros(patients, dtype=bool)))
    return compare(models, [("all", name) for name in shifts if name != "all"])


def test_fusion_that_beats_every_single_modality_helped() -> None:
    found = conclude(compared(200, {"all": 4.0, "only_vw_mri": 1.5, "only_mri": 0.5, "only_ct": 0.0}), "all")
    assert found.startswith("Fusion helped: AUROC 0.99")
    assert "with only_vw_mri, the best single one; difference 0." in found
    assert "p < 0.001 (Holm)" in found


def test_fusion_that_beats_all_but_one_is_not_said_to_have_helped() -> None:
    found = conclude(compared(200, {"all": 2.0, "only_vw_mri": 2.0, "only_mri": 0.0, "only_ct": 0.0}), "all")
    assert not found.startswith("Fusion helped")


def test_modalities_beside_one_that_decides_add_nothing() -> None:
    found = conclude(compared(400, {"all": 5.0, "only_vw_mri": 5.0, "only_mri": 0.0, "only_ct": 0.0}), "all")
    assert found.startswith("The other modalities add nothing to only_vw_mri that these 400 cases show: AUROC 1.000")
    assert found.endswith(", below 0.05.")


def test_thirty_patients_cannot_tell_and_the_sentence_says_how_many_could() -> None:
    comparison = compared(30, {"all": 1.5, "only_vw_mri": 1.0, "only_mri": 0.5, "only_ct": 0.0}, seed=2)
    found = conclude(comparison, "all")
    assert found.startswith("It cannot be told whether fusion helps: AUROC ")
    needed = int(found.split("About ")[1].split(" ")[0].replace(",", ""))
    closest = min((comparison.between("all", name, "auroc") for name in TRIO if name != "all"),
                  key=lambda one: one.found.value or 0)  # fmt: skip
    assert closest.found.error is not None
    assert closest.found.value is not None
    target = max(abs(closest.found.value), 0.05)
    z = stats.norm.ppf(1 - 0.025 / 3) + stats.norm.ppf(0.8)  # three single modalities
    assert needed == math.ceil(30 * (z * closest.found.error / target) ** 2)


def test_fusion_that_is_worse_is_called_worse() -> None:
    found = conclude(compared(200, {"all": 0.5, "only_vw_mri": 3.0, "only_mri": 0.0, "only_ct": 0.0}), "all")
    assert found.startswith("Fusion did worse than only_vw_mri alone")


@pytest.mark.parametrize(("first", "second", "start"), [
    (4.0, 0.5, "all is better than only_ct"), (0.5, 4.0, "only_ct is better than all"),
    (1.0, 1.0, "It cannot be told which of all and only_ct is better"),
])  # fmt: skip
def test_two_models_are_ranked_or_not(first: float, second: float, start: str) -> None:
    assert conclude_pair(compared(150, {"all": first, "only_ct": second}), ("all", "only_ct")).startswith(start)


def test_eighty_of_a_hundred_studies_of_that_size_show_the_difference() -> None:
    """Simulated: a mean of 0.3 with standard deviation 1, tested by its standard error."""
    found = Difference(0.3, Limits(None), None, error=1 / np.sqrt(40))
    needed = patients_needed(found, 40, 0.3)
    assert needed is not None
    means = np.random.default_rng(0).normal(0.3, 1 / np.sqrt(needed), size=20_000)
    assert np.mean(means * np.sqrt(needed) > 1.96) == pytest.approx(0.8, abs=0.01)
    assert patients_needed(Difference(0.3, Limits(None), None), 40, 0.3) is None


def with_baseline(shift: float) -> Comparison:
    found = compared(200, {"all": 2.0, "only_vw_mri": 1.0, "only_mri": shift})
    clinical = replace(found.models[2], name="clinical", modalities=(), is_baseline=True)
    return compare([*found.models[:2], clinical], [("all", "only_vw_mri"), ("all", "clinical")])


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(0.0, "It is better than clinical, a model without images (AUROC "),
     (5.0, "But clinical, a model without images, is"), (2.0, "It is not shown to be better than clinical")],
)  # fmt: skip
def test_a_model_without_images_is_judged_as_well(shift: float, expected: str) -> None:
    assert judge_baselines(with_baseline(shift), "all").startswith(expected)


def test_baselines_change_no_answer_about_the_modalities() -> None:
    found = compared(200, {"all": 2.0, "only_vw_mri": 1.6})
    alone = found.between("all", "only_vw_mri", "auroc").p_adjusted
    clinical = replace(found.models[1], name="clinical", modalities=(), is_baseline=True)
    pairs = [("all", "only_vw_mri"), ("all", "clinical")]
    assert compare([*found.models, clinical], pairs).between(*pairs[0], "auroc").p_adjusted == alone


def test_a_part_of_the_cases_is_compared_by_itself() -> None:
    whole = compared(100, {"all": 3.0, "only_ct": 1.0})
    chosen = np.arange(100) < 40
    part = compare(part_of(whole.models, chosen), [("all", "only_ct")])
    assert (part.num_cases, part.num_patients) == (40, 40)
    right = (whole.models[0].predictions.predicted == whole.models[0].predictions.labels)[chosen]
    assert part.numbers[0]["accuracy"].value == right.mean()
