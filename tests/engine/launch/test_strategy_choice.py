"""What a launch file says of engines is honoured or refused, never ignored."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, texts
from vwmm.config.schema import Train
from vwmm.engine.launch.strategy_choice import (
    StrategyChoice,
    choose_strategy,
    hide_strategy,
    strategy_of_launch_file,
    strategy_problems,
)
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

ZERO, FSDP = {"ACCELERATE_USE_DEEPSPEED": "true"}, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
STAGE = "ACCELERATE_DEEPSPEED_ZERO_STAGE"


@pytest.mark.parametrize(
    ("environment", "choice", "name"),
    [
        ({}, StrategyChoice(), "data parallel"),
        (ZERO | {STAGE: "1"}, StrategyChoice("deepspeed", 1), "DeepSpeed ZeRO-1"),
        (
            ZERO | {STAGE: "3", "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"},
            StrategyChoice("deepspeed", 3, offload_optimizer=True),
            "DeepSpeed ZeRO-3, optimizer in main memory",
        ),
        (FSDP, StrategyChoice("fsdp2"), "FSDP2"),
        (
            FSDP | {"FSDP_OFFLOAD_PARAMS": "true", "FSDP_RESHARD_AFTER_FORWARD": "false"},
            StrategyChoice("fsdp2", 0, True, True, False),
            "FSDP2, optimizer and weights in main memory",
        ),
        ({"ACCELERATE_USE_FSDP": "false"}, StrategyChoice(), "data parallel"),
    ],
)
def test_what_is_asked_for(environment: dict[str, str], choice: StrategyChoice, name: str) -> None:
    assert choose_strategy(environment) == choice
    assert str(choice) == name


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (ZERO | {STAGE: "0"}, "zero_stage: expected 1, 2 or 3, found 0"),
        (ZERO | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "ds.json"}, "deepspeed_config_file: not read"),
        (ZERO | {"ACCELERATE_GRADIENT_CLIPPING": "1.0"}, "set train.max_grad_norm instead"),
        (ZERO | {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "gradient_accumulation_steps"),
        (ZERO | {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "nvme"}, "expected none or cpu, found nvme"),
        (ZERO | {"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, "only zero_stage 3 divides the weights"),
        (FSDP | {"FSDP_VERSION": "1"}, "fsdp_version: expected 2, found 1"),
        (FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing: not supported"),
        ({"ACCELERATE_USE_FSDP": "perhaps"}, "expected true or false, found perhaps"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_strategy(environment)


@pytest.mark.parametrize(
    ("choice", "recipe", "message"),
    [
        (StrategyChoice("fsdp2"), {"num_processes": 1}, "sharding needs at least two processes"),
        (StrategyChoice("fsdp2"), {"precision": "fp16"}, "train.mixed_precision=fp16: not with FSDP2"),
        (StrategyChoice("deepspeed", 2), {"train": Train(exact=True)}, "train.exact=true: DeepSpeed ZeRO-2"),
        (StrategyChoice("fsdp2", offload_weights=True), {"has_gpu": False}, "everything is in main memory already"),
    ],
)
def test_a_recipe_that_an_engine_cannot_train_is_an_error(
    choice: StrategyChoice, recipe: dict[str, object], message: str
) -> None:
    fitting: dict[str, object] = {"train": Train(), "precision": "bf16", "num_processes": 2, "has_gpu": True}

    def problems(values: dict[str, object]) -> list[Problem]:
        train, precision, number, has_gpu = (values[k] for k in ("train", "precision", "num_processes", "has_gpu"))
        assert isinstance(train, Train)
        assert isinstance(precision, str)
        assert isinstance(number, int)
        return strategy_problems(choice, train, precision, number, has_gpu=bool(has_gpu))

    assert problems(fitting) == []
    assert [text for text in texts(problems(fitting | recipe)) if message in text]


def test_data_parallel_training_has_no_such_problem() -> None:
    assert strategy_problems(StrategyChoice(), Train(exact=True), "fp16", 1, has_gpu=False) == []


def test_accelerate_does_not_see_the_engine() -> None:
    environment = {**ZERO, **FSDP, "OTHER": "1"}
    hide_strategy(environment)
    assert environment == {"FSDP_VERSION": "2", "OTHER": "1"}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_launch_files_ask_for_what_their_names_say(stage: int) -> None:
    content = yaml.safe_load(Path(ROOT / "launch" / f"deepspeed_zero{stage}.yaml").read_text())
    assert content["deepspeed_config"]["zero_stage"] == stage
    assert content["deepspeed_config"]["offload_optimizer_device"] == "none"


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("cpu", "data parallel"),
        ("multi_gpu", "data parallel"),
        ("deepspeed_zero1", "DeepSpeed ZeRO-1"),
        ("deepspeed_zero2", "DeepSpeed ZeRO-2"),
        ("deepspeed_zero3", "DeepSpeed ZeRO-3"),
        ("fsdp2", "FSDP2"),
    ],
)
def test_a_launch_file_says_before_it_is_launched_what_it_will_ask_for(name: str, engine: str) -> None:
    content = yaml.safe_load((ROOT / "launch" / f"{name}.yaml").read_text())
    assert str(strategy_of_launch_file(content)) == engine


def test_what_a_launch_file_may_not_say_is_known_before_it_is_launched() -> None:
    section = {"zero_stage": 4, "gradient_clipping": 1.0, "deepspeed_config_file": "x.json"}
    with pytest.raises(UserError) as caught:
        strategy_of_launch_file({"distributed_type": "DEEPSPEED", "deepspeed_config": section})
    assert [(problem.where, problem.key) for problem in caught.value.problems] == [
        ("launch file", key) for key in ("zero_stage", "deepspeed_config_file", "gradient_clipping")
    ]
    with pytest.raises(UserError, match="fsdp_version: expected 2, found 1"):
        strategy_of_launch_file({"distributed_type": "FSDP", "fsdp_config": {}})
    with pytest.raises(UserError, match="fsdp_config: expected a mapping"):
        strategy_of_launch_file({"distributed_type": "FSDP", "fsdp_config": [1]})
