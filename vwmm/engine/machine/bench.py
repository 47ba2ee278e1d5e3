"""Measures a configuration on this machine: input, steps, memory and floors."""

import contextlib
import logging
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from vwmm.config.schema import Config
from vwmm.data.cohort.cases import Cohort
from vwmm.data.loading.sampling import plan_epoch
from vwmm.engine.console import LOG, ProgressBar
from vwmm.engine.distributed.precision import uses_volumes
from vwmm.engine.distributed.runtime import Runtime, start_runtime
from vwmm.engine.machine.bench_cohort import choose_cases, make_cases
from vwmm.engine.machine.doctor import case_bytes
from vwmm.engine.machine.floors import count_work, floors, measure_peaks
from vwmm.engine.machine.input_rate import InputRate, measure_input
from vwmm.engine.machine.step_parts import StepClock, Stepper, StepTimes, TimedDataset
from vwmm.engine.machine.verdict import Measured
from vwmm.engine.preprocessing.fill_cache import Images, available_memory, build_dataset, prepare_images
from vwmm.engine.training.learner import Learner, build_learner
from vwmm.engine.training.pass_size import CPU_VOXELS, memory_advice
from vwmm.models.fusion import build_model
from vwmm.system.errors import UserError

# Shares of the time: each of the input's rates, the steps, and the two sizes of a pass.
INPUT_SHARE, STEPS_SHARE, OVERHEAD_SHARE = 0.08, 0.4, 0.08
MAX_STEPS, OVERHEAD_STEPS = 64, 8
# A pass of so many times the cases tells what does not depend on them.
PASS_FACTOR = 4


def run_bench(config: Config, *, seconds: float) -> Measured:
    """Measures; about so many seconds. Everything is written to a folder beside the cache, and removed. Raises
    UserError where the user's input is wrong."""
    with _work_folder(Path(config.cache.dir)) as folder, ProgressBar("bench", 6, "part") as bar:

        def after_part(name: str) -> None:
            bar.advance(1, note=name)

        total = None
        if config.data.csv is None:
            config, cohort = make_cases(config, folder / "images")
        else:
            cohort, total = choose_cases(config)
        config = config.model_copy(update={"cache": config.cache.model_copy(update={"dir": str(folder / "cache")})})
        after_part("transforming")
        runtime = start_runtime(config.train, has_volumes=uses_volumes(config.modalities))
        runtime = replace(runtime, watchdog=StepClock(runtime.device))
        return _measure(runtime, config, cohort, total, seconds, after_part)


def _measure(
    runtime: Runtime,
    config: Config,
    cohort: Cohort,
    total: int | None,
    seconds: float,
    after_part: Callable[[str], None],
) -> Measured:
    """total: how many cases of the cohort train; None: the cohort was made."""
    train, device = config.train, runtime.device
    images, first_time = _first_time(runtime, config, cohort)
    after_part("reading from the disk")
    dataset = build_dataset(runtime, cohort.cases, cohort.classes, config.modalities, images, kind=TimedDataset)
    assert isinstance(dataset, TimedDataset)
    input_rate = _input(config, dataset, images, first_time, seconds, after_part)
    model = build_model(config.model, config.modalities, len(cohort.classes), seed=train.seed)
    learner = build_learner(runtime, model, train, config.modalities, dataset, len(cohort.classes))
    stepper = Stepper(runtime, config, learner, dataset)
    after_part("training steps")
    with memory_advice(config, device):
        step, num_passes = _steps(stepper, learner, seconds)
        peak, gpu_peak = _peak_memory(device)  # before there are larger passes than training has
        after_part("passes of two sizes")
        overhead = _pass_overhead(stepper, step, num_passes, seconds)
    work, peaks = count_work(config), measure_peaks(device, runtime.mixed_precision)
    present = dataset.present().mean(axis=0).tolist()
    in_step = {name: step.cases * share for name, share in zip(config.modalities, present, strict=True)}
    after_part("")
    return Measured(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        precision=runtime.mixed_precision,
        is_synthetic=total is None,
        num_cases=len(dataset),
        num_cohort=total,
        cohort_bytes=None if total is None else total * case_bytes(config),
        memory=available_memory(),
        input=input_rate,
        step=step,
        num_passes=num_passes,
        pass_overhead_s=overhead,
        work=work,
        floors=floors(work, peaks, in_step, num_passes, runtime.mixed_precision),
        peak_memory=peak,
        peak_gpu_memory=gpu_peak,
    )


