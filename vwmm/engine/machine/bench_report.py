"""What a benchmark found, for people and for programs."""

import json
from typing import Any

from vwmm.config.schema import Config
from vwmm.engine.console import amount, duration
from vwmm.engine.machine.verdict import TITLES, Measured, Verdict


def lines_of(config: Config, measured: Measured, verdict: Verdict) -> list[str]:
    """For a terminal."""
    rates, step = measured.input, measured.step
    cases = "synthetic cases of the configuration's sizes" if measured.is_synthetic else "cases of the cohort"
    others = ", ".join(f"{_rate(rate)} by {readers}" for readers, rate in rates.warm_by_readers.items())
    gpu = "" if measured.peak_gpu_memory is None else f", {amount(measured.peak_gpu_memory)} of tensors on the GPU"
    parts = [(name, seconds) for name, seconds in step.parts.items()]
    total = max(1e-9, sum(step.parts.values()))
    precision = "float32" if measured.precision == "no" else measured.precision
    limits = ", ".join(f"{name} {_ms(seconds)}" for name, seconds in measured.floors.items())
    return [
        f"measured on {measured.device} in {precision} with {measured.num_cases} {cases}",
        "",
        "input, cases/s",
        f"  first time  {_rate(rates.first_time)} (files read and transformed, once{_whole_cohort(measured)})",
        f"  cold        {_rate(rates.cold)} (from the disk of cache.dir, train.num_workers={config.train.num_workers})",
        f"  warm        {_rate(rates.warm)} (from memory; {others or 'on the device'})",
        f"  feeds       {_rate(measured.devices_fed(rates.warm))} devices such as this one, "
        f"{_rate(measured.devices_fed(rates.cold))} from the disk",
        "",
        f"a step of {step.cases:.3g} cases: {_ms(step.seconds)}, {_rate(step.cases / step.seconds)} cases/s "
        f"(mean of {step.num_steps})",
        *(f"  {name:12} {_ms(seconds):>9} {100 * seconds / total:5.1f} %" for name, seconds in parts),
        "",
        f"forward and backward at least: {limits}; {100 * measured.share_reached:.3g} % of the limit "
        f"({measured.limit}) reached",
        _passes(measured),
        f"memory       {amount(measured.peak_memory)} at most{gpu}",
        "",
        f"bottleneck   {TITLES[verdict.bottleneck]} ({_ms(verdict.seconds[verdict.bottleneck])} of a step)",
        f"change first {verdict.first}",
    ]


def _whole_cohort(measured: Measured) -> str:
    if measured.num_cohort is None:
        return ""
    return (
        f"; the {measured.num_cohort:,} cases to train on: {duration(measured.num_cohort / measured.input.first_time)}"
    )


def _passes(measured: Measured) -> str:
    passes = "1 pass" if measured.num_passes == 1 else f"{measured.num_passes} passes"
    if not measured.pass_overhead_s:
        return f"a step has {passes}, large enough for their time to be that of their cases"
    return f"a step has {passes}, each with {_ms(measured.pass_overhead_s)} that do not depend on its cases"


def json_of(measured: Measured, verdict: Verdict) -> str:
    """The same for programs; seconds, bytes and cases a second."""
    rates, step, work = measured.input, measured.step, measured.work
    content: dict[str, Any] = {
        "device": measured.device,
        "precision": measured.precision,
        "synthetic": measured.is_synthetic,
        "cases": measured.num_cases,
        "cohort_cases": measured.num_cohort,
        "input_cases_per_s": {
            "first_time": rates.first_time,
            "cold": _finite(rates.cold),
            "warm": _finite(rates.warm),
            "warm_by_readers": rates.warm_by_readers,
        },
        "devices_fed": {
            "warm": _finite(measured.devices_fed(rates.warm)),
            "cold": _finite(measured.devices_fed(rates.cold)),
        },
        "step": {
            "seconds": step.seconds,
            "cases": step.cases,
            "cases_per_s": step.cases / step.seconds,
            "parts_s": step.parts,
            "measured": step.num_steps,
            "passes": measured.num_passes,
            "pass_overhead_s": measured.pass_overhead_s,
        },
        "work_per_image": {"flops": work.flops, "bytes": work.bytes},
        "floors_s": measured.floors,
        "limit": measured.limit,
        "share_reached": measured.share_reached,
        "memory_bytes": {"process": measured.peak_memory, "gpu": measured.peak_gpu_memory},
        "bottleneck": verdict.bottleneck,
        "bottleneck_s": verdict.seconds,
        "change_first": verdict.first,
    }
    return json.dumps(content, indent=2)


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
