"""The scaling plan of docs/scaling.md: bytes and seconds of a run on 8, 64 and 512 GPUs, from formulas.

    python benchmarks/scaling.py                                              # the tables, as Markdown
    python benchmarks/scaling.py network_gbps=100 ports_per_node=1 gpus=4,16 gpus_per_node=4
    python benchmarks/scaling.py --write docs/scaling.md --figure docs/images/scaling.png

Parameters, buffers, FLOPs, bytes of a cached case and steps of an epoch come from vwmm's own code and
configs/default.yaml. `Measured` holds what was measured on CPUs. `Assumptions` holds the rest, and each of its keys can
be set. Nothing here was run on a GPU.
"""

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.schema import Config
from vwmm.data.cache.entry import Dtype, Layout
from vwmm.data.loading.sampling import evaluation_batches, num_steps
from vwmm.system.errors import EXIT_DONE, UserError, run_guarded

BEGIN, END = "<!-- tables: python benchmarks/scaling.py -->", "<!-- end of the tables -->"
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "uint8")
ENGINES = ("data parallel", "ZeRO-1", "ZeRO-2", "ZeRO-3", "FSDP2", "train.exact")


def assumed(default: float, unit: str, source: str) -> float:
    """A field of `Assumptions`: its default, unit and source."""
    value: float = field(default=float(default), metadata={"unit": unit, "source": source})
    return value


