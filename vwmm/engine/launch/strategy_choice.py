"""Which sharding strategy a launch file asks for.

`accelerate launch` hands a launch file's section over in environment variables. The strategies are driven directly:
Accelerate would silently skip them on a CPU, and treats each backward pass as a step. So the variables are
read here and then hidden from it.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from accelerate.utils import str_to_bool

from vwmm.config.schema import Train
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

LAUNCH_FILE = "launch file"
"""Where a key of a launch file is, as long as its name is not known."""
_DEEPSPEED, _FSDP = "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"


@dataclass(frozen=True)
class StrategyChoice:
    """Who keeps the weights and the optimizer's state, and sums the gradients."""

    kind: Literal["data parallel", "deepspeed", "fsdp2"] = "data parallel"
    """Torch's data-parallel training, DeepSpeed's ZeRO or torch's fully sharded data-parallel training."""
    stage: int = 0
    """Of ZeRO: 1 divides the optimizer's state among the processes, 2 the gradients, 3 the weights as well."""
    offload_optimizer: bool = False
    """Whether the optimizer's state lies, and is updated, in the computer's memory."""
    offload_weights: bool = False
    """Whether the weights lie there as well while they are not computed with."""
    reshard_after_forward: bool = True
    """Of FSDP2: whether a branch's weights are given up between its forward and its backward pass."""

    @property
    def is_sharded(self) -> bool:
        """Whether the processes divide something that data-parallel training copies."""
        return self.kind != "data parallel"

    def __str__(self) -> str:
        if not self.is_sharded:
            return "data parallel"
        parts = [*["optimizer"] * self.offload_optimizer, *["weights"] * self.offload_weights]
        offload = f", {' and '.join(parts)} in main memory" if parts else ""
        return (f"DeepSpeed ZeRO-{self.stage}" if self.kind == "deepspeed" else "FSDP2") + offload


def choose_strategy(environment: Mapping[str, str]) -> StrategyChoice:
    """The strategy that the launcher's variables ask for. Raises UserError, with all that cannot be honoured."""
    if _holds(environment, _DEEPSPEED):
        return _deepspeed(environment)
    return _fsdp(environment) if _holds(environment, _FSDP) else StrategyChoice()


def strategy_of_launch_file(content: Mapping[str, Any]) -> StrategyChoice:
    """The strategy that `accelerate launch` will ask for with a launch file. Raises UserError as `choose_strategy`."""
    kind, environment = content.get("distributed_type"), dict[str, str]()
    if kind == "DEEPSPEED":
        environment[_DEEPSPEED] = "true"
        for key, value in _section(content, "deepspeed_config"):
            prefix = "ACCELERATE_" if key.startswith("gradient_") else "ACCELERATE_DEEPSPEED_"
            environment[prefix + key.upper().removeprefix("DEEPSPEED_")] = str(value)
    elif kind == "FSDP":
        environment[_FSDP] = "true"
        environment |= {key.upper(): str(value) for key, value in _section(content, "fsdp_config")}
    return choose_strategy(environment)


def _section(content: Mapping[str, Any], name: str) -> Iterable[tuple[str, Any]]:
    section = content.get(name) or {}
    if not isinstance(section, Mapping):
        raise UserError(_in_launch_file(name, f"expected a mapping, found {section!r}"))
    return section.items()


def hide_strategy(environment: MutableMapping[str, str]) -> None:
    """Accelerate is to join the processes, and nothing else."""
    for name in (_DEEPSPEED, _FSDP):
        environment.pop(name, None)


