"""How many micro-batches are computed at once."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vwmm.config.loading import load_config
from vwmm.config.schema import Modality, Train
from vwmm.engine.training.pass_size import memory_advice, micro_batches_at_once
from vwmm.system.errors import RunError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SMALL = {"vw_mri": Modality(dims=3, size=[32, 32, 32]), "ct": Modality(dims=2, size=[32, 32])}
LARGE = {"vw_mri": Modality(dims=3, size=[128, 128, 64])}


def at_once(modalities: dict[str, Modality], device: torch.device = CPU, **fields: Any) -> int:
    return micro_batches_at_once(Train.model_validate({"batch_size": 16} | fields), modalities, device)


def test_small_images_are_computed_together_and_large_ones_micro_batch_by_micro_batch() -> None:
    assert (at_once(SMALL), at_once(LARGE)) == (8, 1)
    assert at_once(SMALL, batch_size=40, micro_batch_size=4) == 5, "35 cases fit: two passes of 20 instead of 32 and 8"


@pytest.mark.parametrize(("cases", "expected"), [(1, 1), (4, 2), (5, 2), (1000, 8)])
def test_number_of_cases_is_rounded_down_to_whole_micro_batches(cases: int, expected: int) -> None:
    assert at_once(SMALL, cases_at_once=cases) == expected


def test_exact_training_computes_each_micro_batch_alone() -> None:
    assert at_once(SMALL, exact=True, cases_at_once=16) == 1


def test_gpu_computes_what_fits_into_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=16 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert at_once(LARGE, GPU) == 4  # 8.6 GB of 16 GiB, 0.67 GB a case: 6 micro-batches fit, so two passes of 4
    memory.total_memory = 2 * 2**30
    assert at_once(LARGE, GPU) == 1


@pytest.mark.parametrize(
    ("overrides", "expected", "absent"),
    [
        (["train.cases_at_once=8"], ["pass of 8 cases", "train.cases_at_once=4", "model.checkpointing=true"], []),
        (
            ["train.cases_at_once=2", "model.checkpointing=true"],
            ["pass of 2 cases"],
            ["cases_at_once=", "checkpointing"],
        ),
        (["train.mixed_precision=no"], ["train.mixed_precision=auto"], []),
    ],
)
def test_lack_of_memory_is_answered_with_what_needs_less(
    overrides: list[str], expected: list[str], absent: list[str]
) -> None:
    with (
        pytest.raises(RunError) as raised,
        memory_advice(load_config([], overrides), CPU),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nSee documentation")
    message = str(raised.value)
    assert "Tried to allocate 20 GiB." in message
    assert all(words in message for words in expected)
    assert not any(words in message for words in absent)