@dataclass(frozen=True)
class Assumptions:
    """The machines, the cohort and the recipe; each field is a key of the command line."""

    gpus: tuple[int, ...] = field(default=(8, 64, 512), metadata={"unit": "GPUs", "source": "the plan's question"})
    gpus_per_node: int = field(default=8, metadata={"unit": "GPUs", "source": "data sheet, NVIDIA DGX H100"})
    cases: int = field(default=2000, metadata={"unit": "cases", "source": "a large cohort of one hospital"})
    batch_per_gpu: int = field(
        default=2, metadata={"unit": "cases", "source": "`train.batch_size` / GPUs; 2 is the default recipe on 8 GPUs"}
    )
    micro_batch: int = field(default=2, metadata={"unit": "cases", "source": "default of `train.micro_batch_size`"})
    peak_tflops: float = assumed(
        989, "TFLOP/s", "data sheet, NVIDIA H100 SXM: bf16, dense (half of 1,979 with sparsity)"
    )
    efficiency: float = assumed(0.3, "of peak_tflops", "guess for 3D convolutions with few channels")
    hbm_gb_per_s: float = assumed(3350, "GB/s", "data sheet, NVIDIA H100 SXM: GPU memory")
    hbm_efficiency: float = assumed(0.7, "of hbm_gb_per_s", "guess for eager elementwise kernels")
    launch_us: float = assumed(5, "us", "guess: Python and driver, for each kernel of an eager step")
    nvlink_gb_per_s: float = assumed(450, "GB/s", "data sheet, NVIDIA H100 SXM: 900 GB/s, half in each direction")
    nvlink_latency_us: float = assumed(3, "us", "guess, for each hop of a ring")
    network_gbps: float = assumed(400, "Gbit/s", "data sheet, NVIDIA ConnectX-7: a port, each direction")
    ports_per_node: int = field(
        default=8, metadata={"unit": "ports", "source": "data sheet, NVIDIA DGX H100: one for each GPU"}
    )
    network_latency_us: float = assumed(10, "us", "guess, for each hop of a ring between nodes")
    link_efficiency: float = assumed(0.8, "of both", "guess; all_reduce_perf of nccl-tests measures it (busbw)")
    cores_per_node: int = field(default=112, metadata={"unit": "cores", "source": "data sheet, NVIDIA DGX H100"})
    page_cache_gb: float = assumed(500, "GB", "guess: what the job's memory limit leaves for cached files")
    filesystem_gb_per_s: float = assumed(20, "GB/s", "guess: the shared file system, for all nodes together")
    node_filesystem_gb_per_s: float = assumed(5, "GB/s", "guess: what one node gets of it")
    metadata_ops_per_s: float = assumed(50_000, "operations/s", "guess; mdtest measures it")
    source_mb_per_case: float = assumed(10, "MB", "guess: a .nii.gz volume and two slices")

    @property
    def network_gb_per_s(self) -> float:
        """GB/s that a node's ports send together, at best."""
        return self.ports_per_node * self.network_gbps / 8

    def num_nodes(self, gpus: int) -> int:
        """Nodes that hold so many GPUs."""
        return -(-gpus // self.gpus_per_node)

    def on_a_node(self, gpus: int) -> int:
        """GPUs of the run on each node."""
        return min(gpus, self.gpus_per_node)

    @property
    def slots(self) -> int:
        """Micro-batches of each GPU in a step."""
        return self.batch_per_gpu // self.micro_batch


@dataclass(frozen=True)
class Measured:
    """Measured on CPUs; see docs/performance.md for the first four."""

    transform_ms_per_case: float = 76.7
    """CPU ms of a patient's fixed transforms, `cache.mode=exact`, without spacing."""
    checkpoint_copy_gb_per_s: float = 0.324 / 0.071
    """GB/s at which a checkpoint is copied while training waits."""
    checkpoint_write_gb_per_s: float = 0.324 / 0.503
    """GB/s at which it is hashed, written and flushed in the background."""
    traffic_gb_per_case: float = 4.67
    """GB that a case's forward and backward read and write in float32, eager; with bf16 half of it is assumed."""
    activations_gb_per_case: float = 0.535
    """GB that a case's forward saves for the backward pass, float32 (510 MiB)."""
    launches_per_slot: int = 3000
    """Kernels of a micro-batch's forward and backward, whatever its size."""
    import_paths: int = 11_900
    """Distinct paths that a process looks at until its imports are done (strace)."""
    import_operations: int = 72_000
    """All its stat and open calls by path (strace), about: what reaches a file system that caches nothing."""
    look_operations: int = 3
    """stat and open calls of a start, for an image that is in the cache (strace); one process does it."""
    build_operations: int = 24
    """The same, with mkdir, rename and locks, for an image that is transformed (strace)."""
    map_operations: int = 3
    """stat and open calls when a process first reads an entry (strace)."""
    use_operations: int = 1
    """stat calls at each later reading."""
    store_requests_per_s: float = 30_000
    """Requests that torch's TCPStore answered (two clients on two cores of a server CPU)."""


MEASURED = Measured()


@dataclass(frozen=True)
class Workload:
    """What vwmm's own code says of configs/default.yaml."""

    config: Config
    """The recipe."""
    parameters: int
    """Of the model."""
    parameter_tensors: int
    """How many tensors they are."""
    running_values: int
    """Batch norm's running means and variances."""
    buffer_bytes: int
    """All buffers."""
    forward_flops: float
    """FLOPs of a case's forward, training mode."""
    step_flops: float
    """FLOPs of a case's forward and backward."""

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients, float32."""
        return 4 * self.parameters

    def case_bytes(self, dtype: Dtype = "float32") -> int:
        """Bytes of a complete case's entries in the cache."""
        return sum(Layout((1, *modality.size), dtype).file_bytes for modality in self.config.modalities.values())

    @property
    def backward_share(self) -> float:
        """Of a micro-batch's time."""
        return 1 - self.forward_flops / self.step_flops


@cache
def default_workload() -> Workload:
    """That of configs/default.yaml."""
    return count_workload(load_config(["configs/default.yaml"]))


def count_workload(config: Config) -> Workload:
    """Builds a recipe's model on the meta device and counts; torch's counter takes convolutions and products.

    Counted with two images of each modality: a single one is computed beside a copy of itself (models/fusion.py).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vwmm.models.fusion import build_model

    count = 2
    with torch.device("meta"):
        model = build_model(config.model, config.modalities, num_classes=3, seed=0).train()
        images = {name: torch.empty(count, 1, *modality.size) for name, modality in config.modalities.items()}
    with FlopCounterMode(display=False) as counter:
        branches = zip(model.branches.values(), images.values(), strict=True)
        logits = model.head(torch.cat([branch(image) for branch, image in branches], dim=1))
        forward = counter.get_total_flops()
        logits.sum().backward()
        total = counter.get_total_flops()
    parameters = list(model.parameters())
    running = [buffer.numel() for name, buffer in model.named_buffers() if "running_" in name]
    return Workload(
        config=config,
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_tensors=len(parameters),
        running_values=sum(running),
        buffer_bytes=sum(buffer.numel() * buffer.element_size() for buffer in model.buffers()),
        forward_flops=forward / count,
        step_flops=total / count,
    )


# -- collectives: bytes that each rank sends, and seconds -------------------------------------------------------------


def reduce_scatter_bytes(size: float, ranks: int) -> float:
    """Bytes that each rank of a ring sends to reduce and scatter `size` bytes: (p - 1) / p of them.

    An all-gather sends as many. Source: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009); nccl-tests,
    doc/PERFORMANCE.md.
    """
    return (ranks - 1) / ranks * size


def all_reduce_bytes(size: float, ranks: int) -> float:
    """Bytes that each rank of a ring sends to all-reduce `size` bytes: reduce-scatter, then all-gather. Same source."""
    return 2 * reduce_scatter_bytes(size, ranks)


def all_reduce_s(size: float, ranks: int, gb_per_s: float, latency_us: float) -> float:
    """Seconds of a ring all-reduce: its bytes at a link's rate, and 2 (p - 1) hops (alpha-beta model, same source)."""
    return all_reduce_bytes(size, ranks) / (gb_per_s * 1e9) + 2 * (ranks - 1) * latency_us * 1e-6


