"""Launch files: what is wrong with one, before its processes start."""

from pathlib import Path

import pytest

from tests.conftest import texts
from vwmm.config.schema import Train
from vwmm.engine.launch.launch_file import launch_file_problems, starts_one_process


def test_wrong_key_of_a_launch_file_is_named_with_the_file_once(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 4, gradient_clipping: 1.0}\n")

    problems = launch_file_problems(str(file), Train(), 2, has_gpu=True)

    assert texts(problems) == [
        f"{file}: zero_stage: expected 1, 2 or 3, found 4",
        f"{file}: gradient_clipping: set train.max_grad_norm instead, which changes the result",
    ]


def test_recipe_that_a_launch_files_strategy_cannot_train_is_named_with_both(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n")

    problems = launch_file_problems(str(file), Train(exact=True), 1, has_gpu=True)

    assert [problem.split(": ")[:2] for problem in texts(problems)] == [
        [str(file), "FSDP2"], [str(file), "train.exact=true"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("launch_file", "variables", "is_one"),
    [
        ("launch/cpu.yaml", {}, True),
        ("launch/one_gpu.yaml", {}, True),
        (None, {}, True),
        ("launch/cpu_two_processes.yaml", {}, False),
        ("launch/multi_gpu.yaml", {}, False),
        ("launch/fsdp2.yaml", {}, False),
        ("launch/deepspeed_zero2.yaml", {}, False),
        ("launch/cpu.yaml", {"VWMM_NUM_MACHINES": "1", "VWMM_NUM_PROCESSES": "1"}, True),
        ("launch/cpu.yaml", {"VWMM_NUM_MACHINES": "1", "VWMM_NUM_PROCESSES": "2"}, False),
        ("launch/cpu.yaml", {"VWMM_NUM_MACHINES": "2", "VWMM_NUM_PROCESSES": "2"}, False),
    ],
)
def test_one_process_is_told_from_several(
    launch_file: str | None, variables: dict[str, str], is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vwmm.engine.launch.launch_file._num_gpus", lambda: 0)
    assert starts_one_process(launch_file, variables) is is_one


def test_each_of_several_gpus_gets_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vwmm.engine.launch.launch_file._num_gpus", lambda: 2)
    assert not starts_one_process(None, {})
