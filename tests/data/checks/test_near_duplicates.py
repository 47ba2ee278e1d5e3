"""Almost the same images of different patients."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import zoom

from vwmm.data.checks import near_duplicates
from vwmm.data.checks.fingerprint import miniature_of
from vwmm.data.checks.near_duplicates import THRESHOLD, judge, near_pairs, pair_jobs
from vwmm.data.synthetic.phantom import Options, draw_cases, draw_site
from vwmm.data.synthetic.phantom_images import DRAW

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def slices() -> dict[str, list[np.ndarray]]:
    """Forty people's MRI and CT."""
    options = Options(cases=40, sites=2, seed=1)
    return {
        name: [
            np.squeeze(DRAW[name](RNG(case.index), draw_site(options, case.site), "small", case.side, False).image)
            for case in draw_cases(options)
        ]
        for name in ("mri", "ct")
    }


def found(images: list[np.ndarray], patients: list[str] | None = None) -> dict[tuple[int, int], float]:
    names = patients or [str(number) for number in range(len(images))]
    return near_pairs((job, judge(job)) for job in pair_jobs(np.stack([miniature_of(one) for one in images]), names))


def spread(image: np.ndarray) -> float:
    return float(np.ptp(np.percentile(image, (1, 99))))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "resized": lambda image: zoom(image, 0.75, order=1),
    "cropped": lambda image: image[2:-2, 2:-2],
    "noisy": lambda image: image + RNG(5).normal(0, 0.01 * spread(image), image.shape),
    "other grey levels": lambda image: 0.4 * image + 7,
    "mirrored and cropped": lambda image: image[2:-2, 2:-2][::-1],
    "turned and resized": lambda image: zoom(image.T, 1.25, order=1),
}


@pytest.mark.parametrize("modality", ["mri", "ct"])
def test_different_people_are_not_alike(slices: dict[str, list[np.ndarray]], modality: str) -> None:
    assert found(slices[modality]) == {}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("modality", ["mri", "ct"])
def test_a_changed_copy_is_found(slices: dict[str, list[np.ndarray]], modality: str, change: str) -> None:
    images = [*slices[modality], CHANGES[change](slices[modality][7])]

    pairs = found(images)

    assert list(pairs) == [(7, 40)]
    assert pairs[7, 40] >= THRESHOLD


def test_of_an_image_that_has_a_copy_many_others_are_looked_at(slices: dict[str, list[np.ndarray]]) -> None:
    image = slices["mri"][7]
    copies = [image + RNG(seed).normal(0, 0.005 * spread(image), image.shape) for seed in range(8)]
    miniatures = np.stack([miniature_of(one) for one in [*slices["mri"], *copies]])
    patients = [str(number) for number in range(len(miniatures))]
    first = pair_jobs(miniatures, patients)
    known = {pair for job in first for pair in job.numbers}

    more = pair_jobs(miniatures, patients, copied=[7], judged=known)

    pairs = near_pairs((job, judge(job)) for job in [*first, *more])
    assert {(7, number) for number in range(40, 48)} <= set(pairs)
    assert not known & {pair for job in more for pair in job.numbers}
    assert all(7 in pair or min(pair) >= 40 for pair in pairs)


def test_two_images_of_one_patient_are_not_compared(slices: dict[str, list[np.ndarray]]) -> None:
    images = [*slices["mri"], zoom(slices["mri"][7], 0.75, order=1)]

    assert found(images, [*map(str, range(40)), "7"]) == {}


def test_two_images_are_enough(slices: dict[str, list[np.ndarray]]) -> None:
    image = slices["mri"][3]

    assert list(found([image, zoom(image, 0.75, order=1)])) == [(0, 1)]
    assert found([image]) == {}


@pytest.mark.parametrize("num_main", [4, 256])
@pytest.mark.parametrize("shape", [(48, 48), (24, 24, 8)])
def test_in_a_large_cohort_no_pair_is_missed_that_a_whole_comparison_finds(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], num_main: int
) -> None:
    rough = RNG(0).normal(size=(300, *(length // 4 for length in shape)))
    grey = 128 + 60 * zoom(rough, (1, *(4 for _ in shape)), order=1)
    for number in range(100):  # copies with more and more noise: from alike to different
        grey[200 + number] = grey[number] + RNG(number).normal(0, (1.5 if len(shape) == 2 else 0.4) * number, shape)
    miniatures, patients = np.clip(grey, 0, 255).astype(np.uint8), [str(number) for number in range(300)]
    patients[210] = patients[10]
    monkeypatch.setattr(near_duplicates, "MANY", 299)
    monkeypatch.setattr(near_duplicates, "_NUM_MAIN", num_main)

    jobs = pair_jobs(miniatures, patients)

    grids = near_duplicates._grid(miniatures, 0.0)
    alike = np.corrcoef((grids - grids.mean(axis=0)).reshape(300, -1))
    whole = [(one, one + 200) for one in range(100) if alike[one, one + 200] >= 0.8 and one != 10]
    assert sorted(pair for job in jobs for pair in job.numbers) == whole
    assert 20 < len(whole) < 90