def tree_all_reduce_s(size: float, ranks: int, gb_per_s: float, latency_us: float) -> float:
    """Seconds of an all-reduce by double binary trees: 2 `size` bytes from a rank at most, 2 log2(p) hops.

    Source: NVIDIA, "Massively Scale Your Deep Learning Training with NCCL 2.4" (2019).
    """
    if ranks == 1:
        return 0.0
    return 2 * size / (gb_per_s * 1e9) + 2 * math.ceil(math.log2(ranks)) * latency_us * 1e-6


def hierarchical_all_reduce_s(size: float, gpus: int, machine: Assumptions) -> float:
    """Seconds of an all-reduce over nodes: a ring inside each node, and between them a ring or a tree.

    Inside a node all `size` bytes are reduced and scattered, in the end gathered, over NVLink. Between nodes each of a
    node's g GPUs all-reduces size / g bytes, and they share the node's ports. NCCL is taken to choose what is faster
    there: the ring for many bytes, the tree for few.
    """
    within, nodes, link = _links(size, gpus, machine)
    return within + min(all_reduce_s(*nodes, *link), tree_all_reduce_s(*nodes, *link))


def hierarchical_gather_s(size: float, gpus: int, machine: Assumptions) -> float:
    """Seconds of an all-gather or a reduce-scatter over nodes: half an all-reduce, by rings alone."""
    within, nodes, link = _links(size, gpus, machine)
    return (within + all_reduce_s(*nodes, *link)) / 2


def _links(size: float, gpus: int, machine: Assumptions) -> tuple[float, tuple[float, int], tuple[float, float]]:
    """Seconds inside a node; bytes and number of nodes between them; and a GPU's link there, GB/s and us."""
    inside, nodes, share = machine.on_a_node(gpus), machine.num_nodes(gpus), machine.link_efficiency
    within = all_reduce_s(size, inside, machine.nvlink_gb_per_s * share, machine.nvlink_latency_us)
    return within, (size / inside, nodes), (machine.network_gb_per_s / inside * share, machine.network_latency_us)


def network_bytes(size: float, gpus: int, machine: Assumptions) -> float:
    """Bytes that a node sends over its ports when `size` bytes are all-reduced: its GPUs' shares together."""
    return all_reduce_bytes(size, machine.num_nodes(gpus))


# -- what vwmm reduces in a step --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Collectives:
    """What the processes reduce or gather together in a step, as sizes of whole tensors."""

    all_reduced: tuple[float, ...]
    """Bytes of each all-reduce that waits for the backward pass or overlaps it."""
    gathered: float = 0
    """Bytes of all all-gathers and reduce-scatters together, taken as one: the latency is a lower bound."""

    def bytes_sent(self, gpus: int) -> float:
        """By each GPU."""
        return all_reduce_bytes(sum(self.all_reduced), gpus) + reduce_scatter_bytes(self.gathered, gpus)

    def seconds(self, gpus: int, machine: Assumptions) -> float:
        """Of all of them, one after another."""
        reduced = sum(hierarchical_all_reduce_s(size, gpus, machine) for size in self.all_reduced)
        return reduced + (hierarchical_gather_s(self.gathered, gpus, machine) if self.gathered else 0.0)


def gradient_buckets(size: float) -> list[float]:
    """Bytes of the buckets of DistributedDataParallel: a first one of 1 MiB, then 25 MiB each (its defaults).

    Its buckets end at whole parameters, so the real ones differ by less than a parameter.
    """
    first, other = 2**20, 25 * 2**20
    rest = max(0.0, size - first)
    return [min(size, first)] + [min(other, rest - done) for done in range(0, math.ceil(rest), other)]


