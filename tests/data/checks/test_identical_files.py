"""What training says of its cohort before it begins."""

from pathlib import Path

from tests.conftest import texts
from tests.data.making import make_case, make_cohort
from vwmm.data.checks.identical_files import content_leaks, telling_facts
from vwmm.data.cohort.cases import Case, Cohort

IMAGE = Path("image.nii")


def cases_of(*rows: tuple[str, str, str, bool]) -> list[Case]:
    """(patient, label, site, whether the CT is there)."""
    return [
        Case(
            f"c{number:02d}",
            patient,
            label,
            {"mri": IMAGE, "ct": IMAGE if has_ct else None},
            number + 2,
            extra={"site": site},
        )
        for number, (patient, label, site, has_ct) in enumerate(rows)
    ]


def three() -> Cohort:
    images = {"mri": IMAGE, "ct": IMAGE}
    return make_cohort([make_case(f"c{n}", patient=f"p{n // 2}", line=n + 2, images=images) for n in range(4)])


def test_a_file_in_two_parts_of_the_split_is_a_leak_and_one_in_the_same_part_is_not() -> None:
    hashes = {"c0": {"mri": "a"}, "c1": {"mri": "b"}, "c2": {"mri": "a", "ct": "b"}, "c3": {}}
    assigned = {"c0": "train", "c1": "train", "c2": "val", "c3": "val"}

    leaks, others = content_leaks(three(), assigned, hashes)

    assert others == []
    assert [leak.split(", but")[0] for leak in texts(leaks)] == [
        "cohort.csv line 4: case c2: mri: is the same file as mri of case c0 in line 2",
        "cohort.csv line 4: case c2: ct: is the same file as mri of case c1 in line 3",
    ]
    assert leaks[0].text.endswith("one is in 'val' and one in 'train'")
    leaks, others = content_leaks(three(), dict.fromkeys(assigned, "train"), hashes)
    assert (len(leaks), len(others)) == (0, 2)


def test_a_file_twice_in_one_patient_is_not_said() -> None:
    hashes = {"c0": {"mri": "a", "ct": "a"}, "c1": {"mri": "a"}, "c2": {}, "c3": {}}

    assert content_leaks(three(), dict.fromkeys(hashes, "train"), hashes) == ([], [])


def test_a_site_that_tells_each_label_is_said() -> None:
    rows = [(f"p{n}", "ab"[n % 2], f"site {n % 2}", n % 3 > 0) for n in range(20)]
    assert telling_facts(make_cohort(cases_of(*rows)), ["mri", "ct"], "site") == [
        "column 'site' gives each label away: a model may learn that instead of the disease (`vwmm check` shows more)"
    ]
    rows[4] = ("p4", "b", "site 0", True)
    assert telling_facts(make_cohort(cases_of(*rows)), ["mri", "ct"], "site") == []


def test_missing_images_that_tell_each_label_are_said() -> None:
    rows = [(f"p{n}", "ab"[n % 2], "", n % 2 > 0) for n in range(20)]

    (text,) = telling_facts(make_cohort(cases_of(*rows)), ["mri", "ct"], "site")

    assert text.startswith("which images are missing gives each label away")


def test_a_site_of_each_patient_says_nothing() -> None:
    rows = [(f"p{n}", "ab"[n % 2], f"site {n}", True) for n in range(20)]

    assert telling_facts(make_cohort(cases_of(*rows)), ["mri", "ct"], "site") == []
