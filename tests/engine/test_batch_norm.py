"""Running statistics kept in parts over the processes."""

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from vwmm.engine.batch_norm import RunningStatistics


def parts(num_processes: int) -> list[tuple[nn.Module, RunningStatistics, Any]]:
    """For each process its copy of a branch, its statistics and its stand-in for Accelerate."""
    made: list[tuple[nn.Module, RunningStatistics, Any]] = []
    for process in range(num_processes):
        branch = nn.Sequential(nn.BatchNorm1d(3))
        accelerator = SimpleNamespace(is_main_process=process == 0, num_processes=num_processes)
        made.append((branch, RunningStatistics({"ct": branch}, cast(Any, accelerator)), accelerator))
    return made


def test_the_sum_of_the_parts_is_what_one_process_has() -> None:
    generator = torch.Generator().manual_seed(0)
    slots = [torch.randn(4, 3, generator=generator) * (n + 1) + n for n in range(7)]
    has_images = [True, True, False, True, True, True, True]
    whole, *_ = parts(1)[0]
    for slot, has_any in zip(slots, has_images, strict=True):
        if has_any:
            whole(slot)

    processes = parts(3)
    for number, (branch, statistics, _) in enumerate(processes):
        statistics.begin()
        for position, (slot, has_any) in enumerate(zip(slots, has_images, strict=True)):
            if position % 3 != number:
                statistics.pass_over([has_any])
            elif has_any:
                branch(slot)
    summed = sum(torch.cat([b for bs in s.buffers for b in bs]) for _, s, _ in processes)
    for _, statistics, accelerator in processes:
        accelerator.reduce = lambda tensor, reduction: summed
        statistics.bring_together()

    for branch, *_ in processes:
        torch.testing.assert_close(branch[0].running_mean, whole[0].running_mean)  # type: ignore[index]
        torch.testing.assert_close(branch[0].running_var, whole[0].running_var)  # type: ignore[index]


def test_one_process_has_nothing_to_bring_together() -> None:
    branch, statistics, _ = parts(1)[0]
    branch(torch.arange(12.0).reshape(4, 3))
    before = branch[0].running_mean.clone()  # type: ignore[index]
    statistics.begin()
    statistics.bring_together()
    assert torch.equal(branch[0].running_mean, before)  # type: ignore[index]
