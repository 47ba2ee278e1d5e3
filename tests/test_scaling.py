"""The formulas of the scaling plan against simulations, against what vwmm really sends and writes, and its document."""

import multiprocessing
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import scaling
from benchmarks.scaling import Assumptions
from tests.conftest import ROOT, TINY
from tests.faults.rehearsing import in_long_form
from vwmm.config.loading import load_config
from vwmm.config.schema import Config
from vwmm.system.errors import UserError, run_guarded

DOCUMENT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def ring_all_reduce(values: np.ndarray) -> tuple[np.ndarray, list[int], int]:
    """(P, P * n) one row a rank: the rows afterwards, the bytes that each rank sent, and the number of hops."""
    ranks = len(values)
    chunks = [list(np.split(row.copy(), ranks)) for row in values]
    sent, hops = [0] * ranks, 0
    for phase in ("reduce", "gather"):
        for hop in range(ranks - 1):
            first = 0 if phase == "reduce" else 1
            messages = [(rank, (rank + first - hop) % ranks) for rank in range(ranks)]
            payloads = [chunks[rank][chunk].copy() for rank, chunk in messages]
            for (rank, chunk), payload in zip(messages, payloads, strict=True):
                target = chunks[(rank + 1) % ranks]
                target[chunk] = target[chunk] + payload if phase == "reduce" else payload
                sent[rank] += payload.nbytes
            hops += 1
    return np.array([np.concatenate(row) for row in chunks]), sent, hops


@pytest.mark.parametrize("ranks", [1, 2, 4, 7])
def test_a_ring_sends_what_the_formula_says(ranks: int) -> None:
    values = np.random.default_rng(0).integers(0, 100, (ranks, 3 * ranks))

    result, sent, hops = ring_all_reduce(values)

    assert (result == values.sum(axis=0)).all()
    assert sent == [scaling.all_reduce_bytes(values[0].nbytes, ranks)] * ranks
    expected_s = sent[0] / 2e9 + hops * 5e-6
    assert scaling.all_reduce_s(values[0].nbytes, ranks, gb_per_s=2, latency_us=5) == pytest.approx(expected_s)


