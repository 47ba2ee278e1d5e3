"""What a run says of its cohort before it trains."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.data.making import make_case, make_cohort
from vwmm.config.loading import load_config
from vwmm.data.checks.near_duplicate_record import NearPair, keep_near_pairs
from vwmm.engine.check import before_training
from vwmm.engine.check.before_training import few_images, note_cohort, warn_of_suspicions
from vwmm.engine.preprocessing.fill_cache import Images

SMALL = ["modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "model.backbone=densenet_thin"]


@pytest.mark.parametrize(
    ("words", "noted"),
    [
        ([], "on average 2.0 mri images at a time; try a larger"),
        (["train.micro_batch_size=8"], None),
        (["train.micro_batch_size=4", "model.modality_dropout=0.25"], "on average 3.0 vw_mri, 1.5 mri images"),
        (["modalities.vw_mri.size=[64,64,64]", "modalities.mri.size=[64,64]"], None),
        (["model.norm=group"], None),
    ],
)
def test_few_images_of_a_voxel_each_are_noted(words: list[str], noted: str | None) -> None:
    """Half of the cases that are trained on lack the MRI; the one that is validated on has it."""
    image = Path("x.nii")
    cases = [
        make_case(f"c{n}", images={"vw_mri": image, "mri": image if n % 2 else None, "ct": image}) for n in range(8)
    ]
    cohort = make_cohort([*cases, make_case("v", images={"vw_mri": image, "mri": image, "ct": image})])
    assigned = {case.name: "val" if case.name == "v" else "train" for case in cohort.cases}
    config = load_config([], [*SMALL, "train.micro_batch_size=4", "train.batch_size=16", *words])
    found = few_images(config, cohort, assigned)
    assert found is None if noted is None else noted in str(found)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the log."""
    lines = list[str]()
    monkeypatch.setattr(before_training, "LOG", SimpleNamespace(info=lambda text, *values: lines.append(text % values)))
    return lines


def images_of(hashes: dict[str, dict[str, str]], **more: Any) -> Images:
    """Images of these contents."""
    return cast(Images, SimpleNamespace(hashes=lambda cohort: hashes, **more))


def test_training_warns_of_two_columns_with_the_same_files(told: list[str]) -> None:
    images: dict[str, Path | None] = {"mri": Path("x.nii"), "ct": Path("x.nii")}
    cases = [make_case(f"c{n:02}", "ab"[n % 2], line=n + 2, images=images) for n in range(40)]
    words = ["modalities.vw_mri=null", "model.norm=group", "modalities.ct.window_hu=null"]
    assigned = {case.name: "val" if case.name >= "c20" else "train" for case in cases}

    hashes = {case.name: {"mri": case.name, "ct": case.name} for case in cases}
    warn_of_suspicions(load_config([], words), make_cohort(cases), assigned, images_of(hashes))

    (line,) = told
    assert line.startswith(
        "warning: cohort.csv: mri and ct are the same image in 40 of the 40 cases that have both (lines 2,"
    )


def test_training_repeats_the_near_duplicates_that_a_check_has_found(told: list[str], tmp_path: Path) -> None:
    cases = [make_case(f"c{n:02}", "ab"[n % 2], line=n + 2, images={"ct": Path(f"{n}.nii")}) for n in range(40)]
    cohort, hashes = make_cohort(cases), {case.name: {"ct": case.name} for case in cases}
    near = [NearPair(("c00", "ct"), ("c02", "ct"), 0.9), NearPair(("c00", "ct"), ("c30", "ct"), 0.97)]
    keep_near_pairs(tmp_path / "cache", cohort, near, hashes)
    words = ["modalities.vw_mri=null", "modalities.mri=null", "model.norm=group", f"cache.dir={tmp_path / 'cache'}"]
    assigned = {case.name: "val" if case.name >= "c20" else "train" for case in cases}

    warn_of_suspicions(load_config([], words), cohort, assigned, images_of(hashes))

    other = "line 2: ct of case c00, of another patient, as `vwmm check` found"
    assert told == [
        f"warning: cohort.csv line 32: ct of case c30 is alike by 0.97 to {other}, and one is in 'train', one in "
        "'val': is it one person?",
        f"warning: cohort.csv line 4: ct of case c02 is alike by 0.90 to {other}: is it one person?",
    ]


def test_training_warns_of_one_patient_in_two_spellings_and_notes_small_classes(told: list[str]) -> None:
    image = Path("x.nii")
    names = ["7", "007", *(f"p{n}" for n in range(10))]
    cases = [
        make_case(f"c{n:02}", "ab"[n % 2], patient=name, line=n + 2, images={"ct": image})
        for n, name in enumerate(names)
    ]
    cohort = make_cohort(cases)
    config = load_config([], ["modalities.vw_mri=null", "modalities.mri=null", "model.norm=group"])
    assigned = {case.name: "val" if case.name > "c09" else "train" for case in cases}

    note_cohort(config, cohort, assigned)
    warn_of_suspicions(config, cohort, assigned, images_of({case.name: {"ct": case.name} for case in cases}))

    assert told[0].startswith(
        "note: classes with fewer than 10 patients in a part: a 5 in train, 1 in val; b 5 in train"
    )
    assert told[1:] == [
        "warning: cohort.csv line 3: patient 007 is written almost like 7 (line 2); if it is one person, write "
        "it one way"
    ]