def step_collectives(engine: str, workload: Workload, gpus: int, slots: int) -> Collectives:
    """What a step of an engine reduces; slots: micro-batches of each GPU. See vwmm/engine.

    Every engine: the agreement on losses, stops and checkpoints (loops.py), a float32 for each micro-batch and two
    more. Data parallel: the gradients, with the last micro-batch alone. ZeRO-1 and 2: DeepSpeed 0.19 all-reduces where
    the paper reduce-scatters (its `use_multi_rank_bucket_allreduce`), ZeRO-2 after each micro-batch, and gathers the
    weights once. ZeRO-3 gathers them for each forward and backward and reduce-scatters after each micro-batch; FSDP2
    reduce-scatters after the last one. train.exact: a maximum, the gradients as int64, and for each micro-batch of the
    step batch norm's statistics. The paper's own volumes are in `paper_volume`.
    """
    size, num_slots = workload.gradient_bytes, gpus * slots
    agreement = 4.0 * (num_slots + 2)
    norm = 4.0
    if engine == "data parallel":
        return Collectives((*gradient_buckets(size), agreement))
    if engine == "train.exact":
        return Collectives((agreement, norm, 2.0 * size, 4.0 * num_slots * workload.running_values))
    reduced = {"ZeRO-1": 1, "ZeRO-2": slots}.get(engine, 0)
    gathered = {"ZeRO-1": 1, "ZeRO-2": 1, "ZeRO-3": 3 * slots, "FSDP2": 2 * slots + 1}[engine]
    return Collectives((*[float(size)] * reduced, agreement, norm), gathered=float(gathered * size))


def paper_volume(engine: str) -> float:
    """Volume of a step with one micro-batch, relative to data parallel (Rajbhandari et al., ZeRO, SC 2020, section 7).

    FSDP2 has that of ZeRO-3; exact is ours: int64 instead of float32, without the statistics.
    """
    return {"ZeRO-3": 1.5, "FSDP2": 1.5, "train.exact": 2.0}.get(engine, 1.0)


# -- compute ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlotTime:
    """Seconds of a micro-batch's forward and backward on one GPU, by what could limit it."""

    arithmetic: float
    """Its FLOPs."""
    memory: float
    """What it reads and writes."""
    launches: float
    """Its kernels."""

    @property
    def seconds(self) -> float:
        """The largest of the three: a roofline, with launches as a third roof."""
        return max(self.arithmetic, self.memory, self.launches)

    @property
    def limit(self) -> str:
        """Which one it is."""
        roofs = {"arithmetic": self.arithmetic, "GPU memory": self.memory, "launches": self.launches}
        return max(roofs, key=lambda name: roofs[name])


def slot_time(cases: int, workload: Workload, machine: Assumptions) -> SlotTime:
    """Roofline (Williams, Waterman and Patterson, CACM 52, 2009) of a micro-batch of so many cases."""
    return SlotTime(
        arithmetic=cases * workload.step_flops / (machine.peak_tflops * 1e12 * machine.efficiency),
        memory=cases * MEASURED.traffic_gb_per_case / 2 / (machine.hbm_gb_per_s * machine.hbm_efficiency),
        launches=MEASURED.launches_per_slot * machine.launch_us * 1e-6,
    )


def optimizer_s(workload: Workload, machine: Assumptions) -> float:
    """Seconds of fused Adam: it reads weight, gradient and two moments and writes three of them, float32."""
    return 7 * 4 * workload.parameters / (machine.hbm_gb_per_s * 1e9 * machine.hbm_efficiency)


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step."""

    compute: float
    """Forward, backward and optimizer."""
    communication: float
    """All collectives, one after another."""
    hideable: float
    """The last micro-batch's backward pass, which data-parallel gradients can overlap."""

    @property
    def apart(self) -> float:
        """Communication after the backward pass."""
        return self.compute + self.communication

    @property
    def overlapped(self) -> float:
        """Communication hidden behind the last backward pass as far as it is long enough."""
        return self.compute + max(0.0, self.communication - self.hideable)


def step_time(engine: str, workload: Workload, gpus: int, machine: Assumptions) -> StepTime:
    """Of an engine; train.exact sums after the backward pass, and vwmm runs DeepSpeed with `overlap_comm: false`."""
    slot = slot_time(machine.micro_batch, workload, machine).seconds
    can_overlap = engine in ("data parallel", "FSDP2")
    return StepTime(
        compute=machine.slots * slot + optimizer_s(workload, machine),
        communication=step_collectives(engine, workload, gpus, machine.slots).seconds(gpus, machine) if gpus > 1 else 0,
        hideable=workload.backward_share * slot if can_overlap else 0.0,
    )


# -- an epoch, a checkpoint, a start ----------------------------------------------------------------------------------


def divided(workload: Workload, cases: int) -> tuple[int, int]:
    """(training, validation) cases of a cohort, by split.val_fraction."""
    validation = round(cases * workload.config.split.val_fraction)
    return cases - validation, validation


def checkpoint_bytes(workload: Workload, gpus: int) -> int:
    """Bytes of checkpoints/last with Adam under data-parallel training (engine/checkpoints/checkpoint.py).

    Weights, buffers, two moments and a step for each tensor; from two processes on also each one's part of batch
    norm's running statistics, (P, n) float32.
    """
    parts = 4 * gpus * workload.running_values if gpus > 1 else 0
    return 3 * workload.gradient_bytes + workload.buffer_bytes + 4 * workload.parameter_tensors + parts


