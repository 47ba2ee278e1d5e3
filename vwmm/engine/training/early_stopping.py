"""Which epoch is the best, and when training stops early."""

import math

from vwmm.config.schema import Train
from vwmm.engine.checkpoints.state import Progress
from vwmm.engine.console import LOG


def note_epoch(progress: Progress, train: Train, epoch: int, value: float | None) -> bool:
    """Notes an epoch's value of `train.monitor`; returns whether the epoch is the best so far."""
    if value is None and epoch == 1:
        LOG.info("train.monitor=%s does not exist on these validation cases; epoch 1 stays the best", train.monitor)
    is_best = progress.best_epoch is None or is_better(value, progress.best_value, train.monitor)
    if is_best:
        progress.best_value, progress.best_epoch = value, epoch
    if is_better(value, progress.stopping_value, train.monitor, by=train.early_stopping.min_delta):
        progress.stopping_value, progress.epochs_without_improvement = value, 0
    else:
        progress.epochs_without_improvement += 1
    return is_best


def stops_early(progress: Progress, train: Train) -> bool:
    """Whether `train.early_stopping.patience` is used up."""
    patience = train.early_stopping.patience
    if patience is None or progress.epochs_without_improvement < patience:
        return False
    LOG.info("stopping early: no better %s for %d epochs", train.monitor, patience)
    return True


def is_better(value: float | None, best: float | None, monitor: str, *, by: float = 0.0) -> bool:
    """Whether a value of `train.monitor` beats the best so far by more than `by`; one that is missing never does."""
    if value is None or not math.isfinite(value):
        return False
    if best is None or not math.isfinite(best):
        return True
    return (best - value if monitor == "loss" else value - best) > by