def strategy_problems(
    strategy: StrategyChoice, train: Train, precision: str, num_processes: int, *, has_gpu: bool
) -> list[Problem]:
    """Why a configuration cannot be trained with a strategy."""
    if not strategy.is_sharded:
        return []
    other = "use data-parallel training (launch/multi_gpu.yaml)"
    problems = list[Problem]()
    if num_processes < 2:
        found = "sharding needs at least two processes; use launch/one_gpu.yaml or launch/cpu.yaml"
        problems.append(Problem(found, where=str(strategy)))
    if train.exact:
        found = f"{strategy} sums gradients in an order of its own; {other}"
        problems.append(Problem(found, where="train.exact=true"))
    if precision == "fp16":
        problems.append(Problem(f"not with {strategy}; use bf16 or no, or {other}", where="train.mixed_precision=fp16"))
    if not has_gpu and (strategy.offload_optimizer or strategy.offload_weights):
        found = "without a GPU everything is in main memory already; leave the offloading out"
        problems.append(Problem(found, where=str(strategy)))
    if strategy.kind == "deepspeed" and find_spec("deepspeed") is None:
        problems.append(Problem("deepspeed is not installed (pip install 'vwmm[deepspeed]')", where=str(strategy)))
    return problems


def _deepspeed(environment: Mapping[str, str]) -> StrategyChoice:
    prefix = "ACCELERATE_DEEPSPEED_"
    problems = list[Problem]()
    stage = environment.get(f"{prefix}ZERO_STAGE", "2")
    if stage not in ("1", "2", "3"):
        problems.append(_in_launch_file("zero_stage", f"expected 1, 2 or 3, found {stage}"))
    if environment.get(f"{prefix}CONFIG_FILE", "none") not in ("", "none"):
        found = (
            "not read, since it could change the result; zero_stage, offload_optimizer_device and "
            "offload_param_device are"
        )
        problems.append(_in_launch_file("deepspeed_config_file", found))
    problems += _changed_recipe(environment)
    devices = {}
    for part in ("OPTIMIZER", "PARAM"):
        key = f"offload_{part.lower()}_device"
        devices[part] = environment.get(f"{prefix}{key.upper()}", "none")
        if devices[part] not in ("none", "cpu"):
            problems.append(_in_launch_file(key, f"expected none or cpu, found {devices[part]}"))
    if devices["PARAM"] == "cpu" and stage != "3":
        found = f"only zero_stage 3 divides the weights, found {stage}"
        problems.append(_in_launch_file("offload_param_device", found))
    if problems:
        raise UserError(problems)
    return StrategyChoice("deepspeed", int(stage), devices["OPTIMIZER"] == "cpu", devices["PARAM"] == "cpu")


def _fsdp(environment: Mapping[str, str]) -> StrategyChoice:
    problems = list[Problem]()
    if environment.get("FSDP_VERSION", "1") != "2":
        found = f"expected 2, found {environment.get('FSDP_VERSION', '1')}"
        problems.append(_in_launch_file("fsdp_version", found))
    if _holds(environment, "FSDP_ACTIVATION_CHECKPOINTING"):
        found = "not supported; use a smaller train.micro_batch_size"
        problems.append(_in_launch_file("fsdp_activation_checkpointing", found))
    problems += _changed_recipe(environment)
    if problems:
        raise UserError(problems)
    return StrategyChoice(
        "fsdp2",
        offload_optimizer=_holds(environment, "FSDP_OFFLOAD_PARAMS"),
        offload_weights=_holds(environment, "FSDP_OFFLOAD_PARAMS"),
        reshard_after_forward=_holds(environment, "FSDP_RESHARD_AFTER_FORWARD", "true"),
    )


def _changed_recipe(environment: Mapping[str, str]) -> list[Problem]:
    """Keys that a launch file may not have, because the configuration has them."""
    problems = list[Problem]()
    if environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") not in ("1", "auto"):
        found = "is train.batch_size / train.micro_batch_size already; leave it out"
        problems.append(_in_launch_file("gradient_accumulation_steps", found))
    if environment.get("ACCELERATE_GRADIENT_CLIPPING", "none") not in ("none", "auto"):
        found = "set train.max_grad_norm instead, which changes the result"
        problems.append(_in_launch_file("gradient_clipping", found))
    return problems


def _in_launch_file(key: str, found: str) -> Problem:
    return Problem(found, where=LAUNCH_FILE, key=key)


def _holds(environment: Mapping[str, str], name: str, default: str = "false") -> bool:
    try:
        return bool(str_to_bool(environment.get(name, default)))
    except ValueError as error:
        raise UserError(f"{name}: expected true or false, found {environment[name]}") from error
