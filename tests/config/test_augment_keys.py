"""`augment`: by modality, `all` for each of them, later layers over earlier ones."""

from pathlib import Path

from tests.conftest import texts
from vwmm.config.loading import load_config, read_config
from vwmm.config.printing import to_yaml
from vwmm.config.schema import Augmentation


def test_each_modality_has_the_defaults() -> None:
    config = load_config([], ["modalities.pet.dims=3", "modalities.pet.size=[32,32,32]"])
    assert config.augment == dict.fromkeys(["vw_mri", "mri", "ct", "pet"], Augmentation())


def test_all_stands_for_each_modality_and_a_later_layer_goes_over_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("augment:\n  ct: {noise_std: 0.3}\n  all: {noise_std: 0.1, gamma: 0.2}\n")
    config = load_config([file], ["augment.mri.gamma=0.5"])
    assert {name: (a.noise_std, a.gamma) for name, a in config.augment.items()} == {
        "vw_mri": (0.1, 0.2), "mri": (0.1, 0.5), "ct": (0.3, 0.2),
    }  # fmt: skip
    later = load_config([file], ["augment.all.noise_std=0"])
    assert {a.noise_std for a in later.augment.values()} == {0}


def test_the_resolved_configuration_reads_back_and_can_be_changed_by_all(tmp_path: Path) -> None:
    file = tmp_path / "resolved.yaml"
    config = load_config([], ["augment.ct.gamma=0.7", "run.name=x"])
    file.write_text(to_yaml(config))
    assert load_config([file]) == config
    assert {a.gamma for a in load_config([file], ["augment.all.gamma=0.1"]).augment.values()} == {0.1}


def test_mistakes_name_the_argument() -> None:
    problems = texts(read_config([], ["augment.all.noise_sdt=1", "augment.pet.gamma=1", "augment.ct.scale=2"]).problems)
    text = "\n".join(problems)
    assert "argument augment.all.noise_sdt=1: augment.vw_mri.noise_sdt: no such key; did you mean" in text
    assert "argument augment.ct.scale=2: augment.ct.scale: expected a number less than 1, found 2" in text
    alone = texts(read_config([], ["augment.pet.gamma=1"]).problems)
    assert alone == ["argument augment.pet.gamma=1: augment.pet: no such modality; known are all, vw_mri, mri, ct"]
