"""A further change of the images is one function."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vwmm.config.schema import Augmentation
from vwmm.data.augmentation.augment import AugmentationParams, apply_on_device, augment_batch, sample_image_params
from vwmm.data.augmentation.captions import describe_params
from vwmm.data.augmentation.changes import CHANGES

SIZE = (12, 10)


def scaled(settings: Augmentation, random: np.random.Generator) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Multiplies half of the images by a number from 2 to 3."""
    if random.random() < 0.5:
        return None
    factor = random.uniform(2, 3)
    return lambda image: image * factor


def params_of(count: int, epoch: int = 1) -> list[AugmentationParams]:
    return [sample_image_params(Augmentation(), SIZE, seed=0, epoch=epoch, case=n, modality=0) for n in range(count)]


def augmented(images: torch.Tensor, params: list[AugmentationParams], present: list[bool]) -> torch.Tensor:
    return augment_batch({"ct": images}, torch.tensor(present)[:, None], {"ct": params})["ct"]


def test_added_change_follows_the_others_and_leaves_their_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    images, present = torch.rand(8, 1, *SIZE, generator=torch.Generator().manual_seed(1)), [True] * 7 + [False]
    before = augmented(images, params_of(8), present)

    monkeypatch.setitem(CHANGES, "scaled", scaled)
    params = params_of(8)
    after = augmented(images, params, present)

    changed = [row for row, one in enumerate(params) if one.changes]
    assert 0 < len(changed) < 8
    for row in range(8):
        factor = params[row].changes["scaled"](torch.ones(())) if row in changed and present[row] else 1.0
        torch.testing.assert_close(after[row], before[row] * factor, rtol=0, atol=0)
    assert describe_params(params[changed[0]], SIZE).endswith("scaled")


def test_added_change_depends_on_epoch_and_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHANGES, "scaled", scaled)

    def factors(epoch: int) -> list[float]:
        found = [one.changes.get("scaled") for one in params_of(20, epoch)]
        return [1.0 if apply is None else float(apply(torch.ones(()))) for apply in found]

    assert factors(1) == factors(1)
    assert factors(1) != factors(2)
    assert len(set(factors(1))) > 2


def test_fused_changes_on_a_device_do_not_apply_the_added_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow in `augment_batch`, once for every device."""
    volumes = torch.rand(4, *SIZE, 1, generator=torch.Generator().manual_seed(1))
    before = apply_on_device(volumes, params_of(4))

    monkeypatch.setitem(CHANGES, "scaled", scaled)

    assert torch.equal(apply_on_device(volumes, params_of(4)), before)
