"""Where evaluations are kept, and how they are counted."""

import json
from pathlib import Path

import pytest

from vwmm.config.run_folder import RunFolder
from vwmm.engine.evaluation.evaluation_log import count_evaluation
from vwmm.engine.evaluation.test_set import RESULTS, check_folder
from vwmm.system.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has never been evaluated."""
    (tmp_path / "run").mkdir()
    found = RunFolder(tmp_path / "run")
    check_folder(found, tmp_path / "out", "aaa")
    return found


def test_looks_at_test_cases_are_counted_together_and_others_by_their_cases(run: RunFolder) -> None:
    assert count_evaluation(run, "aaa", 10) == 1
    assert count_evaluation(run, "bbb", 0) == 1
    assert count_evaluation(run, "ccc", 3) == 2, "some of the test cases under another name"
    assert count_evaluation(run, "aaa", 10) == 3
    assert count_evaluation(run, "bbb", 0) == 2


def test_a_damaged_line_counts_as_a_look(run: RunFolder) -> None:
    assert count_evaluation(run, "aaa", 10) == 1
    log = run.path / "evaluations" / "log.jsonl"
    log.write_text(log.read_text()[:20])
    assert count_evaluation(run, "bbb", 5) == 2
    assert count_evaluation(run, "bbb", 5) == 3
    assert len(log.read_text().splitlines()) == 3


def test_only_an_evaluation_of_the_same_cases_is_replaced(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    check_folder(run, out, "aaa")
    (out / RESULTS).write_text(json.dumps({"cases_hash": "aaa"}))
    check_folder(run, out, "aaa")
    with pytest.raises(UserError, match="holds an evaluation of other cases"):
        check_folder(run, out, "bbb")
    (out / RESULTS).write_text("{")
    with pytest.raises(UserError, match="this folder holds something else"):
        check_folder(run, out, "aaa")
    with pytest.raises(UserError, match="this is a file; expected the name of a folder"):
        check_folder(run, out / RESULTS, "aaa")


def test_a_run_in_which_nobody_can_count_is_not_evaluated(tmp_path: Path) -> None:
    (tmp_path / "evaluations").touch()
    with pytest.raises(UserError, match="evaluations: is not a folder"):
        check_folder(RunFolder(tmp_path), tmp_path / "out", "aaa")
