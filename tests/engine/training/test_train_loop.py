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
    CLASSES,
    MICRO_BATCHES,
    Outcome,
    by_torch,
    by_vwmm,
    config_of,
    make_dataset,
    with_strategy,
)
from tests.faults.rehearsing import in_long_form
from vwmm.config.schema import Config
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.distributed.runtime import start_runtime
from vwmm.engine.launch.strategy_choice import StrategyChoice
from vwmm.models.fusion import build_model

PLAN = [MICRO_BATCHES]
STRATEGIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "data parallel": ({}, []),
    "train.exact": ({}, ["train.exact=true"]),
    "FSDP2": ({"kind": "fsdp2"}, []),
    "ZeRO-1": ({"kind": "deepspeed", "stage": 1}, []),
    "ZeRO-2": ({"kind": "deepspeed", "stage": 2}, []),
    "ZeRO-3": ({"kind": "deepspeed", "stage": 3}, []),
    "data parallel, recomputing": ({}, ["model.checkpointing=true"]),
    "FSDP2, recomputing": ({"kind": "fsdp2"}, ["model.checkpointing=true"]),
    "ZeRO-3, recomputing": ({"kind": "deepspeed", "stage": 3}, ["model.checkpointing=true"]),
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


def assert_equal_to_rounding(found: Outcome, expected: Outcome, start: dict[str, torch.Tensor]) -> None:
    """Loss and running statistics 1e-6, gradient 3e-5, relative; start: weights and statistics before the step.

    Plain torch's own gradient is 9e-5 away from that in float64.
    """
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
    weights = [name for name in start if "running_" not in name and "num_batches" not in name]
    wrong = torch.stack([(found.state[name] - expected.state[name]).norm() for name in weights]).norm()
    assert wrong < 3e-5 * torch.stack([(expected.state[name] - start[name]).norm() for name in weights]).norm()
    for name in start.keys() - set(weights):
        wrong = (found.state[name] - expected.state[name]).double().norm()
        assert wrong <= 1e-6 * expected.state[name].double().norm(), name


def start_of(config: Config) -> dict[str, torch.Tensor]:
    return dict(build_model(config.model, config.modalities, CLASSES, seed=0).state_dict())


@pytest.mark.parametrize("at_once", [4, 6, 100])
@pytest.mark.parametrize(
    "overrides", [[], ["model.norm=group"], ["train.label_smoothing=0.1"], ["model.checkpointing=true"]], ids=str
)
def test_pass_of_several_micro_batches_equals_plain_torch(
    overrides: list[str], at_once: int, dataset: CaseDataset
) -> None:
    """With batch norm's statistics of each micro-batch, images missing, and one micro-batch larger than the others."""
    config = config_of(f"train.cases_at_once={at_once}", *overrides)

    found = by_vwmm(start_runtime(config.train), config, dataset, PLAN)

    assert_equal_to_rounding(found, by_torch(config, dataset, PLAN), start_of(config))


def test_pass_of_several_micro_batches_equals_plain_torch_in_float64(dataset: CaseDataset) -> None:
    """What differs in float32 is rounding; the loss, and the factor of a decaying statistic, are float32 here too."""
    config = config_of()

    found = by_vwmm(start_runtime(config.train), config, dataset, PLAN, dtype=torch.float64)

    assert_same(found, by_torch(config, dataset, PLAN, dtype=torch.float64), rtol=1e-7, atol=1e-10)


def test_pass_of_several_micro_batches_drops_what_separate_passes_drop(dataset: CaseDataset) -> None:
    separate, together = (config_of("model.dropout=0.5", f"train.cases_at_once={cases}") for cases in (1, 100))
    runtime = start_runtime(separate.train)

    found = by_vwmm(runtime, together, dataset, PLAN)

    assert_equal_to_rounding(found, by_vwmm(runtime, separate, dataset, PLAN), start_of(separate))


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
    config = config_of("train.cases_at_once=1", *overrides)
    found = by_vwmm(start_runtime(config.train), config, dataset, PLAN)
    assert_same(found, by_torch(config, dataset, PLAN))


def test_three_steps_equal_plain_torch(dataset: CaseDataset) -> None:
    config = config_of("train.cases_at_once=1", "train.lr=0.05")
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