@dataclass(frozen=True)
class EpochTime:
    """Seconds of an epoch, data parallel, no overlap."""

    steps: int
    training: float
    validation: float
    copy: float
    """Training waits while the checkpoint of the epoch is copied."""
    write: float
    """In the background; the next checkpoint waits for it."""

    @property
    def seconds(self) -> float:
        """An epoch cannot be shorter than the writing of a checkpoint."""
        return self.copy + max(self.training + self.validation, self.write)


def epoch_time(workload: Workload, gpus: int, cases: int, machine: Assumptions) -> EpochTime:
    """Images in memory; every step is taken to be a full one."""
    train, (training, validation) = workload.config.train, divided(workload, cases)
    steps = num_steps(training, gpus * machine.batch_per_gpu, machine.micro_batch)
    batches = -(-len(evaluation_batches(validation, train.eval_batch_size)) // gpus)
    forward = (1 - workload.backward_share) * slot_time(train.eval_batch_size, workload, machine).seconds
    gigabytes = checkpoint_bytes(workload, gpus) / 1e9
    return EpochTime(
        steps=steps,
        training=steps * step_time("data parallel", workload, gpus, machine).apart,
        validation=batches * forward,
        copy=gigabytes / MEASURED.checkpoint_copy_gb_per_s,
        write=gigabytes / MEASURED.checkpoint_write_gb_per_s,
    )


def epoch_reads(size: float, nodes: int, epoch: int, *, fits: bool) -> float:
    """Bytes that all nodes together read from a shared cache in an epoch (from 1) of `size` bytes, on average.

    A node trains a random 1/n of the cases in each epoch; what it has read before is in its page cache, if that holds
    the cohort. So a case is read where it was in none of the e - 1 epochs before: (1 - 1/n)^(e - 1) of them.
    """
    return size * (1 - 1 / nodes) ** (epoch - 1) if fits else size


def shared_read_s(size: float, nodes: int, machine: Assumptions) -> float:
    """Seconds to read `size` bytes, spread over the nodes, from the shared file system."""
    return size / 1e9 / min(machine.filesystem_gb_per_s, nodes * machine.node_filesystem_gb_per_s)


def cohort_operations(images: int, gpus: int, nodes: int, *, clients_cache: bool) -> int:
    """stat and open calls for a cohort's images before the processes join.

    Each process looks at every image (data/cohort/cases.py); `vwmm train` on each node, and the first process, open
    every header (data/checks/preflight.py). clients_cache: whether a node asks for what one of its processes knows
    only once.
    """
    lookers = nodes if clients_cache else gpus + nodes
    openers = nodes if clients_cache else nodes + 1
    return (lookers + openers) * images


def store_requests(gpus: int) -> int:
    """Requests a second at the store of the first node: each process looks at each other one, by a check and a get.

    engine/distributed/watchdog.py, once a second (`run.hang_timeout_s` / 20, at most a second).
    """
    return 2 * gpus * (gpus - 1)


# -- the tables -------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, whole numbers with thousands separators."""
    if value == 0 or (float(value).is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """A Markdown table below a bold title."""
    cells = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in [list(header), ["---"] * len(header), *cells]]
    return "\n".join([f"**{title}**", "", *lines])


def tables(machine: Assumptions) -> Iterator[str]:
    """All of them, in the order of docs/scaling.md."""
    work = default_workload()
    yield _assumptions(machine)
    yield _workload(work)
    yield _slots(work, machine)
    yield _steps(work, machine)
    yield _engines(work, machine)
    yield _batches(work, machine)
    yield _epochs(work, machine)
    yield _cache(work, machine)
    yield _starts(work, machine)


def _assumptions(machine: Assumptions) -> str:
    rows = []
    for item in fields(machine):
        value = getattr(machine, item.name)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:,.6g}"
        is_changed = value != item.default
        source = "set on the command line" if is_changed else item.metadata["source"]
        rows.append([f"`{item.name}`", shown, item.metadata["unit"], source])
    return table("1. Assumptions", ["key", "value", "unit", "source"], rows)


