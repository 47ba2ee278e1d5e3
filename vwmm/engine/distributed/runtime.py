"""The Accelerator, ranks and collectives: what really runs."""

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
    parse_flag_from_env,
)

from vwmm.config.schema import Train
from vwmm.data.loading.sampling import micro_batch_problems
from vwmm.engine.console import LOG
from vwmm.engine.distributed.precision import choose_precision, describe_choice, find_convolutions
from vwmm.engine.distributed.watchdog import Watchdog
from vwmm.engine.launch.rendezvous import INIT_METHOD, register_rendezvous
from vwmm.engine.launch.strategy_choice import StrategyChoice, choose_strategy, hide_strategy, strategy_problems
from vwmm.system.errors import StoppedEarly, UserError
from vwmm.system.signals import STOP
from vwmm.system.torch_import import postpone_compiler

Item = TypeVar("Item")
Result = TypeVar("Result")
# Longer than the slowest process may need alone for its share of a large cohort's images.
COLLECTIVE_TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class Runtime:
    """The processes of a run and this one's place among them."""

    accelerator: Accelerator
    """Accelerate's, made once per process."""
    mixed_precision: str
    """The precision in use: `no`, `fp16` or `bf16`."""
    watchdog: Watchdog = field(default_factory=Watchdog)
    """Where this process and the others are."""
    strategy: StrategyChoice = field(default_factory=StrategyChoice)
    """Who keeps the weights."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes and speaks for all."""
        return bool(self.accelerator.is_main_process)

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return int(self.accelerator.process_index)

    @property
    def num_processes(self) -> int:
        """The actual number of processes."""
        return int(self.accelerator.num_processes)

    @property
    def num_cores(self) -> int:
        """Cores of this machine for each of its processes, at least one."""
        return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self.accelerator.device)

    def describe(self) -> dict[str, Any]:
        """Processes, devices, backend and precision, for environment.json and the banner."""
        is_gpu = self.device.type == "cuda"
        name = f"{self.device} ({torch.cuda.get_device_name(self.device)})" if is_gpu else self.device.type
        return {
            "num_processes": self.num_processes,
            "devices": gather_object([name]),
            "backend": torch.distributed.get_backend() if torch.distributed.is_initialized() else None,
            "engine": str(self.strategy),
            "mixed_precision": self.mixed_precision,
            "threads_per_process": torch.get_num_threads(),
        }

    def map_over_ranks(self, items: Sequence[Item], work: Callable[[list[Item]], list[Result]]) -> list[Result]:
        """The results of all items in their order: each process works on its share, and all get all results."""
        mine = list(range(self.rank, len(items), self.num_processes))
        done = list(zip(mine, work([items[number] for number in mine]), strict=True))
        self.watchdog.enter_phase("wait", waits=True)
        return [result for _, result in sorted(gather_object(done), key=lambda pair: pair[0])]

    def count_together(self) -> Callable[[int], int]:
        """A counter of all processes: adds a number, returns the sum so far. To be made by all processes at once."""
        if self.num_processes == 1:
            sums = [0]

            def add(number: int) -> int:
                sums[0] += number
                return sums[0]

            return add
        key = self.broadcast_from_main(lambda: f"vwmm-{uuid.uuid4().hex}")
        # The store through which the processes found each other; torch has no public way to it.
        store = torch.distributed.distributed_c10d._get_default_store()
        return lambda number: int(store.add(key, number))

    def broadcast_from_main(self, on_main: Callable[[], Result]) -> Result:
        """What the main process found, on every process; its UserError is everybody's."""
        answer: list[Any] = [None, None]
        self.watchdog.enter_phase("wait", waits=not self.is_main_process)
        if self.is_main_process:
            try:
                answer[0] = on_main()
            except UserError as error:
                answer[1] = error.problems
        if self.num_processes > 1:
            broadcast_object_list(answer, from_process=0)
        if answer[1] is not None:
            raise UserError(answer[1])
        found: Result = answer[0]
        return found

    def wait(self) -> None:
        """Until every process is here."""
        self.watchdog.enter_phase("wait", waits=True)
        self.accelerator.wait_for_everyone()

    def any_rank(self, holds: bool) -> bool:
        """Whether it holds on any of the processes."""
        if self.num_processes == 1:
            return holds
        self.watchdog.enter_phase("wait", waits=True)
        return bool(self.accelerator.reduce(torch.tensor(float(holds), device=self.device), reduction="sum").item())

    def stop_if_asked(self) -> None:
        """Raises StoppedEarly on every process if any was asked to stop; to be called by all at once."""
        if self.any_rank(STOP.is_asked):
            asked = STOP.reason or "a request to another process"
            raise StoppedEarly(f"stopped by {asked}; the same command resumes from here")


