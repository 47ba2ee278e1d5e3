"""Near-duplicates of a cohort: small groups with all their pairs, large ones connected with few."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import zoom

from vwmm.data.checks.dicom_identifiers import Header
from vwmm.data.checks.image_facts import ImageFacts
from vwmm.data.cohort.cases import Case
from vwmm.engine.check import compare_images

NUM_OTHERS, NUM_COPIES = 40, 60
FILES = {(f"c{number}", "ct"): f"{number}.png" for number in range(NUM_OTHERS + NUM_COPIES)}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pairs that were looked at, in this process."""
    pairs = list[tuple[int, int]]()

    def for_each(judge: Callable[[Any], Any], jobs: Sequence[Any], **_: Any) -> Iterator[tuple[int, Any]]:
        for number, job in enumerate(jobs):
            pairs.extend(job.numbers)
            yield number, judge(job)

    monkeypatch.setattr(compare_images, "for_each", for_each)
    return pairs


def cohort(num_copies: int) -> tuple[list[Case], dict[tuple[str, str], ImageFacts]]:
    """Images of different people, and noisy ones of the first of them."""
    rough = np.random.default_rng(0).normal(size=(NUM_OTHERS, 12, 12))
    grey = [128 + 50 * zoom(one, 4, order=1) for one in rough]
    noise = np.random.default_rng(1).normal(0, 1.5, (num_copies, 48, 48))
    images = np.clip([*grey, *(grey[0] + noise)], 0, 255).astype(np.uint8)
    cases = [
        Case(name=f"c{n}", patient=f"p{n}", label="a", line=n + 2, images={"ct": Path(f"{n}.png")})
        for n in range(len(images))
    ]  # fmt: skip
    images_facts = {
        (f"c{n}", "ct"): ImageFacts(
            content=f"content-{n}", miniature=image, shape=image.shape, spacing_mm=None, orientation=None,
            unit="unknown", levels=(0.0, 0.0, 0.0, 0.0, 0.0), day=0, format="png", header=Header(),
        )
        for n, image in enumerate(images)
    }  # fmt: skip
    return cases, images_facts


def near(num_copies: int) -> tuple[list[str], list[tuple[str, str]]]:
    """What is found, and the pairs."""
    cases, facts = cohort(num_copies)
    findings, pairs = compare_images.near_duplicates(cases, ["ct"], facts, FILES, num_workers=1)
    return [f"{one.case} {one.found}" for one in findings], [(one.first[0], one.second[0]) for one in pairs]


def test_small_group_is_found_with_all_its_pairs(judged: list[tuple[int, int]]) -> None:
    findings, pairs = near(4)
    members = ["c0", *(f"c{NUM_OTHERS + number}" for number in range(4))]
    assert sorted(pairs) == sorted(itertools.combinations(members, 2))
    assert [one.split()[0] for one in findings] == members[1:]
    assert all("to line 2: case c0 of patient p0: ct 0.png" in one for one in findings)


def test_large_group_is_found_whole_without_a_look_at_all_its_pairs(
    judged: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, pairs = near(NUM_COPIES)
    num_judged = len(judged)

    members = {"c0", *(f"c{NUM_OTHERS + number}" for number in range(NUM_COPIES))}
    assert {name for pair in pairs for name in pair} == members
    assert [one.split()[0] for one in findings] == sorted(members - {"c0"}, key=lambda name: int(name[1:]))
    reached = {"c0"}
    for _ in members:
        reached |= {name for pair in pairs if reached & set(pair) for name in pair}
    assert reached == members, "the pairs connect them all"
    assert num_judged < 8 * len(members)

    judged.clear()
    monkeypatch.setattr(compare_images, "_WHOLE", 1000)
    all_findings, all_pairs = near(NUM_COPIES)
    assert len(judged) > 2 * num_judged
    assert [one.split()[0] for one in all_findings] == [one.split()[0] for one in findings]
    assert set(pairs) < set(all_pairs)


def test_miniatures_are_kept_once(judged: list[tuple[int, int]]) -> None:
    cases, facts = cohort(2)
    compare_images.near_duplicates(cases, ["ct"], facts, FILES, num_workers=1)
    (base,) = {id(one.miniature.base) for one in facts.values()}
    assert base != id(None)
