"""Recomputes steps and compares them bit for bit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.splits import cases_of
from vwmm.engine.checkpoints.checkpoint import HOW_TO_RESTORE, Checkpoint, older_checkpoints, read_checkpoint
from vwmm.engine.checkpoints.state import digest
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.preprocessing.fill_cache import build_dataset, prepare_images
from vwmm.engine.runs.open_run import check_same_cohort, versions
from vwmm.engine.tracking.metrics_file import read_records
from vwmm.engine.training.pass_size import micro_batches_at_once
from vwmm.engine.training.step_log import StepRecorder
from vwmm.engine.training.step_reduction import StepResult
from vwmm.engine.training.trainer import Datasets, Trainer
from vwmm.system.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID, UserError


@dataclass
class Report:
    """What came of a comparison."""

    lines: list[str] = field(default_factory=list)
    """For people."""
    num_differences: int = 0
    """How many values were other ones."""
    damaged: list[str] = field(default_factory=list)
    """A line for each checkpoint that cannot be read, so that it was not compared."""

    @property
    def exit_code(self) -> int:
        """Done: every bit was the same; failed: one was not; invalid: a checkpoint is damaged, the rest the same."""
        if self.num_differences:
            return EXIT_FAILED
        return EXIT_INVALID if self.damaged else EXIT_DONE

    def compare(self, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Notes which of the values that there are now were other ones before."""
        for key, value in now.items():
            if before.get(key) != value:
                self.lines.append(f"{what}: {key} was {before.get(key)}, is {value}")
                self.num_differences += 1


def verify_run(
    runtime: Runtime,
    config: Config,
    run: RunFolder,
    cohort: Cohort,
    assigned: Mapping[str, str],
    *,
    first: int | None,
    count: int,
) -> Report:
    """Computes `count` steps after step `first` again. Raises UserError where that cannot be done."""
    images = prepare_images(runtime, cohort, config.modalities, config.cache)
    runtime.broadcast_from_main(lambda: check_same_cohort(run, cohort, assigned, images.hashes(cohort)))
    training, validation = (
        build_dataset(runtime, cases_of(cohort, assigned, part), cohort.classes, config.modalities, images)
        for part in ("train", "val")
    )
    trainer = Trainer(runtime, config, Datasets(training, validation, cohort.classes), run)
    report, recorded = Report(), {key: record for key, record, _ in read_records(run.metrics)}
    last = max((number for event, number in recorded if event == "train"), default=0)
    weights_at = _compare_checkpoints(trainer, run, recorded, report)
    start, checkpoint = runtime.broadcast_from_main(lambda: _choose_start(run, weights_at, first, last))
    if checkpoint is not None:
        trainer.checkpointing.restore(checkpoint.load())
    end = min(start + count, last)
    _compare_environment(runtime, config, run, report)

    def after_step(recorder: StepRecorder, result: StepResult) -> None:
        recorder.note(result)
        report.compare(f"step {result.step}", recorded.get(("train", result.step), {}), result.values())

    are_steps_same, before_steps = True, report.num_differences
    while trainer.progress.step < end and are_steps_same:
        epoch = trainer.progress.step // trainer.steps_per_epoch + 1
        stops = [
            step for step in (*weights_at, end, epoch * trainer.steps_per_epoch) if trainer.progress.step < step <= end
        ]
        trainer.train_steps(epoch, after_step, until=min(stops))
        step, now = trainer.progress.step, trainer.digest()
        if step in weights_at:
            before = _digest_of(trainer, weights_at[step])
            report.compare(f"step {step}, {weights_at[step].path.name}", {"weights": before}, {"weights": now})
        if step == epoch * trainer.steps_per_epoch and ("validation", epoch) in recorded:
            values = {**trainer.validate().metrics(), "weights": now}
            report.compare(f"validation after epoch {epoch}", recorded["validation", epoch], values)
        are_steps_same = report.num_differences == before_steps
    where = "the start" if checkpoint is None else f"checkpoint {checkpoint.path.name}"
    verdict = "NOT the same bits" if report.num_differences else "the same bits"
    report.lines += [f"steps {start + 1} to {trainer.progress.step}, from {where}: {verdict}", *report.damaged]
    return report


def _compare_checkpoints(
    trainer: Trainer, run: RunFolder, recorded: Mapping[tuple[str, int], Mapping[str, Any]], report: Report
) -> dict[int, Checkpoint]:
    """Those to go on from, by their step. Each has to be intact, and the best one to have the weights of its epoch."""
    found: dict[int, Checkpoint] = {}
    for path in (run.best, run.last, *older_checkpoints(run.last)):
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except UserError as error:
            report.damaged.append(f"{error}; it was not compared: {HOW_TO_RESTORE}")
            continue
        if path == run.best:
            epoch = checkpoint.progress.epoch
            before = recorded.get(("validation", epoch), {})
            report.compare(f"best, of epoch {epoch}", before, {"weights": _digest_of(trainer, checkpoint)})
        else:
            found[checkpoint.progress.step] = checkpoint
    return found


def _choose_start(
    run: RunFolder, steps: Mapping[int, Checkpoint], first: int | None, last: int
) -> tuple[int, Checkpoint | None]:
    """The step after which it begins, and the checkpoint of that step; none for step 0."""
    if last == 0:
        raise UserError(f"{run.metrics}: no step is recorded, so there is nothing to compare with")
    known = sorted({0, *steps})
    if first is None:
        first = max(step for step in known if step < last)
    if first not in known or first >= last:
        fitting = ", ".join(str(step) for step in known if step < last)
        raise UserError(
            f"argument --from: there is no checkpoint of step {first} with steps after it; there are {fitting}"
        )
    return first, steps.get(first)


def _digest_of(trainer: Trainer, checkpoint: Checkpoint) -> str:
    """The hash of the weights in a checkpoint, in the model's order."""
    tensors = checkpoint.load().weights
    names = [name for name, _ in trainer.model.named_parameters()]
    return digest(torch.nn.Parameter(tensors[name], requires_grad=False) for name in names)


def _compare_environment(runtime: Runtime, config: Config, run: RunFolder, report: Report) -> None:
    """Reports differences of this machine, which may explain different bits."""
    try:
        before = json.loads(run.environment.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    at_once = micro_batches_at_once(config.train, config.modalities, runtime.device)
    now = {**runtime.describe(), "micro_batches_at_once": at_once, "versions": versions()}
    keys = ("num_processes", "devices", "mixed_precision", "threads_per_process", "micro_batches_at_once", "versions")
    for key in keys:
        if before.get(key) != now[key]:
            report.lines.append(f"note: {key} was {before.get(key)}, is {now[key]}")
    earlier = before.get("earlier_starts", [])
    numbers = {start.get("num_processes") for start in earlier} - {now["num_processes"]}
    if numbers and not config.train.exact:
        others = ", ".join(map(str, sorted(filter(None, numbers))))
        report.lines.append(f"note: some starts of this run had {others} processes: their steps have other bits")
    if {start.get("micro_batches_at_once", at_once) for start in earlier} - {at_once}:
        report.lines.append(
            "note: some starts of this run had another train.cases_at_once: their steps have other bits"
        )
