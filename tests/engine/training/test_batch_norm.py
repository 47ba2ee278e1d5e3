"""Running statistics kept in parts over the processes, or brought together one micro-batch after another."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from vwmm.engine.training.batch_norm import RunningStatistics
from vwmm.models.norm import BatchNorm2d, single_valued_layers

HAS_IMAGES = [True, True, False, True, True, True, True]


def micro_batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=generator) * (n + 1) + n for n in range(7)]


def processes(number: int, *, exact: bool = False) -> list[tuple[Any, RunningStatistics, Any]]:
    """For each process its copy of a branch, its statistics and its stand-in for Accelerate."""
    made: list[tuple[Any, RunningStatistics, Any]] = []
    for process in range(number):
        branch = nn.Sequential(nn.BatchNorm1d(3))
        accelerator = SimpleNamespace(is_main_process=process == 0, num_processes=number, process_index=process)
        made.append((branch, RunningStatistics({"ct": branch}, cast(Any, accelerator), exact=exact), accelerator))
    return made


def compute(branch: Any, statistics: RunningStatistics, process: int, number: int) -> None:
    """One step of seven micro-batches, every `number`-th of them on this process."""
    statistics.begin_step([[4 * has_any] for has_any in HAS_IMAGES])
    for position, (images, has_any) in enumerate(zip(micro_batches(), HAS_IMAGES, strict=True)):
        if position % number != process:
            continue
        with statistics.one_pass([position]):
            if has_any:
                branch(images)


def state(branch: Any) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in branch.buffers()]


def test_the_sum_of_the_parts_is_what_one_process_has() -> None:
    whole, statistics, _ = processes(1)[0]
    compute(whole, statistics, 0, 1)
    statistics.end_step()
    parts = processes(3)
    for number, (branch, own, _) in enumerate(parts):
        compute(branch, own, number, 3)
        own.end_step()
        assert not own.is_whole
    summed = torch.stack([own.flat for _, own, _ in parts]).sum(0)
    for branch, own, accelerator in parts:
        accelerator.reduce = lambda tensor, reduction: summed
        own.all_reduce()
        for mine, expected in zip(state(branch), state(whole), strict=True):
            torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("number", [2, 3, 7])
def test_exact_statistics_are_the_same_bits_for_any_number_of_processes(number: int) -> None:
    whole, statistics, _ = processes(1, exact=True)[0]
    compute(whole, statistics, 0, 1)
    statistics.end_step()
    plain, keeping, _ = processes(1)[0]
    compute(plain, keeping, 0, 1)
    for mine, expected in zip(state(whole), state(plain), strict=True):
        torch.testing.assert_close(mine, expected)

    parts = processes(number, exact=True)
    for process, (branch, own, _) in enumerate(parts):
        compute(branch, own, process, number)
    summed = torch.stack([own._terms for _, own, _ in parts if own._terms is not None]).sum(0)
    for branch, own, accelerator in parts:
        accelerator.reduce = lambda tensor, reduction: summed
        own.end_step()
        assert all(torch.equal(mine, expected) for mine, expected in zip(state(branch), state(whole), strict=True))
        assert own.is_whole


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_a_step_that_is_passed_over_leaves_the_statistics_as_they_were(exact: bool, number: int) -> None:
    branch, statistics, accelerator = processes(number, exact=exact)[0]
    accelerator.reduce = lambda tensor, reduction: tensor
    compute(branch, statistics, 0, number)
    statistics.end_step()
    before = state(branch)
    compute(branch, statistics, 0, number)
    statistics.end_step(is_finite=False)
    assert all(torch.equal(mine, expected) for mine, expected in zip(state(branch), before, strict=True))


def test_parts_that_were_saved_are_gone_on_with() -> None:
    parts = processes(2)
    for number, (branch, own, _) in enumerate(parts):
        compute(branch, own, number, 2)
        own.end_step()
    gathered = torch.stack([own.flat.clone() for _, own, _ in parts])
    for number, (branch, own, accelerator) in enumerate(processes(2)):
        accelerator.gather = lambda tensor: gathered
        own.set_part(gathered)
        assert not own.is_whole
        assert torch.equal(own.flat, parts[number][1].flat)
        saved = own.gather_parts()
        assert saved is not None
        weights = {f"branches.ct.0.{name}": buffer for name, buffer in branch[0].named_buffers()}
        whole = own.with_reduced_statistics(weights, saved)
        expected = gathered.sum(dim=0)
        assert torch.equal(whole["branches.ct.0.running_mean"], expected[:3])
        assert torch.equal(whole["branches.ct.0.running_var"], expected[3:])


def test_one_process_has_nothing_to_all_reduce_and_a_model_without_batch_norm_neither() -> None:
    branch, statistics, _ = processes(1)[0]
    compute(branch, statistics, 0, 1)
    statistics.all_reduce()
    assert statistics.gather_parts() is None
    accelerator = cast(Any, SimpleNamespace(is_main_process=False, num_processes=2, process_index=1))
    empty = RunningStatistics({"ct": nn.Sequential(nn.Linear(2, 2))}, accelerator)
    empty.begin_step([[2]])
    empty.all_reduce()
    assert empty.gather_parts() is None


NUM_IMAGES = [4, 1, 0, 3, 1, 1, 2]


def mixed(number: int, *, exact: bool) -> list[tuple[Any, RunningStatistics, Any]]:
    """Like `processes`; the branch's second layer sees one value of each image, micro-batches have 0 to 4 images."""
    made: list[tuple[Any, RunningStatistics, Any]] = []
    for process in range(number):
        branch = nn.Sequential(BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), BatchNorm2d(3))
        accelerator = cast(
            Any, SimpleNamespace(is_main_process=process == 0, num_processes=number, process_index=process)
        )
        found = single_valued_layers(nn.Sequential(nn.Conv2d(1, 3, 1), *branch), [4, 4])
        assert found == {"3"}, "of this network the last one, behind the layer that makes three channels of one"
        statistics = RunningStatistics({"ct": branch}, accelerator, exact=exact, single_valued={"ct": {"2"}})
        made.append((branch, statistics, accelerator))
        statistics.begin_step([[number] for number in NUM_IMAGES])
        for position, (images, num_images) in enumerate(zip(micro_batches_of_images(), NUM_IMAGES, strict=True)):
            if position % number != process:
                continue
            with statistics.one_pass([position]):
                if num_images:
                    branch(images)
    return made


def micro_batches_of_images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images, 3, 4, 4, generator=generator) * 2 + 1 for images in NUM_IMAGES]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_single_images_count_only_where_they_have_a_variance(number: int, exact: bool) -> None:
    wide, narrow = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    for images in micro_batches_of_images():
        if len(images) > 0:
            means = wide(images).mean(dim=(2, 3), keepdim=True)
            if len(images) > 1:
                narrow(means)
    parts = mixed(number, exact=exact)
    if exact:
        summed = torch.stack([own._terms for _, own, _ in parts if own._terms is not None]).sum(0)
    for _, own, accelerator in parts:
        if exact:
            accelerator.reduce = lambda tensor, reduction: summed
        own.end_step()
    if not exact:
        summed = torch.stack([own.flat for _, own, _ in parts]).sum(0)
    for branch, own, accelerator in parts:
        accelerator.reduce = lambda tensor, reduction: summed
        own.all_reduce()
        for layer, expected in ((branch[0], wide), (branch[2], narrow)):
            for mine, theirs in zip(layer.buffers(), expected.buffers(), strict=True):
                torch.testing.assert_close(mine, theirs)
