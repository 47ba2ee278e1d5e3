"""The records: what they refuse that no single value shows."""

import pytest
from pydantic import ValidationError

from vwmm.config.messages import all_keys
from vwmm.config.schema import DEFAULT_MODALITIES, Config, Modality


def refusal(**sections: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(sections)
    return str(caught.value.errors()[0]["msg"])


def sized(*size: int) -> dict[str, object]:
    return {"image": {"dims": len(size), "size": list(size)}}


def test_images_too_small_for_the_backbone_are_refused() -> None:
    """tests/models/test_branch.py holds the rule to the networks themselves."""
    Config.model_validate({"modalities": sized(29, 64)})
    Config.model_validate({"modalities": sized(1, 1), "model": {"backbone": "resnet10"}})

    assert refusal(modalities=sized(64, 28)).endswith("needs at least 29 voxels on each axis, found [64, 28]")


def test_norms_of_one_voxel_are_refused() -> None:
    one, train = sized(32, 60), {"micro_batch_size": 1}

    assert "train.micro_batch_size: batch norm needs 2" in refusal(modalities=one, train=train)
    assert "instance norm cannot normalise the one voxel" in refusal(modalities=one, model={"norm": "instance"})
    Config.model_validate({"modalities": one})
    Config.model_validate({"modalities": sized(32, 61), "train": train})
    Config.model_validate({"modalities": sized(32, 61), "model": {"norm": "instance"}})
    Config.model_validate({"modalities": one, "train": train, "model": {"norm": "group"}})


def test_all_the_problems_of_a_record_are_said_together() -> None:
    message = refusal(modalities={"ct": {"dims": 2, "size": [1, 2, 3], "spacing_mm": [1, 1, 1], "window_hu": [2, 1]}})

    assert [line.split(":")[0] for line in message.removeprefix("Value error, ").splitlines()] == [
        "size",
        "spacing_mm",
        "window_hu",
    ]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "IRP", "SAL"])
def test_axis_codes_name_each_axis_once(codes: str) -> None:
    assert Modality(dims=3, size=[32, 32, 32], orientation=codes).orientation == codes


@pytest.mark.parametrize("codes", ["", "RA", "RAL", "ras", "RASS", "RRS"])
def test_other_axis_codes_are_refused(codes: str) -> None:
    with pytest.raises(ValidationError, match="three axis codes"):
        Modality(dims=3, size=[32, 32, 32], orientation=codes)


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3


def test_the_default_modalities_are_the_schemas_own() -> None:
    assert {name: m.model_dump(include=set(DEFAULT_MODALITIES[name])) for name, m in Config().modalities.items()} == (
        DEFAULT_MODALITIES
    )


def test_every_key_is_described() -> None:
    def missing(model: type) -> list[str]:
        fields = getattr(model, "model_fields", {})
        below = [name for field in fields.values() for name in missing(field.annotation)]
        return below + [f"{model.__name__}.{name}" for name, field in fields.items() if not field.description]

    assert missing(Config) == []
    assert missing(Modality) == []
    assert len(all_keys()) > 60
