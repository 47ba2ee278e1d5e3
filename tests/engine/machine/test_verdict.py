"""The bottleneck of measurements that a test makes up, and what to change."""

from dataclasses import replace
from typing import Any

import pytest

from vwmm.config.loading import load_config
from vwmm.engine.machine.floors import Work
from vwmm.engine.machine.input_rate import InputRate
from vwmm.engine.machine.step_parts import PARTS, StepTimes
from vwmm.engine.machine.verdict import Measured, Verdict, judge

FAST = InputRate(first_time=100.0, cold=1000.0, warm=4000.0, warm_by_readers={2: 4100.0, 4: 4000.0})


def times(**seconds: float) -> StepTimes:
    """A step of 16 cases with these parts."""
    parts = dict.fromkeys(PARTS, 0.001) | {name.replace("_", " "): value for name, value in seconds.items()}
    return StepTimes(sum(parts.values()), 16, parts, 10)


GPU = Measured(
    device="NVIDIA H100", precision="bf16", is_synthetic=False, num_cases=32, num_cohort=250,
    cohort_bytes=10**9, memory=10**11,
    input=FAST, step=times(forward=0.1, backward=0.2), num_passes=1, pass_overhead_s=0.01,
    work=Work({}, {}, 3000, 10**7), floors={"arithmetic": 0.06, "bytes": 0.15, "launches": 0.015},
    peak_memory=10**9, peak_gpu_memory=10**10,
)  # fmt: skip
SLOW_DISK = replace(FAST, cold=20.0)


def judged(measured: Measured, *words: str) -> Verdict:
    return judge(load_config([], words), measured)


def test_forward_and_backward_are_the_rest() -> None:
    verdict = judged(GPU)
    assert verdict.bottleneck == "compute"
    assert "more GPUs" in verdict.first
    assert verdict.seconds["compute"] == pytest.approx(0.29)
    assert GPU.limit == "bytes"
    assert GPU.share_reached == pytest.approx(0.5)
    assert GPU.devices_fed(FAST.warm) == pytest.approx(4000 * 0.305 / 16)


@pytest.mark.parametrize(
    ("change", "words", "bottleneck", "advice"),
    [
        ({"precision": "no"}, ["train.mixed_precision=no"], "compute", "train.mixed_precision=auto"),
        ({"device": "cpu", "peak_gpu_memory": None}, [], "compute", "train.cpu_threads above 1"),
        ({"step": times(input_wait=1.0), "input": replace(FAST, warm=16.0)}, [], "input", "train.num_workers=2"),
        ({"step": times(input_wait=1.0), "input": replace(FAST, warm_by_readers={2: 4000.0})}, [], "input",
         "cache.dtype=float16"),
        ({"step": times(input_wait=1.0), "input": replace(FAST, warm_by_readers={})}, ["cache.dtype=uint8"], "input",
         "fewer processes"),
        ({"step": times(copy=1.0)}, [], "copy", "cache.on_device=true, if the cohort fits; else cache.dtype=float16"),
        ({"step": times(augmentation=1.0)}, [], "augmentation", "augment.vw_mri.affine_chance"),
        ({"pass_overhead_s": 0.25}, [], "overhead", "train.batch_size=64"),
        ({"pass_overhead_s": 0.05, "num_passes": 8}, [], "overhead", "train.cases_at_once=8"),
        ({"step": times(optimizer=1.0)}, [], "overhead", "train.batch_size=64"),
    ],
)  # fmt: skip
def test_largest_part_is_the_bottleneck(change: dict[str, Any], words: list[str], bottleneck: str, advice: str) -> None:
    verdict = judged(replace(GPU, **change), *words)
    assert verdict.bottleneck == bottleneck
    assert advice in verdict.first


@pytest.mark.parametrize(
    ("words", "change", "bottleneck"),
    [
        (["train.epochs=1"], {}, "disk"),
        (["train.epochs=50"], {}, "compute"),  # once in fifty epochs
        (["train.epochs=50"], {"memory": 10**8}, "disk"),  # it is read again in each of them
        (["train.epochs=50"], {"cohort_bytes": None, "memory": 10**8}, "compute"),
    ],
)
def test_slow_disk_counts_as_often_as_it_is_read(words: list[str], change: dict[str, Any], bottleneck: str) -> None:
    verdict = judged(replace(GPU, input=SLOW_DISK, **change), *words)
    assert verdict.bottleneck == bottleneck
    if bottleneck == "disk":
        assert "in each epoch" in verdict.first if "memory" in change else "in the first epoch" in verdict.first


def test_overhead_is_at_most_what_the_passes_take() -> None:
    """The two sizes of a pass are measured apart from the steps, on a machine that others use as well."""
    assert replace(GPU, pass_overhead_s=9.0).overhead_s == pytest.approx(0.3 + 0.003)