def _workload(work: Workload) -> str:
    entries: list[list[str | float]] = [
        [f"MB of a cached case, {dtype}", work.case_bytes(dtype) / 1e6, "vwmm's layout of an entry"] for dtype in DTYPES
    ]
    rows: list[list[str | float]] = [
        ["parameters", work.parameters, "counted: the default model"],
        ["gradients, MB", work.gradient_bytes / 1e6, "float32, 4 bytes each"],
        ["values of batch norm's running statistics", work.running_values, "counted"],
        ["GFLOP of a case, forward", work.forward_flops / 1e9, "counted by torch's flop counter on the meta device"],
        ["GFLOP of a case, forward and backward", work.step_flops / 1e9, "counted likewise"],
        *entries,
        ["GB of memory traffic of a case, float32", MEASURED.traffic_gb_per_case, "measured on a CPU, eager"],
        ["GB of saved activations of a case, float32", MEASURED.activations_gb_per_case, "measured on a CPU, eager"],
        ["kernels of a micro-batch", MEASURED.launches_per_slot, "counted on a CPU, eager, about"],
        ["CPU ms of a patient's transforms", MEASURED.transform_ms_per_case, "measured: docs/performance.md"],
        ["GB/s of a checkpoint, copied", MEASURED.checkpoint_copy_gb_per_s, "measured: docs/performance.md"],
        ["GB/s of a checkpoint, written", MEASURED.checkpoint_write_gb_per_s, "measured: docs/performance.md"],
        ["distinct paths that imports look at", MEASURED.import_paths, "counted with strace, about"],
        ["stat and open calls of imports", MEASURED.import_operations, "counted with strace, about"],
        ["requests/s of torch's TCPStore", MEASURED.store_requests_per_s, "measured: two clients, two cores"],
    ]
    return table("2. Counted and measured", ["", "value", "how"], rows)


def _slots(work: Workload, machine: Assumptions) -> str:
    rows: list[list[str | float]] = []
    for cases in (2, 4, 8, 16, 32):
        time = slot_time(cases, work, machine)
        parts = [1e3 * time.arithmetic, 1e3 * time.memory, 1e3 * time.launches]
        activations = cases * MEASURED.activations_gb_per_case
        rows.append([cases, *parts, time.limit, cases / time.seconds, activations])
    header = ["micro-batch", "arithmetic, ms", "GPU memory, ms", "launches, ms", "limit", "cases/s of a GPU"]
    header.append("activations, float32, GB")
    return table("3. A micro-batch on one GPU, forward and backward", header, rows)


def _steps(work: Workload, machine: Assumptions) -> str:
    rows: list[list[str | float]] = []
    for gpus in machine.gpus:
        time, batch = step_time("data parallel", work, gpus, machine), gpus * machine.batch_per_gpu
        sent = step_collectives("data parallel", work, gpus, machine.slots).bytes_sent(gpus)
        slow = step_time("data parallel", work, gpus, replace(machine, network_gbps=100, ports_per_node=1))
        rows.append(
            [
                gpus, machine.num_nodes(gpus), batch, sent / 1e6,
                network_bytes(work.gradient_bytes, gpus, machine) / 1e6,
                1e3 * time.compute, 1e3 * time.communication, 1e3 * time.apart, 1e3 * time.overlapped,
                f"{100 * time.compute / time.apart:.0f} to {100 * time.compute / time.overlapped:.0f} %",
                batch / time.apart, 1e3 * slow.communication,
                f"{100 * slow.compute / slow.apart:.0f} to {100 * slow.compute / slow.overlapped:.0f} %",
            ]
        )  # fmt: skip
    header = [
        "GPUs", "nodes", "batch", "sent by a GPU, MB", "by a node's ports, MB", "compute, ms", "communication, ms",
        "step, no overlap, ms", "step, full overlap, ms", "efficiency", "cases/s, no overlap",
        "one 100 Gbit/s port a node: communication, ms", "efficiency",
    ]  # fmt: skip
    return table("4. A step, data parallel", header, rows)


def _engines(work: Workload, machine: Assumptions) -> str:
    rows: list[list[str | float]] = []
    for engine in ENGINES:
        row: list[str | float] = [f"`{engine}`" if "." in engine else engine, f"{paper_volume(engine):.1f}"]
        for gpus in machine.gpus:
            collectives = step_collectives(engine, work, gpus, machine.slots)
            row += [collectives.bytes_sent(gpus) / 1e6, 1e3 * collectives.seconds(gpus, machine)]
        rows.append(row)
    columns = [text for gpus in machine.gpus for text in (f"{gpus} GPUs: MB", "ms")]
    return table(
        f"5. Communication of a step by engine, sent by each GPU, {machine.slots} micro-batch(es) a GPU",
        ["engine", "volume in the paper", *columns],
        rows,
    )


