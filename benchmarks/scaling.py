"""The scaling plan of docs/scaling.md: bytes and seconds of a run on 8, 64 and 512 GPUs, from formulas.

    python benchmarks/scaling.py                                              # the tables, as Markdown
    python benchmarks/scaling.py --network_gbps 100 --ports_per_node 1 --gpus 4 16 --gpus_per_node 4

Parameters, FLOPs, bytes of a cached case and steps of an epoch come from vwmm's own code and configs/default.yaml, all
other numbers from `Assumptions`. Nothing here was run on a GPU.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

from vwmm.config.loading import load_config
from vwmm.config.schema import Config
from vwmm.data.cache.entry import Dtype, Layout
from vwmm.data.loading.sampling import evaluation_batches, num_steps

DTYPES: tuple[Dtype, ...] = ("float32", "float16", "uint8")
STRATEGIES = ("data parallel", "ZeRO-1", "ZeRO-2", "ZeRO-3", "FSDP2", "train.exact")
T = TypeVar("T")


def given(value: T, unit: str, source: str) -> T:
    """A field of `Assumptions`."""
    return field(default=value, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Assumptions:
    """Machines, cohort and what was measured on CPUs: value, unit and source; each is a key of the command line."""

    gpus: tuple[int, ...] = given((8, 64, 512), "GPUs", "the plan's question")
    gpus_per_node: int = given(8, "GPUs", "data sheet, NVIDIA DGX H100")
    cases: int = given(2000, "cases", "a large cohort of one hospital")
    batch_per_gpu: int = given(2, "cases", "`train.batch_size` / GPUs; 2 is the default on 8 GPUs")
    micro_batch: int = given(2, "cases", "default of `train.micro_batch_size`")
    peak_tflops: float = given(989.0, "TFLOP/s", "data sheet, NVIDIA H100 SXM: bf16, dense (half of 1,979)")
    efficiency: float = given(0.3, "of peak_tflops", "guess for 3D convolutions with few channels")
    hbm_gb_per_s: float = given(3350.0, "GB/s", "data sheet, NVIDIA H100 SXM: GPU memory")
    hbm_efficiency: float = given(0.7, "of hbm_gb_per_s", "guess for eager elementwise kernels")
    launch_us: float = given(5.0, "us", "guess: Python and driver, for each kernel of an eager step")
    nvlink_gb_per_s: float = given(450.0, "GB/s", "data sheet, NVIDIA H100 SXM: 900 GB/s, half in each direction")
    nvlink_latency_us: float = given(3.0, "us", "guess, for each hop of a ring")
    network_gbps: float = given(400.0, "Gbit/s", "data sheet, NVIDIA ConnectX-7: a port, each direction")
    ports_per_node: int = given(8, "ports", "data sheet, NVIDIA DGX H100: one for each GPU")
    network_latency_us: float = given(10.0, "us", "guess, for each hop of a ring between nodes")
    link_efficiency: float = given(0.8, "of both", "guess; all_reduce_perf of nccl-tests measures it (busbw)")
    traffic_gb_per_case: float = given(4.67, "GB", "measured on a CPU, eager, float32: half is assumed for bf16")
    activations_gb_per_case: float = given(0.535, "GB", "measured on a CPU, eager, float32")
    kernels: int = given(3000, "kernels", "counted on a CPU, eager, about: forward and backward of a micro-batch")
    checkpoint_copy_gb_per_s: float = given(4.56, "GB/s", "measured: docs/performance.md; training waits")
    checkpoint_write_gb_per_s: float = given(0.644, "GB/s", "measured: docs/performance.md; in the background")

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of each GPU in a step."""
        return -(-self.batch_per_gpu // self.micro_batch)


@dataclass(frozen=True)
class Workload:
    """What vwmm's own code counts for a configuration; FLOPs are a case's, in training mode."""

    config: Config
    parameters: int
    parameter_tensors: int
    running_values: int
    buffer_bytes: int
    forward_flops: float
    step_flops: float

    def case_bytes(self, dtype: Dtype = "float32") -> int:
        """Bytes of a complete case's entries in the cache."""
        return sum(Layout((1, *modality.size), dtype).file_bytes for modality in self.config.modalities.values())


def count_workload(config: Config) -> Workload:
    """Builds the model on the meta device and counts; torch's counter takes convolutions and products.

    Counted with two images of each modality: a single one is computed beside a copy of itself (models/fusion.py).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vwmm.models.fusion import build_model

    with torch.device("meta"):
        model = build_model(config.model, config.modalities, num_classes=3, seed=0).train()
        images = [torch.empty(2, 1, *modality.size) for modality in config.modalities.values()]
    with FlopCounterMode(display=False) as counter:
        features = [branch(image) for branch, image in zip(model.branches.values(), images, strict=True)]
        logits = model.head(torch.cat(features, dim=1))
        forward = counter.get_total_flops()
        logits.sum().backward()
    parameters, buffers = list(model.parameters()), dict(model.named_buffers())
    return Workload(
        config=config,
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_tensors=len(parameters),
        running_values=sum(buffer.numel() for name, buffer in buffers.items() if "running_" in name),
        buffer_bytes=sum(buffer.numel() * buffer.element_size() for buffer in buffers.values()),
        forward_flops=forward / 2,
        step_flops=counter.get_total_flops() / 2,
    )


def all_reduce_bytes(size: float, ranks: int) -> float:
    """Bytes that each rank of a ring sends to all-reduce `size` bytes: reduce-scatter, then all-gather, half each.

    Source: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009); nccl-tests, doc/PERFORMANCE.md.
    """
    return 2 * (ranks - 1) / ranks * size


def all_reduce_s(size: float, ranks: int, gb_per_s: float, latency_us: float) -> float:
    """Seconds by the faster of a ring, with 2 (p - 1) hops, and double binary trees, with 2 log2(p) (NCCL chooses).

    Sources: the same, and NVIDIA, "Massively Scale Your Deep Learning Training with NCCL 2.4" (2019) for the trees.
    """
    if ranks == 1:
        return 0.0
    ring = all_reduce_bytes(size, ranks) / (gb_per_s * 1e9) + 2 * (ranks - 1) * latency_us * 1e-6
    return min(ring, 2 * size / (gb_per_s * 1e9) + 2 * math.ceil(math.log2(ranks)) * latency_us * 1e-6)


def hierarchical_all_reduce_s(size: float, gpus: int, machine: Assumptions) -> float:
    """Seconds by NVLink in a node and, of size / g bytes for each of its g GPUs, over its ports."""
    inside, nodes, share = min(gpus, machine.gpus_per_node), -(-gpus // machine.gpus_per_node), machine.link_efficiency
    within = all_reduce_s(size, inside, machine.nvlink_gb_per_s * share, machine.nvlink_latency_us)
    port = machine.ports_per_node * machine.network_gbps / 8 / inside * share
    return within + all_reduce_s(size / inside, nodes, port, machine.network_latency_us)


class Collectives(NamedTuple):
    """Bytes of the tensors that a step all-reduces, and of those that it gathers or reduce-scatters (taken as one)."""

    all_reduced: Sequence[float]
    gathered: float = 0

    def bytes_sent(self, gpus: int) -> float:
        """By each GPU."""
        return all_reduce_bytes(sum(self.all_reduced) + self.gathered / 2, gpus)

    def seconds(self, gpus: int, machine: Assumptions) -> float:
        """One after another; a gathering takes half of a reduction."""
        seconds = [hierarchical_all_reduce_s(size, gpus, machine) for size in (*self.all_reduced, self.gathered)]
        return sum(seconds) - seconds[-1] / 2


def step_collectives(strategy: str, work: Workload, gpus: int, num_micro_batches: int) -> Collectives:
    """What a step reduces, with so many micro-batches on each GPU (vwmm/engine/training, vwmm/engine/strategies).

    Every strategy: a float32 for each micro-batch's loss and two for requests to stop and to save. Data parallel: the
    gradients, with the last micro-batch alone, in buckets of 1 and then 25 MiB. ZeRO-1 and 2: DeepSpeed 0.19 reduces
    where the paper reduce-scatters (`use_multi_rank_bucket_allreduce`), once a step as vwmm drives it, and gathers the
    weights once. ZeRO-3 gathers them for each forward and backward and reduce-scatters after each micro-batch, FSDP2
    after the last one. train.exact: a maximum, the gradients as int64, and each micro-batch's statistics of batch norm.
    """
    size, losses, norm = 4 * work.parameters, 4.0 * (gpus * num_micro_batches + 2), 4.0
    if strategy == "data parallel":
        rest = max(0, size - 2**20)
        buckets = [min(25 * 2**20, rest - done) for done in range(0, rest, 25 * 2**20)]
        return Collectives((min(size, 2**20), *buckets, losses))
    if strategy == "train.exact":
        return Collectives((losses, norm, 2.0 * size, 4.0 * gpus * num_micro_batches * work.running_values))
    reduced = {"ZeRO-1": 1, "ZeRO-2": 1}.get(strategy, 0)
    gathered = {"ZeRO-1": 1, "ZeRO-2": 1, "ZeRO-3": 3 * num_micro_batches, "FSDP2": 2 * num_micro_batches + 1}[strategy]
    return Collectives((*[float(size)] * reduced, losses, norm), gathered=float(gathered * size))


def micro_batch_s(cases: int, work: Workload, machine: Assumptions) -> dict[str, float]:
    """Seconds of a micro-batch's forward and backward by what could limit it; the largest does.

    Roofline (Williams, Waterman and Patterson, CACM 52, 2009), with the kernels' launches as a third roof.
    """
    return {
        "arithmetic": cases * work.step_flops / (machine.peak_tflops * 1e12 * machine.efficiency),
        "GPU memory": cases * machine.traffic_gb_per_case / 2 / (machine.hbm_gb_per_s * machine.hbm_efficiency),
        "launches": machine.kernels * machine.launch_us * 1e-6,
    }


def step_s(strategy: str, work: Workload, gpus: int, machine: Assumptions) -> tuple[float, float]:
    """(compute, communication) seconds, no overlap; fused Adam reads four float32 a parameter and writes three."""
    adam = 28 * work.parameters / (machine.hbm_gb_per_s * 1e9 * machine.hbm_efficiency)
    batches = machine.num_micro_batches
    compute = batches * max(micro_batch_s(machine.micro_batch, work, machine).values()) + adam
    return compute, step_collectives(strategy, work, gpus, batches).seconds(gpus, machine)


def checkpoint_bytes(work: Workload, gpus: int) -> int:
    """Bytes of checkpoints/last with Adam under data-parallel training (engine/checkpoints/checkpoint.py).

    Weights, buffers, two moments and a step for each tensor; from two processes on also each one's part of batch
    norm's running statistics, (P, n) float32.
    """
    parts = 4 * gpus * work.running_values if gpus > 1 else 0
    return 12 * work.parameters + work.buffer_bytes + 4 * work.parameter_tensors + parts


def epoch_time(work: Workload, gpus: int, cases: int, machine: Assumptions) -> dict[str, float]:
    """Steps and seconds of an epoch: data parallel, full steps, images in memory.

    Whole batches of validation are shared out to the GPUs. Training waits for a checkpoint's copy, and the next
    checkpoint for the writing of this one in the background.
    """
    eval_size, gigabytes = work.config.train.eval_batch_size, checkpoint_bytes(work, gpus) / 1e9
    validation = round(cases * work.config.split.val_fraction)
    batches = len(evaluation_batches(validation, eval_size))
    steps = num_steps(cases - validation, gpus * machine.batch_per_gpu, machine.micro_batch)
    forward = work.forward_flops / work.step_flops * max(micro_batch_s(eval_size, work, machine).values())
    train, validate = steps * sum(step_s("data parallel", work, gpus, machine)), math.ceil(batches / gpus) * forward
    write = gigabytes / machine.checkpoint_write_gb_per_s
    epoch = gigabytes / machine.checkpoint_copy_gb_per_s + max(train + validate, write)
    names = ("steps", "training, s", "validation, s", "GPUs busy in it, %", "writing of a checkpoint, s", "epoch, s")
    return dict(zip(names, (steps, train, validate, min(100.0, 100 * batches / gpus), write, epoch), strict=True))


def store_requests(gpus: int) -> int:
    """Requests a second at one store: each process looks at each other one, by a check and a get (watchdog.py)."""
    return 2 * gpus * (gpus - 1)


def table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table below a bold title: floats with three significant digits."""

    def shown(cell: Any) -> str:
        short = f"{float(f'{cell:.3g}'):,g}" if isinstance(cell, float) else str(cell)
        return f"{cell:,}" if isinstance(cell, int) else short

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([shown(cell) for cell in row.values()] for row in rows)]
    return "\n".join([f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])