def start_runtime(
    train: Train, *, shares_steps: bool = True, hang_timeout_s: float = 600, has_volumes: bool = True
) -> Runtime:
    """Joins the processes that the launcher started.

    shares_steps: whether they will train together; UserError where there are more of them than a step has
    micro-batches. has_volumes: whether the model has 3D convolutions, which not every cuDNN computes in bf16 as it
    should.
    """
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if shares_steps and (problems := micro_batch_problems(train.batch_size, train.micro_batch_size, asked)):
        raise UserError(problems)
    strategy = choose_strategy(os.environ)
    hide_strategy(os.environ)
    convolutions = find_convolutions(has_gpu=_has_gpu())
    precision = choose_precision(train.mixed_precision, convolutions, has_volumes=has_volumes)
    if told := describe_choice(train.mixed_precision, convolutions, has_volumes=has_volumes):
        LOG.info("warning: %s; %s", told.found, told.action)
    register_rendezvous()
    if not _has_gpu():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, where it is imported, warns of what it found
    if shares_steps and (problems := strategy_problems(strategy, train, precision, asked, has_gpu=_has_gpu())):
        raise UserError(problems)
    accelerator = Accelerator(
        # Without a GPU Accelerate treats several processes as single ones, unless this is set.
        cpu=_asked_for_cpu() or not torch.accelerator.is_available(),
        mixed_precision=precision,
        kwargs_handlers=[
            # Batch-norm buffers are reduced once an epoch (batch_norm.py), not at every forward pass.
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            InitProcessGroupKwargs(init_method=INIT_METHOD, timeout=COLLECTIVE_TIMEOUT),
        ],
    )
    postpone_compiler()
    if accelerator.num_processes != asked:
        raise UserError(f"{asked} processes were requested, but {accelerator.num_processes} run")
    if accelerator.device.type == "cpu":
        torch.set_num_threads(train.cpu_threads)
    else:
        _compute_deterministically()
    watchdog = Watchdog(
        rank=accelerator.process_index, num_processes=asked, store=_own_store(asked), timeout_s=hang_timeout_s
    )
    return Runtime(accelerator, precision, watchdog, strategy)


def _own_store(num_processes: int) -> Any:
    """A connection of its own to the store through which the processes found each other."""
    if num_processes == 1:
        return None
    # torch has no public way to it; its prefixes are those of this start (rendezvous.py).
    store = torch.distributed.distributed_c10d._get_default_store()
    return torch.distributed.PrefixStore("vwmm-watch", store.clone())  # type: ignore[attr-defined]


def _compute_deterministically() -> None:
    """A run that was interrupted has the bits of one that was not: the GPU's algorithms must not depend on timing.

    The pooling layers without such an algorithm have been replaced (models/pooling.py); should another layer have
    none, torch warns.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def _has_gpu() -> bool:
    return torch.cuda.is_available() and not _asked_for_cpu()


def _asked_for_cpu() -> bool:
    return parse_flag_from_env("ACCELERATE_USE_CPU")
