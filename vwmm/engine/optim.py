"""Optimizer and learning-rate schedule."""

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vwmm.config.schema import Train


def build_optimizer(
    parameters: Iterable[torch.nn.Parameter], train: Train, *, are_sharded: bool = False
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD of torch, with its fused implementation.

    are_sharded: whether the parameters are DTensors, for which torch has no fused SGD.
    """
    if train.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay, fused=not are_sharded
        )
    kind = torch.optim.Adam if train.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)


def learning_rate(step: int, num_steps: int, train: Train) -> float:
    """The rate of update `step` (from 1): a linear warm-up, then constant or half a cosine towards zero.

    The first step after the warm-up has the full rate; zero would be reached one step after the last.

    A function of the step alone, so there is no scheduler state to lose or to step twice.
    """
    if step <= train.warmup_steps:
        return train.lr * step / train.warmup_steps
    if train.schedule == "constant":
        return train.lr
    done = (step - 1 - train.warmup_steps) / max(1, num_steps - train.warmup_steps)
    return train.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The same rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def sum_gradients(model: torch.nn.Module) -> None:
    """Makes data-parallel training add the processes' gradients instead of averaging them.

    The parts of a step's loss add up to the loss of the whole batch, so its gradient is their sum; a division and the
    multiplication that undoes it would round twice.
    """
    if isinstance(model, DistributedDataParallel):
        model.register_comm_hook(None, _add)


def _add(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda future: future.value()[0])