def tables(work: Workload, machine: Assumptions) -> Iterator[str]:
    """All of them, in the order of docs/scaling.md."""
    count = machine.num_micro_batches
    yield table("1. Assumptions", [
        {"key": f"`{item.name}`", "value": getattr(machine, item.name), **item.metadata}
        | ({} if getattr(machine, item.name) == item.default else {"source": "set on the command line"})
        for item in fields(machine)
    ])  # fmt: skip
    counted: dict[str, float] = {"parameters": work.parameters, "values of running statistics": work.running_values}
    counted |= {"GFLOP of a case, forward": work.forward_flops / 1e9, "and backward": work.step_flops / 1e9}
    cached = {f"MB of a cached case, {dtype}": work.case_bytes(dtype) / 1e6 for dtype in DTYPES}
    yield table("2. Counted in vwmm's code", [counted | cached])
    yield table("3. A micro-batch on one GPU, forward and backward", [
        {
            "micro-batch": cases, **{f"{limit}, ms": 1e3 * seconds for limit, seconds in limits.items()},
            "limit": max(limits, key=lambda limit: limits[limit]), "cases/s of a GPU": cases / max(limits.values()),
            "activations, float32, GB": cases * machine.activations_gb_per_case,
        }
        for cases in (2, 4, 8, 16, 32)
        for limits in [micro_batch_s(cases, work, machine)]
    ])  # fmt: skip
    yield table("4. A step, data parallel, without overlap", [
        {
            "GPUs": gpus, "batch": gpus * machine.batch_per_gpu,
            "sent by a GPU, MB": step_collectives("data parallel", work, gpus, count).bytes_sent(gpus) / 1e6,
            "compute, ms": 1e3 * compute, "communication, ms": 1e3 * communication,
            "efficiency, %": 100 * compute / (compute + communication),
            "cases/s": gpus * machine.batch_per_gpu / (compute + communication),
            "images asked, GB/s": gpus * machine.batch_per_gpu / (compute + communication) * work.case_bytes() / 1e9,
            "watch, requests/s": store_requests(gpus),
        }
        for gpus in machine.gpus
        for compute, communication in [step_s("data parallel", work, gpus, machine)]
    ])  # fmt: skip
    yield table(f"5. Communication of a step by strategy, sent by each GPU, {count} micro-batch(es) a GPU", [
        {"strategy": strategy}
        | {f"MB, {p} GPUs": step_collectives(strategy, work, p, count).bytes_sent(p) / 1e6 for p in machine.gpus}
        | {f"ms, {p} GPUs": 1e3 * step_s(strategy, work, p, machine)[1] for p in machine.gpus}
        for strategy in STRATEGIES
    ])  # fmt: skip
    yield table("6. An epoch", [
        {"cases": cases, "GPUs": gpus, "checkpoint, MB": checkpoint_bytes(work, gpus) / 1e6, **time}
        | {"GPU hours of 100 epochs": gpus * time["epoch, s"] / 36}
        for cases in (machine.cases, 10 * machine.cases)
        for gpus in machine.gpus
        for time in [epoch_time(work, gpus, cases, machine)]
    ])  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for item in fields(Assumptions):
        kind = {"nargs": "+", "type": int} if item.name == "gpus" else {"type": type(item.default)}
        parser.add_argument(f"--{item.name}", default=item.default, help=item.metadata["unit"], **kind)
    work = count_workload(load_config(["configs/default.yaml"]))
    options = vars(parser.parse_args(arguments))
    print("\n\n".join(tables(work, Assumptions(**options | {"gpus": tuple(options["gpus"])}))))


if __name__ == "__main__":
    main()
