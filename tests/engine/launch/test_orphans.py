"""A process whose launcher is dead before it starts knows that nobody waits for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vwmm.engine.launch.orphans import hold_liveness, is_orphan
from vwmm.engine.launch.shared_pages import OUTCOME_VARIABLE


def test_the_lock_says_who_waits_and_goes_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = tmp_path / "exit_code"
    monkeypatch.setenv(OUTCOME_VARIABLE, str(outcome))
    assert is_orphan(os.getppid())
    with hold_liveness(outcome):
        assert not is_orphan(os.getppid())
    assert is_orphan(os.getppid())


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = tmp_path / "exit_code"
    monkeypatch.setenv(OUTCOME_VARIABLE, str(outcome))
    code = (
        "import pathlib, sys, time; from vwmm.engine.launch.orphans import hold_liveness\n"
        "with hold_liveness(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(outcome)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert not is_orphan(os.getppid())

    holder.kill()
    holder.wait()

    assert is_orphan(os.getppid())


def test_without_vwmm_train_a_process_of_its_own_is_no_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OUTCOME_VARIABLE, raising=False)
    assert not is_orphan(os.getppid())
    assert not is_orphan(0)
