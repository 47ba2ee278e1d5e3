"""One step of the training loop is one step of plain torch: loss, gradient, weights, running statistics."""

import multiprocessing
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.engine.training.one_step import (
    MICRO_BATCHES,
    Outcome,
    by_torch,
    by_vwmm,
    config_of,
    make_dataset,
    with_strategy,
)
from tests.faults.rehearsing import in_long_form
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.launch.strategy_choice import StrategyChoice

PLAN = [MICRO_BATCHES]
STRATEGIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "data parallel": ({}, []),
    "train.exact": ({}, ["train.exact=true"]),
    "FSDP2": ({"kind": "fsdp2"}, []),
    "ZeRO-1": ({"kind": "deepspeed", "stage": 1}, []),
    "ZeRO-2": ({"kind": "deepspeed", "stage": 2}, []),
    "ZeRO-3": ({"kind": "deepspeed", "stage": 3}, []),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CaseDataset:
    return make_dataset(tmp_path_factory.mktemp("cache"))


def _named(name: str, text: str) -> str:
    return f"{name}: {text}"


def assert_same(found: Outcome, expected: Outcome, *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    assert found.loss == pytest.approx(expected.loss, rel=rtol)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=10 * rtol)
    assert list(found.state) == list(expected.state)
    for name, tensor in found.state.items():
        torch.testing.assert_close(tensor, expected.state[name], rtol=rtol, atol=atol, msg=partial(_named, name))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.optimizer=adam", "train.lr=1e-3"],
        ["train.max_grad_norm=0.1"],
        ["train.exact=true"],
        ["model.norm=group"],
        ["train.class_weights=[1, 1, 1]"],
    ],
    ids=lambda words: " ".join(words) or "plain",
)
def test_step_equals_plain_torch(overrides: list[str], dataset: CaseDataset) -> None:
    config = config_of(*overrides)
    found = by_vwmm(start_runtime(config.train), config, dataset, PLAN)
    assert_same(found, by_torch(config, dataset, PLAN))


def test_three_steps_equal_plain_torch(dataset: CaseDataset) -> None:
    config = config_of("train.lr=0.05")
    plan = [MICRO_BATCHES, [[6, 5], [0, 1]], [[2, 3, 4]]]
    found = by_vwmm(start_runtime(config.train), config, dataset, plan)
    assert_same(found, by_torch(config, dataset, plan), rtol=1e-4, atol=1e-5)


def _step_of_rank(rank: int, port: int, folder: str, bf16: bool, answers: Any) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    precision = "train.mixed_precision=bf16" if bf16 else "train.mixed_precision=no"
    dataset = make_dataset(Path(folder) / str(rank))
    runtime = start_runtime(config_of(precision).train)
    assert runtime.num_processes == 2
    found = {}
    for name, (choice, overrides) in STRATEGIES.items():
        config = config_of(precision, *overrides)
        found[name] = by_vwmm(with_strategy(runtime, **choice), config, dataset, PLAN)
        assert runtime.strategy == StrategyChoice()
    torch.distributed.barrier()
    if rank == 0:
        torch.save({name: vars(outcome) for name, outcome in found.items()}, Path(folder) / "found.pt")
    answers.put(rank)
    torch.distributed.destroy_process_group()


@pytest.fixture
def new_accelerator_state() -> Iterator[None]:
    """Accelerate keeps the first precision of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("new_accelerator_state")
def test_step_in_bf16_equals_plain_torch(dataset: CaseDataset) -> None:
    config = config_of("train.mixed_precision=bf16")

    found = by_vwmm(start_runtime(config.train), config, dataset, PLAN)

    assert_same(found, by_torch(config, dataset, PLAN, bf16=True), rtol=2e-2, atol=2e-2)
    assert found.loss != pytest.approx(by_torch(config, dataset, PLAN).loss, rel=1e-5)


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=in_long_form)], ids=["float32", "bf16"])
def two_processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What two processes compute with each strategy."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_step_of_rank, args=(rank, port, str(folder), request.param, answers))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    return {name: Outcome(**values) for name, values in torch.load(folder / "found.pt").items()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_step_of_two_processes_equals_plain_torch(
    strategy: str, two_processes: dict[str, Outcome], dataset: CaseDataset, request: pytest.FixtureRequest
) -> None:
    """With three micro-batches: one process computes two of them, the other one."""
    is_bf16 = "bf16" in request.node.name
    expected = by_torch(config_of(), dataset, PLAN, bf16=is_bf16)
    tolerance = 2e-2 if is_bf16 else 1e-4  # bf16 keeps 8 bits of each product
    assert_same(two_processes[strategy], expected, rtol=tolerance, atol=tolerance)