def _batches(work: Workload, machine: Assumptions) -> str:
    rows: list[list[str | float]] = []
    for gpus in machine.gpus:
        batch = gpus * machine.batch_per_gpu
        row: list[str | float] = [gpus, gpus * machine.micro_batch, batch]
        for cases in (200, 2000, 20_000):
            training, validation = divided(work, cases)
            batches = len(evaluation_batches(validation, work.config.train.eval_batch_size))
            row += [
                num_steps(training, batch, machine.micro_batch),
                f"{min(1.0, batches / gpus):.0%}".replace("%", " %"),
            ]
        rows.append(row)
    header = ["GPUs", "smallest batch", "batch here"]
    for cases in (200, 2000, 20_000):
        header += [f"{cases:,} cases: steps an epoch", "GPUs busy in validation"]
    return table("6. What the cohort allows", header, rows)


def _epochs(work: Workload, machine: Assumptions) -> str:
    rows: list[list[str | float]] = []
    epochs, largest = work.config.train.epochs, max(machine.gpus)
    for gpus in machine.gpus:
        time = epoch_time(work, gpus, machine.cases, machine)
        run = epochs * time.seconds
        rows.append(
            [
                gpus, time.steps, time.training, time.validation, checkpoint_bytes(work, gpus) / 1e6, time.copy,
                time.write, time.seconds, run / 60, gpus * run / 3600,
                f"{100 * time.training / time.seconds:.0f} %", largest // gpus * 3600 / run,
            ]
        )  # fmt: skip
    header = [
        "GPUs", "steps", "training, s", "validation, s", "checkpoint, MB", "its copy, s", "its writing, s", "epoch, s",
        f"{epochs} epochs, min", "GPU hours", "share of training", f"runs/h on {largest} GPUs",
    ]  # fmt: skip
    return table(f"7. An epoch of {machine.cases:,} cases, images in memory, no overlap", header, rows)


def _cache(work: Workload, machine: Assumptions) -> str:
    rows: list[list[str | float]] = []
    for gpus in machine.gpus:
        nodes, time = machine.num_nodes(gpus), epoch_time(work, gpus, machine.cases, machine)
        for dtype in DTYPES:
            cohort, share = machine.cases * work.case_bytes(dtype), divided(work, machine.cases)[0] / machine.cases
            fits = cohort / 1e9 <= machine.page_cache_gb
            reads = [epoch_reads(share * cohort, nodes, epoch, fits=fits) / 1e9 for epoch in (1, 2, 10)]
            rows.append(
                [
                    gpus, nodes, dtype, cohort / 1e9, "yes" if fits else "no", *reads, reads[0] / time.training,
                    shared_read_s(share * cohort, nodes, machine), time.training,
                    shared_read_s(nodes * cohort, nodes, machine),
                ]
            )  # fmt: skip
    header = [
        "GPUs", "nodes", "`cache.dtype`", "cohort, GB", "fits a node", "read in epoch 1, GB", "2", "10",
        "asked in epoch 1, GB/s", "reading it, s", "training it, s", "whole cohort to every node, s",
    ]  # fmt: skip
    return table(f"8. The cache on a shared file system, {machine.cases:,} cases, all nodes together", header, rows)


