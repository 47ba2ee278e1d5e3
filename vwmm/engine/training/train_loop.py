"""The training loop: read, forward, loss, backward, reduce, clip, update."""

from collections.abc import Callable
from functools import partial

from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.training.epoch import Epoch
from vwmm.engine.training.learner import Learner
from vwmm.engine.training.step_reduction import StepReduction, StepResult


def train_one_epoch(
    runtime: Runtime,
    learner: Learner,
    epoch: Epoch,
    *,
    set_rate: Callable[[int], float],
    after_step: Callable[[StepResult], None],
    is_time_to_save: Callable[[], bool] = lambda: False,
) -> None:
    """One pass over the training cases, or a part of one. Called by all ranks; each computes its own micro-batches.

    set_rate: sets and returns the learning rate of a step. after_step: receives the result of each step; may raise
    StoppedEarly. is_time_to_save: asked once a step. A phase tells the watchdog where this rank is.
    """
    strategy, batch_norm, loss_fn = learner.strategy, learner.batch_norm, learner.loss
    strategy.train()
    with epoch.batches(runtime.device) as read_batch:
        for step in epoch.steps():
            phase = partial(runtime.watchdog.phase, step=step.number)
            reduction = StepReduction(runtime, step, set_rate(step.number), wants_save=is_time_to_save())
            total_weight = loss_fn.total_weight(step.cases)
            batch_norm.begin_step(step.num_images)
            for part in step.passes:  # each computes one micro-batch or several at once
                with phase("read"):
                    batch = read_batch(part)
                with strategy.one_pass(is_last=part.is_last), batch_norm.one_pass(part.numbers):
                    with phase("forward"):
                        logits = strategy.forward(batch.images, part.micro_batches)
                        losses = loss_fn(logits, batch.labels, batch.indices, part.micro_batches.sizes) / total_weight
                    reduction.add(part, losses)  # the last one starts the all-reduce of the losses
                    with phase("backward", waits=part.is_last):
                        strategy.backward(losses.sum())  # data-parallel: the last one all-reduces the gradients as well
            with phase("reduce", waits=True):
                strategy.reduce_gradients(len(step.micro_batches))  # where the backward pass has not
                grad_norm = strategy.clip_grad_norm()
                result = reduction.wait(grad_norm)  # from here on all ranks know what came of the step
            with phase("update"):
                strategy.update(is_finite=result.is_finite)  # a step with NaN or infinity changes nothing
                batch_norm.end_step(is_finite=result.is_finite)
            with phase("step"):
                after_step(result)
