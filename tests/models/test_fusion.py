"""The fusion model: shapes, missing images, and randomness that is keyed."""

from typing import Any

import pytest
import torch
from torch import nn

from vwmm.analysis.statistics.shapley import subsets
from vwmm.config.schema import Modality, Model
from vwmm.models.branch import build_branch
from vwmm.models.fusion import FusionModel, Head, KeyedDropout, build_model, count_parameters
from vwmm.models.norm import single_valued_layers

THREE = {
    "solid": Modality(dims=3, size=[29, 29, 29]),  # the least that a DenseNet takes
    "flat": Modality(dims=2, size=[32, 32]),
    "other": Modality(dims=2, size=[32, 40]),
}
PATTERNS = [
    [[1, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 0, 1]], [[0, 1, 1], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]], [[1, 0, 0]],
    [[1, 1, 1]], [],
]  # fmt: skip


def build(
    modalities: dict[str, Modality] = THREE, *, seed: int = 0, num_classes: int = 3, **fields: Any
) -> FusionModel:
    model = Model.model_validate({"backbone": "densenet_thin", "hidden": [7, 5], "dropout": 0.5, **fields})
    return build_model(model, modalities, num_classes, seed=seed)


def images_of(cases: int, modalities: dict[str, Modality] = THREE, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(cases, 1, *m.size, generator=generator) for name, m in modalities.items()}


def mask_of(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool).reshape(len(rows), 3)


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_any_number_of_modalities_gives_logits(number: int) -> None:
    modalities = {f"m{n}": Modality(dims=2, size=[32, 32]) for n in range(number)}
    model = build(modalities, num_classes=4)

    logits = model(images_of(2, modalities), torch.ones(2, number, dtype=torch.bool))

    assert tuple(logits.shape) == (2, 4)
    assert model.head.layers[0].in_features == number * 32
    assert list(model.branches) == list(model.missing) == list(modalities)


@pytest.mark.parametrize(("features", "width"), [("backbone", 32), ("classes", 3), (9, 9)])
def test_features_per_modality_are_as_configured(features: Any, width: int) -> None:
    model = build(features=features)

    assert [tuple(vector.shape) for vector in model.missing.values()] == [(width,)] * 3
    assert [layer.in_features for layer in [*model.head.layers, model.head.out]] == [3 * width, 7, 5]
    assert tuple(model(images_of(2), mask_of([[1, 1, 1], [0, 1, 0]])).shape) == (2, 3)


def test_a_head_may_have_no_hidden_layer() -> None:
    model = build(hidden=[])

    assert len(model.head.layers) == 0
    assert tuple(model(images_of(2), mask_of([[1, 1, 1], [1, 1, 1]])).shape) == (2, 3)


@pytest.mark.parametrize("rows", PATTERNS, ids=str)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_parameter_has_a_gradient_whatever_is_missing(rows: list[list[int]], norm: str) -> None:
    model = build(norm=norm).train()

    logits = model(images_of(len(rows)), mask_of(rows), dropout_seed=1)
    logits.sum().backward()

    assert tuple(logits.shape) == (len(rows), 3)
    assert torch.isfinite(logits).all()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("training", [True, False])
def test_the_voxels_of_a_missing_image_change_nothing(training: bool) -> None:
    """Not the logits, not the gradients, not the running statistics of batch norm."""
    present = mask_of([[1, 1, 0], [0, 1, 0], [1, 1, 0]])
    results = []
    for filling in (0.0, 1e6, float("nan")):
        model = build().train(training)
        images = images_of(3)
        for column, name in enumerate(THREE):
            images[name][~present[:, column]] = filling
        logits = model(images, present, dropout_seed=1)
        logits.sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append((logits.detach(), gradients, state_of(model)))

    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


def test_a_missing_modality_has_its_learned_vector() -> None:
    model = build().eval()
    features = []
    model.head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))

    model(images_of(2), mask_of([[1, 0, 1], [1, 1, 0]]))

    torch.testing.assert_close(features[0][0, 32:64], model.missing["flat"].data, rtol=0, atol=0)
    torch.testing.assert_close(features[0][1, 64:], model.missing["other"].data, rtol=0, atol=0)
    with torch.no_grad():
        expected = model.branches["solid"](images_of(2)["solid"])
    torch.testing.assert_close(features[0][:, :32], expected)