def _range(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"


def _starts(work: Workload, machine: Assumptions) -> str:
    images = machine.cases * len(work.config.modalities)
    rows: list[list[str | float]] = []
    for gpus in machine.gpus:
        nodes = machine.num_nodes(gpus)

        def seconds(operations: float) -> float:
            return operations / machine.metadata_ops_per_s

        requests = store_requests(gpus)
        rows.append(
            [
                gpus, nodes,
                _range(seconds(nodes * MEASURED.import_paths), seconds(gpus * MEASURED.import_operations)),
                _range(
                    seconds(cohort_operations(images, gpus, nodes, clients_cache=True)),
                    seconds(cohort_operations(images, gpus, nodes, clients_cache=False)),
                ),
                seconds(images * MEASURED.look_operations),
                seconds(images * MEASURED.build_operations),
                machine.cases * MEASURED.transform_ms_per_case / 1e3 / (nodes * machine.cores_per_node),
                shared_read_s(machine.cases * machine.source_mb_per_case * 1e6, nodes, machine),
                requests, f"{max(1.0, requests / MEASURED.store_requests_per_s):.1f}",
            ]
        )  # fmt: skip
    header = [
        "GPUs", "nodes", "metadata: imports, s", "cohort, s", "cache that is there, s", "empty cache, s",
        "transforms, s", "reading the images, s", "watch, requests/s", "its round, s",
    ]  # fmt: skip
    return table(f"9. A start with {machine.cases:,} cases", header, rows)


# -- the picture ------------------------------------------------------------------------------------------------------


def draw(machine: Assumptions, target: Path) -> None:
    """Left, what a step is made of; right, how long an epoch takes."""
    from matplotlib.figure import Figure

    work = default_workload()
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    sides: list[tuple[str, str]] = [("data parallel", "default"), ("train.exact", "exact")]
    for place, gpus in enumerate(machine.gpus):
        for shift, (engine, name) in zip((-0.2, 0.2), sides, strict=True):
            time = step_time(engine, work, gpus, machine)
            is_first = place == 0 and engine == "data parallel"
            compute, communication = 1e3 * time.compute, 1e3 * time.communication
            left.bar(place + shift, compute, 0.36, color="#4477aa", label="compute" if is_first else None)
            label = "communication, not overlapped" if is_first else None
            left.bar(place + shift, communication, 0.36, bottom=compute, color="#ee6677", label=label)
            left.annotate(
                name,
                (place + shift, compute + communication),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    left.set_xticks(range(len(machine.gpus)), [f"{gpus} GPUs" for gpus in machine.gpus])
    left.set_ylabel("time of a step (ms)")
    left.margins(y=0.12)
    left.legend(frameon=False, loc="upper left", fontsize=8)
    counts = [2**power for power in range(max(machine.gpus).bit_length())]
    for cases, colour in ((2000, "#4477aa"), (20_000, "#228833")):
        epochs = [epoch_time(work, gpus, cases, machine) for gpus in counts]
        right.plot(counts, [epoch.seconds for epoch in epochs], "o-", ms=4, color=colour, label=f"{cases:,} cases")
        ideal = [(epochs[0].training + epochs[0].validation) / gpus for gpus in counts]
        right.plot(counts, ideal, ":", color=colour, lw=1)
    floor = [checkpoint_bytes(work, gpus) / 1e9 / MEASURED.checkpoint_write_gb_per_s for gpus in counts]
    right.plot(counts, floor, "--", color="#888888", lw=1, label="writing of a checkpoint")
    right.plot([], [], ":", color="black", lw=1, label="one GPU's time, divided")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(counts, [str(gpus) for gpus in counts])
    right.set_xlabel("GPUs")
    right.set_ylabel("time of an epoch (s)")
    right.legend(frameon=False, fontsize=8)
    right.yaxis.set_major_formatter("{x:g}")
    left.set_title("A step, and with train.exact", fontsize=10)
    right.set_title("An epoch with its checkpoint", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=130)


# -- the command line -------------------------------------------------------------------------------------------------


def parse_assumptions(words: Sequence[str]) -> Assumptions:
    """Assumptions with KEY=VALUE words set. Raises UserError that names the nearest key."""
    known, changes, problems = {item.name: item for item in fields(Assumptions)}, dict[str, object](), list[str]()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            problems.append(f"argument {word}: expected KEY=VALUE, such as network_gbps=100")
        elif key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            problems.append(f"argument {word}: no such key; {hint}")
        else:
            try:
                changes[key] = _parse(text, known[key].default)
            except ValueError:
                kind = {tuple: "whole numbers with commas", int: "a whole number"}.get(
                    type(known[key].default), "a number"
                )
                problems.append(f"argument {word}: expected {kind} above 0")
    machine = replace(Assumptions(), **changes)  # type: ignore[arg-type]
    if machine.batch_per_gpu % machine.micro_batch:
        problems.append(
            f"batch_per_gpu ({machine.batch_per_gpu}) must be a multiple of micro_batch ({machine.micro_batch})"
        )
    if ragged := [gpus for gpus in machine.gpus if gpus > machine.gpus_per_node and gpus % machine.gpus_per_node]:
        problems.append(f"gpus: {ragged[0]} do not fill nodes of {machine.gpus_per_node} (gpus_per_node)")
    if problems:
        raise UserError(problems)
    return machine


def _parse(text: str, like: object) -> object:
    read: Callable[[str], float] = float if isinstance(like, float) else int
    values = [read(part) for part in text.split(",")]
    if not all(0 < value < math.inf for value in values) or (len(values) > 1 and not isinstance(like, tuple)):
        raise ValueError(text)
    return tuple(values) if isinstance(like, tuple) else values[0]


def with_tables(document: str, text: str) -> str:
    """The document with the text between its two marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the document has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Prints the tables; or writes them into a document, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assumptions", nargs="*", metavar="KEY=VALUE", help="sets an assumption of table 1")
    parser.add_argument("--write", type=Path, metavar="FILE", help="puts the tables between the marks of this document")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draws the picture (.png or .svg)")
    options = parser.parse_args(arguments)
    machine = parse_assumptions(options.assumptions)
    text = "\n\n".join(tables(machine))
    if options.write is None:
        print(text)
    else:
        options.write.write_text(with_tables(options.write.read_text(encoding="utf-8"), text), encoding="utf-8")
    if options.figure is not None:
        draw(machine, options.figure)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_guarded(main, sys.argv[1:]))
