"""The cases of a benchmark: some of a cohort's, or synthetic ones with the sizes of the configuration's images."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from vwmm.config.schema import Config, Data, Split
from vwmm.data.checks.preflight import check_config
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.splits import cases_of

_CLASSES = ("a", "b")
# Read and kept apart from one another; more would only take longer to make.
MIN_CASES, MAX_CASES = 8, 64


def num_bench_cases(config: Config) -> int:
    """Two steps' cases, within limits."""
    return min(max(2 * config.train.batch_size, MIN_CASES), MAX_CASES)


def choose_cases(config: Config) -> tuple[Cohort, int]:
    """The first cases of the training part, and how many it has. Raises UserError as training does."""
    cohort, assigned = check_config(config, open_files=False)
    cases = cases_of(cohort, assigned, "train")
    return replace(cohort, cases=tuple(cases[: num_bench_cases(config)])), len(cases)


def make_cases(config: Config, folder: Path) -> tuple[Config, Cohort]:
    """A synthetic cohort in a folder, and the configuration that reads it."""
    count = num_bench_cases(config)
    for name, modality in config.modalities.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            _write_image(folder / name / f"{number:02}.nii", modality.size, number)
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", "label", *config.modalities])
        for number in range(count):
            label = _CLASSES[number % len(_CLASSES)]
            table.writerow([f"c{number:02}", label, *(f"{name}/{number:02}.nii" for name in config.modalities)])
    own = {"column": None, "folder": None, "series": None, "slice": "middle"}
    modalities = {name: modality.model_copy(update=own) for name, modality in config.modalities.items()}
    split = Split(val_fraction=1 / count)
    changed = config.model_copy(
        update={"data": Data(csv=str(folder / "cohort.csv")), "modalities": modalities, "split": split}
    )
    cohort, _ = check_config(changed, open_files=False)
    return changed, cohort


def _write_image(path: Path, size: Sequence[int], seed: int) -> None:
    """A bright ellipsoid in noise on a dark background, int16, one millimetre a voxel."""
    shape = [*size, 1][:3]
    axes = [np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in shape]
    inside = sum(
        np.square(axis).reshape([-1 if n == place else 1 for n in range(3)]) for place, axis in enumerate(axes)
    )
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    voxels = (np.where(np.asarray(inside) < 0.6, 400, 20) + noise).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