def test_images_of_a_batch_keep_their_rows() -> None:
    model = build().eval()
    images, present = images_of(3), mask_of([[1, 0, 1], [1, 1, 0], [0, 1, 1]])

    together = model(images, present)

    for row in range(3):
        alone = model({name: image[row : row + 1] for name, image in images.items()}, present[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_every_choice_of_images_is_answered_as_if_the_others_were_missing() -> None:
    model = build().eval()
    images, present = images_of(2), mask_of([[1, 1, 1], [1, 0, 1]])
    choices = subsets(3)

    answers = model(images, present, visible=choices)

    assert answers.shape[:2] == (2, 8)
    torch.testing.assert_close(answers[:, -1], model(images, present), rtol=0, atol=0)
    for number, choice in enumerate(choices):
        only = present & torch.tensor(choice)
        torch.testing.assert_close(answers[:, number], model(images, only), rtol=0, atol=0)


def test_a_branch_without_an_image_keeps_its_statistics() -> None:
    model = build().train()
    before = state_of(model.branches["flat"])

    model(images_of(2), mask_of([[1, 0, 1], [1, 0, 1]]))

    torch.testing.assert_close(state_of(model.branches["flat"]), before, rtol=0, atol=0)


def test_a_single_image_can_be_trained_on() -> None:
    """At 32 voxels one is left at the end: batch norm cannot normalise one value."""
    model = build().train()

    logits = model(images_of(1), mask_of([[1, 1, 1]]))

    assert torch.isfinite(logits).all()


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    first, again, other = build(seed=1), build(seed=1), build(seed=2)

    torch.testing.assert_close(state_of(first), state_of(again), rtol=0, atol=0)
    assert not torch.equal(first.head.out.weight, other.head.out.weight)
    assert not torch.equal(first.missing["flat"], other.missing["flat"])
    first(images_of(2), mask_of([[1, 1, 1], [1, 1, 1]]), dropout_seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_generators_of_gpus_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)

    build()

    assert seeded == []


def test_dropout_is_keyed() -> None:
    dropout = KeyedDropout(0.25).train()
    x = torch.ones(200, 50)

    def drop(seed: int) -> torch.Tensor:
        result: torch.Tensor = dropout(x, [(len(x), torch.Generator().manual_seed(seed))])
        return result

    assert torch.equal(drop(1), drop(1))
    assert not torch.equal(drop(1), drop(2))
    assert drop(1).unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(drop(1).mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout(x, []), x)
    assert torch.equal(dropout.eval()(x, [(len(x), torch.Generator().manual_seed(1))]), x)


def test_dropout_of_the_model_is_keyed_and_off_in_evaluation() -> None:
    model = build(norm="group").train()
    images, present = images_of(2), mask_of([[1, 1, 1], [1, 1, 1]])

    assert torch.equal(model(images, present, 1), model(images, present, 1))
    assert not torch.equal(model(images, present, 1), model(images, present, 2))
    evaluated = model.eval()(images, present, 1)
    assert torch.equal(evaluated, model(images, present))
    # Without a key nothing is dropped; training multiplies whole matrices, so the last bits may differ.
    torch.testing.assert_close(evaluated, model.train()(images, present))


def test_each_layer_of_the_head_has_its_own_mask() -> None:
    head = Head(50, [50, 50], 2, dropout=0.5).train()
    masks: list[torch.Tensor] = []
    head.dropout.register_forward_hook(lambda _, inputs, output: masks.append((output == 0) & (inputs[0] != 0)))

    head(torch.randn(40, 50), [(40, torch.Generator().manual_seed(0))])

    assert len(masks) == 2
    assert not torch.equal(masks[0], masks[1])


def test_parameters_are_counted_without_building_them() -> None:
    model = Model(backbone="densenet_thin", hidden=[7, 5])

    counted = count_parameters(model, THREE, 3)

    assert counted == sum(parameter.numel() for parameter in build_model(model, THREE, 3, seed=0).parameters())


def test_the_full_model_has_the_parameters_of_three_densenets_and_the_head() -> None:
    modalities = {
        "vw_mri": Modality(dims=3, size=[128, 128, 64]),
        "mri": Modality(dims=2, size=[128, 128]),
        "ct": Modality(dims=2, size=[128, 128]),
    }

    counted = count_parameters(Model(), modalities, 3)

    head = (3072 + 1) * 512 + (512 + 1) * 256 + (256 + 1) * 128 + (128 + 1) * 3
    assert (counted - head - 3 * 1024) / 1e6 == pytest.approx(11.24 + 2 * 6.95, abs=0.02)


@pytest.mark.parametrize("name", ["type", "keys", "float", "training", "1", "T1-w", "forward"])
def test_a_modality_may_have_any_name(name: str) -> None:
    """Torch's containers refuse the names of their own methods."""
    modalities = {name: Modality(dims=2, size=[32, 32]), "ct": Modality(dims=2, size=[32, 32])}
    model = build(modalities)

    logits = model(images_of(2, modalities), torch.tensor([[True, True], [False, True]]))

    assert tuple(logits.shape) == (2, 3)
    again = build(modalities, seed=1)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.missing["ct"], model.missing["ct"])


def test_the_weights_of_ordinary_modalities_keep_their_names() -> None:
    names = set(build().state_dict())

    assert {"missing.solid", "branches.flat.features.conv0.weight", "head.out.weight"} <= names


def test_a_single_image_gives_no_gradient_where_it_has_no_variance_and_no_noise() -> None:
    """Its 64 voxels are one in the last block: what leads only there learns nothing from it, not even rounding."""
    network, _ = build_branch("densenet_thin", dims=2)
    single = single_valued_layers(network, [32, 32])
    assert any("norm5" in name for name in single)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()(torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    for name, buffer in network.named_buffers():
        is_single = name.rpartition(".")[0] in single
        assert torch.equal(buffer, before[name]) == is_single, name
    assert all(parameter.grad is not None for parameter in network.parameters())
    first = dict(network.named_parameters())["features.conv0.weight"].grad
    assert first is not None
    assert first.abs().max() == 0