def _peak_memory(device: torch.device) -> tuple[int, int | None]:
    """Bytes of this process, and of tensors on its GPU."""
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, gpu


def _first_time(runtime: Runtime, config: Config, cohort: Cohort) -> tuple[Images, float]:
    """The transformed images, and how many cases a second were transformed."""
    level = LOG.level
    LOG.setLevel(logging.WARNING)  # a cache of its own is nobody's concern
    try:
        prepare_images(runtime, replace(cohort, cases=cohort.cases[:1]), config.modalities, config.cache)  # compiles
        started = time.perf_counter()
        images = prepare_images(runtime, cohort, config.modalities, config.cache)
    finally:
        LOG.setLevel(level)
    return images, (len(cohort.cases) - 1) / (time.perf_counter() - started)


def _input(
    config: Config,
    dataset: TimedDataset,
    images: Images,
    first_time: float,
    seconds: float,
    after_part: Callable[[str], None],
) -> InputRate:
    if dataset.is_resident:  # on the device since it was built
        return InputRate(first_time, float("inf"), float("inf"), {})
    return measure_input(
        dataset,
        images.entries.values(),
        batch_size=config.train.micro_batch_size,
        readers=config.train.num_workers,
        first_time=first_time,
        seconds=INPUT_SHARE * seconds,
        after_part=after_part,
    )


def _steps(stepper: Stepper, learner: Learner, seconds: float) -> tuple[StepTimes, int]:
    """Steps as training makes them, and the passes of one."""
    train, count = stepper.config.train, len(stepper.dataset)
    plan = list[list[list[int]]]()
    for epoch in range(1, MAX_STEPS + 1):
        plan += plan_epoch(count, train.batch_size, train.micro_batch_size, seed=train.seed, epoch=epoch)
    largest = max(sum(map(len, step)) for step in plan)
    whole = [step for step in plan if sum(map(len, step)) == largest]  # an epoch's last one may be smaller
    num_micro_batches = len(whole[0])
    return stepper.measure(whole[:MAX_STEPS], seconds=STEPS_SHARE * seconds), -(-num_micro_batches // learner.at_once)


def _pass_overhead(stepper: Stepper, step: StepTimes, num_passes: int, seconds: float) -> float:
    """Seconds of a pass that do not depend on its cases: what a pass of several times the cases leaves unexplained.

    Each pass is one micro-batch of any cases, some of them twice.
    """
    config, count = stepper.config, len(stepper.dataset)
    cases = max(2, round(step.cases / num_passes))
    voxels = cases * sum(torch.Size(modality.size).numel() for modality in config.modalities.values())
    if stepper.runtime.device.type == "cpu" and voxels > CPU_VOXELS:
        return 0.0  # a pass of this size takes as long as its cases do (benchmarks/fused_step.py)
    few, many = (cases, PASS_FACTOR * cases) if cases < 8 else (cases // PASS_FACTOR, cases)

    def measure(size: int) -> float:
        plan = [[[(first + index) % count for index in range(size)]] for first in range(OVERHEAD_STEPS)]
        return stepper.measure(plan, seconds=OVERHEAD_SHARE * seconds).computing

    small, large = measure(few), measure(many)
    each = max(0.0, large - small) / (many - few)
    return max(0.0, small - few * each)


@contextlib.contextmanager
def _work_folder(cache: Path) -> Iterator[Path]:
    """A folder on the cache's disk, which is what is measured; removed at the end."""
    there = cache.absolute()
    while not there.is_dir() and there != there.parent:
        there = there.parent
    try:
        made = tempfile.TemporaryDirectory(prefix=".vwmm-bench-", dir=there, ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(f"cache.dir: {there} cannot be written: {error.strerror or error}") from error
    with made as folder:
        yield Path(folder)
