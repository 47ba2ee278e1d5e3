"""What a run says of its cohort before it trains."""

from pathlib import Path

import pytest

from tests.data.making import make_case, make_cohort
from vwmm.config.loading import load_config
from vwmm.engine.suspicions import few_images

SMALL = ["modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "model.backbone=densenet_thin"]


@pytest.mark.parametrize(
    ("words", "noted"),
    [
        ([], "on average 2.0 of mri: a larger"),
        (["train.micro_batch_size=8"], None),
        (["train.micro_batch_size=4", "model.modality_dropout=0.25"], "on average 3.0 of vw_mri, 1.5 of mri: a larger"),
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
