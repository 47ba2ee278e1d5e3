"""Faults on demand."""

from pathlib import Path

import pytest

from vwmm.system.errors import UserError
from vwmm.system.fault_injection import FaultInjector, parse_faults


def test_conditions_and_what_is_done_are_read() -> None:
    first, second = parse_faults("rank=1,step=37,phase=backward,do=kill; do=term")
    assert (first.rank, first.step, first.phase, first.do) == (1, 37, "backward", "kill")
    assert (second.rank, second.step, second.phase, second.do) == (None, None, "step", "term")
    assert parse_faults("") == []


@pytest.mark.parametrize(
    "text", ["do=explode", "rank=1", "phase=nowhere,do=kill", "step=x,do=kill", "rang=1,do=kill", "nonsense"]
)
def test_a_mistake_is_named(text: str) -> None:
    with pytest.raises(UserError, match="VWMM_FAULT"):
        parse_faults(text)


def test_it_happens_once_where_all_conditions_hold() -> None:
    faults = FaultInjector({"VWMM_FAULT": "rank=1,step=3,phase=forward,do=nan", "RANK": "1"})
    assert not faults.at("forward", step=2)
    assert not faults.at("backward", step=3)
    assert faults.at("forward", step=3)
    assert not faults.at("forward", step=3)
    assert not FaultInjector({"VWMM_FAULT": "rank=1,step=3,phase=forward,do=nan"}).at("forward", step=3)


def test_a_file_keeps_it_from_happening_again_in_another_process(tmp_path: Path) -> None:
    environment = {"VWMM_FAULT": f"do=nan,once={tmp_path / 'done'}"}
    assert FaultInjector(environment).at("step", step=1)
    assert not FaultInjector(environment).at("step", step=1)


def test_without_the_variable_nothing_happens() -> None:
    assert not FaultInjector({}).at("step", step=1)


def test_faults_are_raised() -> None:
    with pytest.raises(RuntimeError, match="rehearsed"):
        FaultInjector({"VWMM_FAULT": "do=raise"}).at("step", step=1)
    with pytest.raises(OSError, match="space"):
        FaultInjector({"VWMM_FAULT": "phase=save,do=full"}).at("save", step=1)
