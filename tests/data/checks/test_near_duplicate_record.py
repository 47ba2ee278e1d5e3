"""What `vwmm check` found of near-duplicates, kept for training: known by the images' contents, never stale."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.making import make_case, make_cohort
from vwmm.data.checks.near_duplicate_record import NearPair, describe, find_near_pairs, keep_near_pairs
from vwmm.data.cohort.cases import Case, Cohort

COHORT = make_cohort(
    [make_case(f"c{n}", patient=f"p{n}", line=n + 2, images={"ct": Path(f"{n}.png")}) for n in range(4)]
)
HASHES = {f"c{n}": {"ct": f"{n}" * 32} for n in range(4)}
PAIR = NearPair(("c0", "ct"), ("c2", "ct"), 0.97)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder with what a check of `COHORT` has found."""
    keep_near_pairs(tmp_path / "cache", COHORT, [PAIR], HASHES)
    return tmp_path / "cache"


def with_patient(cohort: Cohort, name: str, patient: str) -> Cohort:
    def renamed(case: Case) -> Case:
        return replace(case, patient=patient) if case.name == name else case

    return replace(cohort, cases=tuple(map(renamed, cohort.cases)))


def test_recorded_near_duplicate_is_found_in_any_cohort_with_both_images(cache: Path) -> None:
    assert find_near_pairs(cache, COHORT, HASHES) == [PAIR]
    fewer = replace(COHORT, cases=COHORT.cases[:3])
    renamed = replace(fewer, cases=tuple(replace(case, name=f"x{case.name}") for case in fewer.cases))
    assert find_near_pairs(cache, renamed, {f"x{name}": own for name, own in HASHES.items()}) == [
        NearPair(("xc0", "ct"), ("xc2", "ct"), 0.97)
    ]


def test_an_image_that_has_changed_or_gone_is_not_spoken_of(cache: Path) -> None:
    assert find_near_pairs(cache, COHORT, HASHES | {"c2": {"ct": "f" * 32}}) == []
    assert find_near_pairs(cache, COHORT, HASHES | {"c2": {}}) == []


def test_two_images_of_one_patient_are_not_spoken_of(cache: Path) -> None:
    assert find_near_pairs(cache, with_patient(COHORT, "c2", "p0"), HASHES) == []


def test_clean_check_removes_the_findings_of_an_earlier_one(cache: Path) -> None:
    keep_near_pairs(cache, COHORT, [], HASHES)

    assert find_near_pairs(cache, COHORT, HASHES) == []
    assert list(cache.rglob("*.json")) == []


def test_nothing_is_written_where_nothing_was_found(tmp_path: Path) -> None:
    keep_near_pairs(tmp_path / "cache", COHORT, [], HASHES)

    assert list(tmp_path.iterdir()) == []
    assert find_near_pairs(tmp_path / "cache", COHORT, HASHES) == []


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"{}", b"[[1, 2, 3]]", b'{"pairs": [["a"]]}', b"\xff\xfe"])
def test_a_damaged_record_is_passed_over(content: bytes, cache: Path) -> None:
    (record,) = cache.rglob("*.json")
    record.write_bytes(content)

    assert find_near_pairs(cache, COHORT, HASHES) == []


def test_the_record_has_no_name_of_a_case_a_patient_or_a_file(cache: Path) -> None:
    (record,) = cache.rglob("*.json")

    assert not any(word in record.read_text() for word in ("c0", "p0", "png", "cohort.csv"))


def test_each_pair_is_told_with_lines_and_parts() -> None:
    parts = {"c0": "train", "c1": "train", "c2": "val", "c3": "train"}

    assert describe([PAIR], COHORT, parts) == [
        "cohort.csv line 4: ct of case c2 is alike by 0.97 to line 2: ct of case c0, of another patient, as "
        "`vwmm check` found, and one is in 'train', one in 'val': is it one person?"
    ]
    (same,) = describe([replace(PAIR, likeness=1.0)], COHORT, dict.fromkeys(parts, "train"))
    assert same.startswith(
        "cohort.csv line 4: ct of case c2 has the voxels of line 2: ct of case c0, of another patient"
    )
    assert same.endswith("as `vwmm check` found: is it one person?")
