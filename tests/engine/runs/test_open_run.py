"""Opening a run folder: who may resume it, and how often."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.making import make_case, make_cohort
from vwmm.config.run_folder import RunFolder
from vwmm.data.cohort.split_file import hash_hashes
from vwmm.data.cohort.splits import split_hash, split_table
from vwmm.engine.distributed.watchdog import Failure
from vwmm.engine.runs import open_run
from vwmm.engine.runs.open_run import check_same_cohort
from vwmm.system.errors import UserError

COHORT = make_cohort([make_case(name, images={"ct": Path(f"{name}.nii")}) for name in ("c1", "c2")])
PARTS = {"c1": "train", "c2": "val"}
HASHES = {name: {modality: f"{name}-{modality}" for modality in COHORT.cases[0].images} for name in PARTS}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.split.write_text(split_table(COHORT, PARTS, HASHES))
    return run


def record(run: RunFolder) -> None:
    hashes = {"split_hash": split_hash(COHORT, PARTS), "images_hash": hash_hashes(HASHES)}
    run.environment.write_text(str(hashes).replace("'", '"'))


def test_run_is_resumed_with_its_own_cohort_and_refused_with_another_image(run: RunFolder) -> None:
    check_same_cohort(run, COHORT, PARTS, HASHES)

    changed = HASHES | {"c2": dict.fromkeys(HASHES["c2"], "other")}
    with pytest.raises(UserError, match=r"1 of its cases have changed since .* \(c2\); to start a new run"):
        check_same_cohort(run, COHORT, PARTS, changed)


def test_split_file_that_was_edited_is_written_again_where_the_cohort_is_the_same(run: RunFolder) -> None:
    run.split.write_text("case,split\nc1,val\n")
    with pytest.raises(UserError, match="have changed since"):
        check_same_cohort(run, COHORT, PARTS, HASHES)

    record(run)

    check_same_cohort(run, COHORT, PARTS, HASHES)


def test_starts_without_progress_are_counted_and_the_one_too_many_is_refused_once(run: RunFolder) -> None:
    run.write_status("preempted", "SIGTERM", epoch=0, step=4)
    for _ in range(2):
        open_run._count_start(run, 4, 2)

    with pytest.raises(UserError, match=r"stopped 2 times in a row before it had made one step after step 4"):
        open_run._count_start(run, 4, 2)

    open_run._count_start(run, 4, 2)  # by hand, after having read this
    open_run._count_start(run, 5, 1)  # a step was made


def test_failure_is_noted_in_the_folder_and_not_in_that_of_another_run(run: RunFolder) -> None:
    class Watch:
        owns = True

        def is_ours(self) -> bool:
            return self.owns

    watch: Any = Watch()
    failure = Failure("rank 1 failed: the loss is NaN", "the loss is NaN")
    open_run._note_failure(run, watch, failure)
    assert run.state() == "failed"
    assert "stopped: rank 1 failed: the loss is NaN" in run.log.read_text()

    open_run._note_failure(run, watch, replace(failure, is_invalid=True))
    assert run.state() == "invalid"

    watch.owns = False
    open_run._note_failure(run, watch, failure)
    assert run.state() == "invalid"