def test_over_nodes_each_gpu_reduces_its_share_and_the_ports_carry_all_shares() -> None:
    nodes, inside, size = 3, 2, 6 * 8
    machine = Assumptions(gpus_per_node=inside, link_efficiency=1.0, ports_per_node=1)
    shares = [ring_all_reduce(np.ones((nodes, size // inside // 8)))[1][0] for _ in range(inside)]

    assert scaling.network_bytes(size, nodes * inside, machine) == sum(shares)
    big = 1e9  # the ring is faster than the tree
    expected = big / (machine.nvlink_gb_per_s * 1e9) + 4 / 3 * big / (machine.network_gbps / 8 * 1e9)
    expected += (2 * machine.nvlink_latency_us + 4 * machine.network_latency_us) * 1e-6
    assert scaling.hierarchical_all_reduce_s(big, nodes * inside, machine) == pytest.approx(expected)


def test_between_many_nodes_few_bytes_take_the_tree_with_fewer_hops() -> None:
    machine = Assumptions(gpus_per_node=1)
    rings, tree = 2 * 63 * machine.network_latency_us, 2 * 6 * machine.network_latency_us

    assert scaling.all_reduce_s(0, 64, 1, machine.network_latency_us) == pytest.approx(rings * 1e-6)
    assert scaling.hierarchical_all_reduce_s(8, 64, machine) == pytest.approx(tree * 1e-6, rel=1e-3)
    assert scaling.hierarchical_all_reduce_s(1e12, 64, machine) < scaling.tree_all_reduce_s(
        1e12, 64, machine.network_gb_per_s * machine.link_efficiency, machine.network_latency_us
    )


@pytest.mark.parametrize("engine", scaling.ENGINES)
def test_one_process_sends_nothing_and_waits_for_nobody(engine: str) -> None:
    work, machine = scaling.default_workload(), Assumptions()

    collectives = scaling.step_collectives(engine, work, 1, slots=4)

    assert collectives.bytes_sent(1) == 0
    assert collectives.seconds(1, machine) == 0
    assert scaling.step_time(engine, work, 1, machine).apart == scaling.step_time(engine, work, 1, machine).compute


@pytest.mark.parametrize("engine", ["data parallel", "ZeRO-3", "FSDP2"])
def test_with_one_micro_batch_the_volume_is_that_of_the_paper(engine: str) -> None:
    work = scaling.default_workload()
    plain = scaling.all_reduce_bytes(work.gradient_bytes, 64)

    sent = scaling.step_collectives(engine, work, 64, slots=1).bytes_sent(64)

    assert sent / plain == pytest.approx(scaling.paper_volume(engine), rel=1e-4)


def test_zero_repeats_for_each_micro_batch_what_data_parallel_training_does_once() -> None:
    work = scaling.default_workload()
    unit = scaling.reduce_scatter_bytes(work.gradient_bytes, 64)

    volumes = [scaling.step_collectives(engine, work, 64, slots=4).bytes_sent(64) / unit for engine in scaling.ENGINES]

    assert [round(volume) for volume in volumes[:5]] == [2, 3, 9, 12, 9]


SMALL = [
    "modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "modalities.ct.size=[32,32]",
    "train.batch_size=4", "train.micro_batch_size=2", "train.mixed_precision=no",
]  # fmt: skip


def count_reductions(rank: int, port: int, folder: Path, answers: Any) -> None:
    """In one of two processes: the bytes of each all-reduce of a step of vwmm's loop, for both kinds of sum.

    Of the second step: in the first one torch has all gradients in a single bucket.
    """
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    import torch.distributed as dist

    from benchmarks.training_loop import make_dataset
    from vwmm.engine.distributed.runtime import start_runtime
    from vwmm.engine.training.epoch import Epoch
    from vwmm.engine.training.learner import build_learner
    from vwmm.engine.training.train_loop import train_one_epoch
    from vwmm.models.fusion import build_model

    real, sizes = dist.all_reduce, list[int]()

    def counted(tensor: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        sizes.append(tensor.numel() * tensor.element_size())
        return real(tensor, *arguments, **more)

    dist.all_reduce = counted
    config = load_config([], SMALL)
    runtime = start_runtime(config.train)
    dataset = make_dataset(folder / str(rank), SMALL, num_cases=8)
    found: dict[str, list[int]] = {"processes": [dist.get_world_size()]}
    for engine, is_exact in (("data parallel", False), ("train.exact", True)):

        def keep(_: object, engine: str = engine) -> None:
            found[engine] = list(sizes)
            sizes.clear()

        train = config.train.model_copy(update={"exact": is_exact})
        model = build_model(config.model, config.modalities, 3, seed=0)
        learner = build_learner(runtime, model, train, config.modalities, dataset, 3)
        sizes.clear()
        epoch = Epoch(
            dataset, [[[0, 1], [2, 3]], [[4, 5], [6, 7]]], present=dataset.present(), first_step=1, seed=0,
            augment=lambda batch: batch.cast().images, rank=rank, num_processes=2, dummies=learner.strategy.dummies,
        )  # fmt: skip
        train_one_epoch(runtime, learner, epoch, set_rate=lambda step: 1e-4, after_step=keep)
    answers.put((rank, found))
    dist.destroy_process_group()


@in_long_form
def test_two_real_processes_reduce_as_many_bytes_as_the_formula_says(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=count_reductions, args=(n, port, tmp_path, answers)) for n in range(2)]
    for process in processes:
        process.start()
    try:
        found = dict(answers.get(timeout=300) for _ in processes)
    finally:
        for process in processes:
            process.join(30)
            process.kill()

    work = scaling.default_workload()  # the images are smaller here, the parameters are the same
    assert found[0] == found[1]
    assert found[0]["processes"] == [2]
    for engine in ("data parallel", "train.exact"):
        expected = scaling.step_collectives(engine, work, 2, slots=1)
        assert sum(found[0][engine]) == sum(expected.all_reduced)
        assert abs(len(found[0][engine]) - len(expected.all_reduced)) <= 1  # buckets end at whole parameters
    assert sum(found[0]["data parallel"]) - 4 * 4 == 4 * work.parameters  # two losses, two requests


def test_buckets_hold_all_gradients() -> None:
    assert scaling.gradient_buckets(100) == [100]
    assert scaling.gradient_buckets(60 * 2**20) == [2**20, 25 * 2**20, 25 * 2**20, 9 * 2**20]


def test_flops_and_parameters_are_those_of_the_model() -> None:
    from vwmm.models.fusion import count_parameters

    work = scaling.default_workload()

    assert work.parameters == count_parameters(work.config.model, work.config.modalities, 3)
    convolution = 2 * 64 * 64**2 * 32 * 7**3  # the volume's first one: 64 channels, 64 x 64 x 32 voxels, 7 x 7 x 7
    assert 5 * convolution < work.forward_flops < 10 * convolution
    assert work.step_flops / work.forward_flops == pytest.approx(3, rel=0.05)  # two products for each one forward


def tiny_config() -> Config:
    return load_config([], TINY)


@pytest.mark.parametrize("gpus", [1, 6])
def test_a_checkpoint_has_as_many_bytes_as_the_formula_says(gpus: int) -> None:
    from vwmm.engine.checkpoints.state import Progress, copy_state, optimizer_tensors
    from vwmm.models.fusion import build_model

    config = tiny_config()
    work = scaling.count_workload(config)
    model = build_model(config.model, config.modalities, 3, seed=0)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    running = sum(buffer.numel() for name, buffer in model.named_buffers() if name.endswith(("mean", "var")))
    state = copy_state(model, Progress(), {}, optimizer=optimizer_tensors(model, optimizer))
    tensors = [*state.weights.values(), *(state.optimizer or {}).values()]
    tensors += [torch.zeros(gpus, running)] if gpus > 1 else []

    assert sum(t.numel() * t.element_size() for t in tensors) == scaling.checkpoint_bytes(work, gpus)


@pytest.mark.parametrize("dtype", scaling.DTYPES)
def test_a_cached_case_has_as_many_bytes_on_the_disk(dtype: Any, tmp_path: Path) -> None:
    from vwmm.data.cache.entry import write_entry

    work, sizes = scaling.default_workload(), []
    for name, modality in work.config.modalities.items():
        write_entry(tmp_path / name, np.zeros((1, *modality.size), np.float32), key="0" * 32, dtype=dtype)
        sizes.append((tmp_path / name).stat().st_size)

    assert sum(sizes) == work.case_bytes(dtype)


def test_nodes_read_a_case_until_each_has_read_it_once() -> None:
    cases, nodes, epochs = 600, 4, 30
    generator, has = np.random.default_rng(0), np.zeros((nodes, cases), dtype=bool)
    reads = []
    for _ in range(epochs):
        node = generator.permutation(np.arange(cases) % nodes)
        reads.append(int((~has[node, np.arange(cases)]).sum()))
        has[node, np.arange(cases)] = True

    expected = [scaling.epoch_reads(cases, nodes, epoch, fits=True) for epoch in range(1, epochs + 1)]

    assert reads[0] == expected[0] == cases
    assert max(abs(a - b) for a, b in zip(reads, expected, strict=True)) < 0.07 * cases
    assert sum(expected) == pytest.approx(nodes * cases, rel=0.001)
    assert scaling.epoch_reads(cases, nodes, 9, fits=False) == cases
    assert scaling.epoch_reads(cases, 1, 2, fits=True) == 0


class CountingStore:
    """torch's store, as far as the watch uses it."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.requests = 0

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def check(self, keys: Sequence[str]) -> bool:
        self.requests += 1
        return all(key in self.values for key in keys)

    def get(self, key: str) -> str:
        self.requests += 1
        return self.values[key]


def test_the_watch_asks_as_often_as_the_formula_says() -> None:
    from vwmm.engine.distributed.watchdog import Watchdog

    store = CountingStore()
    watches = [Watchdog(rank=number, num_processes=5, store=store) for number in range(5)]
    for watch in watches:
        watch._look()

    assert store.requests == scaling.store_requests(5)


def test_the_largest_of_three_limits_a_micro_batch() -> None:
    work, machine = scaling.default_workload(), Assumptions()

    assert scaling.slot_time(2, work, machine).limit == "launches"
    assert scaling.slot_time(64, work, machine).limit == "GPU memory"
    slow = scaling.slot_time(64, work, replace(machine, peak_tflops=20))
    assert slow.limit == "arithmetic"
    assert slow.seconds == pytest.approx(64 * work.step_flops / (20e12 * machine.efficiency))


def test_overlap_hides_no_more_than_the_backward_pass() -> None:
    time = scaling.StepTime(compute=10, communication=8, hideable=6)

    assert (time.apart, time.overlapped) == (18, 12)
    assert replace(time, communication=5).overlapped == 10


def test_an_epoch_is_not_shorter_than_its_checkpoint() -> None:
    work, machine = scaling.default_workload(), Assumptions()
    large, small = (scaling.epoch_time(work, 64, cases, machine) for cases in (50_000, 500))

    assert large.seconds == large.copy + large.training + large.validation
    assert small.seconds == small.copy + small.write
    assert (small.steps, large.steps) == (4, 313)  # 400 and 40,000 training cases, 128 a step


def test_keys_are_set_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    machine = scaling.parse_assumptions(["network_gbps=100", "gpus=8,16", "batch_per_gpu=4"])

    assert machine == Assumptions(network_gbps=100.0, gpus=(8, 16), batch_per_gpu=4)
    assert scaling.main(["gpus=16", "cases=800"]) == 0
    printed = capsys.readouterr().out
    assert "| `cases` | 800 | cases | set on the command line |" in printed
    assert "| 16 | 2 | 32 |" in printed
    assert "512" not in printed.partition("**4.")[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["netwrok_gbps=100"], "argument netwrok_gbps=100: no such key; did you mean network_gbps?"),
        (["network_gbps"], "argument network_gbps: expected KEY=VALUE"),
        (["network_gbps=fast"], "argument network_gbps=fast: expected a number above 0"),
        (["network_gbps=0"], "argument network_gbps=0: expected a number above 0"),
        (["cases=1.5"], "argument cases=1.5: expected a whole number above 0"),
        (["gpus=8,x"], "argument gpus=8,x: expected whole numbers with commas above 0"),
        (["gpus=12"], "gpus: 12 do not fill nodes of 8 (gpus_per_node)"),
        (["batch_per_gpu=3"], "batch_per_gpu (3) must be a multiple of micro_batch (2)"),
    ],
)
def test_a_wrong_key_or_value_is_named(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(scaling.main, words) == 2
    assert expected in capsys.readouterr().err


def test_the_document_has_the_tables_that_the_script_prints() -> None:
    text = "\n\n".join(scaling.tables(Assumptions()))

    assert scaling.with_tables(DOCUMENT, text) == DOCUMENT, "python benchmarks/scaling.py --write docs/scaling.md"
    with pytest.raises(UserError, match="has no lines"):
        scaling.with_tables("no marks", text)


def test_the_document_recommends_only_what_exists() -> None:
    prose = DOCUMENT.partition(scaling.BEGIN)[0]
    defaults = load_config([]).model_dump()
    keys = set(re.findall(r"`((?:train|cache|model|run|split|modalities|data)\.[a-zA-Z_.]+)(?:=[^`]*)?`", prose))
    slurm = "".join((ROOT / "slurm" / name).read_text() for name in ("job.bash", "site.env.example"))
    variables = set(re.findall(r"`((?:VWMM|NCCL)_[A-Z_]+)", prose))

    assert len(keys) > 10
    assert len(variables) > 4
    for key in keys:
        values: Any = defaults
        for part in key.replace("NAME", "vw_mri").split("."):
            assert part in values, key
            values = values[part]
    assert [name for name in variables if name not in slurm] == []
    for path in re.findall(r"`((?:slurm|benchmarks|launch)/[\w./]+)`", prose):
        assert (ROOT / path).exists() or path == "slurm/site.env", path
