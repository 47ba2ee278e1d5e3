"""The scaling plan's formulas against simulations and against what vwmm really sends and writes; its document."""

import multiprocessing
import os
import re
import socket
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import scaling
from benchmarks.scaling import Assumptions, Workload
from tests.conftest import ROOT, TINY
from tests.faults.rehearsing import in_long_form
from vwmm.config.loading import load_config

DOCUMENT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@cache
def default_workload() -> Workload:
    return scaling.count_workload(load_config(["configs/default.yaml"]))


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
def test_a_ring_sends_as_many_bytes_as_the_formula(ranks: int) -> None:
    values = np.random.default_rng(0).integers(0, 100, (ranks, 3 * ranks))

    result, sent, hops = ring_all_reduce(values)

    assert (result == values.sum(axis=0)).all()
    assert sent == [scaling.all_reduce_bytes(values[0].nbytes, ranks)] * ranks
    expected_s = scaling.all_reduce_bytes(1e9, ranks) / 2e9 + hops * 5e-6
    assert scaling.all_reduce_s(1e9, ranks, gb_per_s=2, latency_us=5) == pytest.approx(expected_s)


def test_over_nodes_each_gpu_reduces_its_share() -> None:
    machine = Assumptions(gpus_per_node=2, link_efficiency=1.0, ports_per_node=1)
    size = 1e9  # a ring is faster than a tree

    expected = size / (machine.nvlink_gb_per_s * 1e9) + 4 / 3 * size / (machine.network_gbps / 8 * 1e9)
    expected += (2 * machine.nvlink_latency_us + 4 * machine.network_latency_us) * 1e-6

    assert scaling.hierarchical_all_reduce_s(size, 6, machine) == pytest.approx(expected)


def test_few_bytes_take_a_tree_with_fewer_hops() -> None:
    assert scaling.all_reduce_s(8, 64, gb_per_s=1, latency_us=10) == pytest.approx(2 * 6 * 10e-6, rel=1e-3)


@pytest.mark.parametrize("strategy", scaling.STRATEGIES)
def test_one_process_sends_nothing(strategy: str) -> None:
    collectives = scaling.step_collectives(strategy, default_workload(), 1, 4)

    assert (collectives.bytes_sent(1), collectives.seconds(1, Assumptions())) == (0, 0)


@pytest.mark.parametrize(("strategy", "relative"), [("data parallel", 1.0), ("ZeRO-3", 1.5), ("FSDP2", 1.5)])
def test_with_one_micro_batch_the_volume_is_that_of_the_paper(strategy: str, relative: float) -> None:
    """Rajbhandari et al., ZeRO, SC 2020, section 7."""
    work = default_workload()

    sent = scaling.step_collectives(strategy, work, 64, 1).bytes_sent(64)

    assert sent / scaling.all_reduce_bytes(4 * work.parameters, 64) == pytest.approx(relative, rel=1e-4)


def test_sharded_weights_are_gathered_for_each_micro_batch() -> None:
    work = default_workload()
    unit = scaling.all_reduce_bytes(4 * work.parameters, 64) / 2

    volumes = [scaling.step_collectives(name, work, 64, 4).bytes_sent(64) / unit for name in scaling.STRATEGIES]

    assert [round(volume) for volume in volumes[:5]] == [2, 3, 3, 12, 9]


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
    for strategy, is_exact in (("data parallel", False), ("train.exact", True)):

        def keep(_: object, strategy: str = strategy) -> None:
            found[strategy] = list(sizes)
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

    work = default_workload()  # the images are smaller here, the parameters are the same
    assert found[0] == found[1]
    assert found[0]["processes"] == [2]
    for strategy in ("data parallel", "train.exact"):
        expected = scaling.step_collectives(strategy, work, 2, 1)
        assert sum(found[0][strategy]) == sum(expected.all_reduced)
        assert abs(len(found[0][strategy]) - len(expected.all_reduced)) <= 1  # buckets end at whole parameters
    assert sum(found[0]["data parallel"]) - 4 * 4 == 4 * work.parameters  # two losses, two requests


def test_flops_and_parameters_are_those_of_the_model() -> None:
    from vwmm.models.fusion import count_parameters

    work = default_workload()

    assert work.parameters == count_parameters(work.config.model, work.config.modalities, 3)
    convolution = 2 * 64 * 64**2 * 32 * 7**3  # the volume's first one: 64 channels, 64 x 64 x 32 voxels, 7 x 7 x 7
    assert 5 * convolution < work.forward_flops < 10 * convolution
    assert work.step_flops / work.forward_flops == pytest.approx(3, rel=0.05)  # two products for each one forward


@pytest.mark.parametrize("gpus", [1, 6])
def test_a_checkpoint_has_as_many_bytes_as_the_formula_says(gpus: int) -> None:
    from vwmm.engine.checkpoints.state import Progress, copy_state, optimizer_tensors
    from vwmm.models.fusion import build_model

    config = load_config([], TINY)
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

    work, sizes = default_workload(), []
    for name, modality in work.config.modalities.items():
        write_entry(tmp_path / name, np.zeros((1, *modality.size), np.float32), key="0" * 32, dtype=dtype)
        sizes.append((tmp_path / name).stat().st_size)

    assert sum(sizes) == work.case_bytes(dtype)


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


def test_fewer_cases_train_no_faster_than_a_checkpoint_is_written() -> None:
    large, small = (scaling.epoch_time(default_workload(), 64, cases, Assumptions()) for cases in (50_000, 500))

    assert large["epoch, s"] > large["training, s"] + large["validation, s"] > large["writing of a checkpoint, s"]
    assert small["epoch, s"] > small["writing of a checkpoint, s"] > small["training, s"]
    assert (small["steps"], large["steps"]) == (4, 313)  # 400 and 40,000 training cases, 128 a step


def test_keys_are_set_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["--gpus", "16", "--cases", "800"])

    printed = capsys.readouterr().out
    assert "| `cases` | 800 | cases | set on the command line |" in printed
    assert "| 16 | 32 |" in printed
    assert "512" not in printed.partition("**4.")[2]


def test_the_document_has_the_tables_that_the_script_prints() -> None:
    printed = "\n\n".join(scaling.tables(default_workload(), Assumptions()))

    assert DOCUMENT.partition("## The tables\n\n")[2] == printed + "\n", "paste what benchmarks/scaling.py prints"


def test_a_port_of_100_gbit_s_a_node_takes_half_of_a_step_as_the_document_says() -> None:
    machine = Assumptions(network_gbps=100, ports_per_node=1)

    compute, communication = scaling.step_s("data parallel", default_workload(), 64, machine)

    assert 0.5 < communication / (compute + communication) < 0.6


def test_the_document_recommends_only_what_exists() -> None:
    prose = DOCUMENT.partition("## The tables")[0]
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
