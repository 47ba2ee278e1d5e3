"""Results that were changed after the run wrote them."""

import json
from pathlib import Path

import pytest

from vwmm.config.run_digests import PREDICTIONS_KEY, altered_files, altered_notes, file_digest, text_digest
from vwmm.config.run_folder import RunFolder, write_whole

TABLE = "case,patient,label,predicted,p_a,p_b\nc1,c1,a,b,0.4,0.6\n"
LINE = '{"event": "validation", "epoch": 1, "step": 4, "accuracy": 0.5}\n'


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run."""
    run = RunFolder(tmp_path / "run")
    write_whole(run.predictions, TABLE)
    write_whole(run.metrics, LINE)
    write_whole(run.best / "meta.json", json.dumps({PREDICTIONS_KEY: text_digest(TABLE)}))
    run.write_status("done", files={path.name: file_digest(path) for path in (run.metrics, run.predictions)})
    return run


def test_results_as_they_were_written_are_not_altered(run: RunFolder) -> None:
    assert altered_files(run) == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "predictions_val.csv"])
def test_plausible_change_is_noticed_whether_the_run_is_done_or_not(name: str, run: RunFolder) -> None:
    path = run.path / name
    path.write_text(path.read_text().replace("0.5", "0.9").replace("0.4,0.6", "0.6,0.4"))
    for state in ("done", "running"):
        run.write_status(state, **run.position())
        assert altered_notes(run) == [
            f"{name} was changed after the run wrote it: its numbers are not those of this run."
        ]


def test_lines_that_came_after_the_last_checkpoint_are_no_change_and_missing_ones_are(run: RunFolder) -> None:
    with run.metrics.open("a") as stream:
        stream.write(LINE)
    assert altered_files(run) == []
    run.metrics.write_text(LINE[:-2])
    assert altered_files(run) == ["metrics.jsonl"]


def test_predictions_of_another_checkpoint_are_noticed_in_a_run_that_is_not_done(run: RunFolder) -> None:
    run.write_status("running")
    write_whole(run.best / "meta.json", json.dumps({PREDICTIONS_KEY: text_digest("another")}))
    assert altered_files(run) == ["predictions_val.csv"]


@pytest.mark.parametrize("status", ["", "[]", "{}", '{"files": 1}', '{"files": {"metrics.jsonl": 2}}'])
def test_runs_that_know_no_digests_are_not_blamed(status: str, run: RunFolder) -> None:
    (run.best / "meta.json").unlink()
    run.status.write_text(status)
    assert altered_files(run) == []


def test_what_was_noticed_once_stays_known(run: RunFolder) -> None:
    run.write_status("running", altered=["metrics.jsonl"])
    assert altered_files(run) == ["metrics.jsonl"]
